//! The Redis client fred: one client for all callers.

use fred::prelude::{Builder, Client, ClientLike, Config, Expiration, KeysInterface};

use crate::{
    Result,
    data::{TTL_SECS, User, key},
    peer::Peer,
    work::{
        batch::Batch,
        loaders::Loader,
        read_through::{Candidate, Place, ReadThrough, boxed},
        remote::Remote,
    },
};

/// What is said of it.
pub const PEER: Peer = Peer {
    name: "fred",
    package: "fred",
    leaves_out: "the cache: near tier, single flight, fences, versions, log",
};

/// The client.
#[derive(Clone)]
pub struct Raw {
    client: Client,
    prefix: String,
}

/// GET, and after a load SET EX.
pub const READ_THROUGH: Candidate = Candidate {
    peer: &PEER,
    usage: "fred's GET, SET EX",
    connect: |place| boxed(async move { Raw::connect(&place).await }),
};

impl Raw {
    /// Connects to Redis.
    ///
    /// # Errors
    /// The server is not there.
    pub async fn connect(place: &Place) -> Result<Self> {
        let client = Builder::from_config(Config::from_url(&place.url)?).build()?;
        client.init().await?;
        Ok(Self { client, prefix: format!("fred:{}", place.namespace) })
    }

    fn key(&self, n: usize) -> String {
        format!("{}:{}", self.prefix, key(n))
    }

    async fn find(&self, n: usize) -> Result<Option<User>> {
        let found: Option<Vec<u8>> = self.client.get(self.key(n)).await?;
        found.map(|bytes| User::decode(&bytes)).transpose()
    }

    async fn set(&self, n: usize, user: &User) -> Result<()> {
        let life = Some(Expiration::EX(TTL_SECS.cast_signed()));
        Ok(self.client.set(self.key(n), user.encode()?.as_slice(), life, None, false).await?)
    }

    async fn find_all(&self, numbers: &[usize]) -> Result<Vec<Option<User>>> {
        let keys: Vec<String> = numbers.iter().map(|n| self.key(*n)).collect();
        let found: Vec<Option<Vec<u8>>> = self.client.mget(keys).await?;
        found.into_iter().map(|found| found.map(|bytes| User::decode(&bytes)).transpose()).collect()
    }

    async fn set_all(&self, users: Vec<User>) -> Result<()> {
        let pipeline = self.client.pipeline();
        for user in users {
            let (key, life) =
                (self.key(usize::try_from(user.id)?), Some(Expiration::EX(TTL_SECS.cast_signed())));
            pipeline.set::<(), _, _>(key, user.encode()?.as_slice(), life, None, false).await?;
        }
        Ok(pipeline.last::<()>().await?)
    }
}

impl Remote for Raw {
    async fn get(&self, n: usize) -> Result<u64> {
        self.find(n).await?.map(|user| user.id).ok_or_else(|| "a key is missing".into())
    }

    async fn put(&self, n: usize) -> Result<()> {
        self.set(n, &User::new(n)).await
    }
}

impl ReadThrough for Raw {
    async fn get_or_load(&self, n: usize, loader: Loader) -> Result<u64> {
        if let Some(user) = self.find(n).await? {
            return Ok(user.id);
        }
        let user = loader.load(n).await?;
        self.set(n, &user).await?;
        Ok(user.id)
    }

    async fn invalidate(&self, n: usize) -> Result<()> {
        Ok(self.client.del(self.key(n)).await?)
    }
}

impl Batch for Raw {
    async fn get_many(&self, numbers: &[usize]) -> Result<Vec<u64>> {
        Ok(self.find_all(numbers).await?.into_iter().flatten().map(|user| user.id).collect())
    }

    async fn put_many(&self, numbers: &[usize]) -> Result<()> {
        self.set_all(numbers.iter().map(|n| User::new(*n)).collect()).await
    }

    async fn get_or_load_many(&self, numbers: &[usize]) -> Result<Vec<u64>> {
        let found = self.find_all(numbers).await?;
        let missing = numbers.iter().zip(&found).filter(|(_, user)| user.is_none());
        self.set_all(missing.map(|(n, _)| User::new(*n)).collect()).await?;
        let ids = numbers.iter().zip(found).map(|(n, user)| user.map_or(*n as u64, |user| user.id));
        Ok(ids.collect())
    }
}
