//! The raw `redis` client: one multiplexed connection for all callers, as its documentation advises.

use redis::{AsyncCommands, aio::MultiplexedConnection};

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
    name: "redis",
    package: "redis",
    leaves_out: "the cache: near tier, single flight, fences, versions, log",
};

/// The client.
#[derive(Clone)]
pub struct Raw {
    connection: MultiplexedConnection,
    prefix: String,
}

/// GET, and after a load SET EX.
pub const READ_THROUGH: Candidate = Candidate {
    peer: &PEER,
    usage: "GET, SET EX",
    connect: |place| boxed(async move { Raw::connect(&place).await }),
};

impl Raw {
    /// Connects to Redis.
    ///
    /// # Errors
    /// The server is not there.
    pub async fn connect(place: &Place) -> Result<Self> {
        let connection = redis::Client::open(place.url.as_str())?.get_multiplexed_async_connection().await?;
        Ok(Self { connection, prefix: format!("raw:{}", place.namespace) })
    }

    /// The name of a key in the server.
    fn key(&self, n: usize) -> String {
        format!("{}:{}", self.prefix, key(n))
    }

    /// The user of this number, if it is there.
    pub(crate) async fn find(&self, n: usize) -> Result<Option<User>> {
        let found: Option<Vec<u8>> = self.connection.clone().get(self.key(n)).await?;
        found.map(|bytes| User::decode(&bytes)).transpose()
    }

    /// The user of this number, which is loaded and written if it was not there.
    pub(crate) async fn find_or_load(&self, n: usize, loader: Loader) -> Result<User> {
        if let Some(user) = self.find(n).await? {
            return Ok(user);
        }
        let user = loader.load(n).await?;
        self.set(n, &user).await?;
        Ok(user)
    }

    /// Deletes the user of this number.
    pub(crate) async fn delete(&self, n: usize) -> Result<()> {
        Ok(self.connection.clone().del(self.key(n)).await?)
    }

    /// Writes a user.
    pub(crate) async fn set(&self, n: usize, user: &User) -> Result<()> {
        Ok(self.connection.clone().set_ex(self.key(n), user.encode()?, TTL_SECS).await?)
    }

    async fn find_all(&self, numbers: &[usize]) -> Result<Vec<Option<User>>> {
        let keys: Vec<String> = numbers.iter().map(|n| self.key(*n)).collect();
        let found: Vec<Option<Vec<u8>>> = self.connection.clone().mget(keys).await?;
        found.into_iter().map(|found| found.map(|bytes| User::decode(&bytes)).transpose()).collect()
    }

    async fn set_all(&self, users: impl Iterator<Item = (usize, &User)>) -> Result<()> {
        let mut pipeline = redis::pipe();
        for (n, user) in users {
            pipeline.set_ex(self.key(n), user.encode()?, TTL_SECS).ignore();
        }
        Ok(pipeline.query_async(&mut self.connection.clone()).await?)
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
        Ok(self.find_or_load(n, loader).await?.id)
    }

    async fn invalidate(&self, n: usize) -> Result<()> {
        self.delete(n).await
    }
}

impl Batch for Raw {
    async fn get_many(&self, numbers: &[usize]) -> Result<Vec<u64>> {
        Ok(self.find_all(numbers).await?.into_iter().flatten().map(|user| user.id).collect())
    }

    async fn put_many(&self, numbers: &[usize]) -> Result<()> {
        let users: Vec<User> = numbers.iter().map(|n| User::new(*n)).collect();
        self.set_all(numbers.iter().copied().zip(&users)).await
    }

    async fn get_or_load_many(&self, numbers: &[usize]) -> Result<Vec<u64>> {
        let found = self.find_all(numbers).await?;
        let missing = numbers.iter().zip(&found).filter(|(_, user)| user.is_none());
        let loaded: Vec<(usize, User)> = missing.map(|(n, _)| (*n, User::new(*n))).collect();
        self.set_all(loaded.iter().map(|(n, user)| (*n, user))).await?;
        let mut loaded = loaded.into_iter().map(|(_, user)| user);
        Ok(found.into_iter().filter_map(|user| user.or_else(|| loaded.next())).map(|user| user.id).collect())
    }
}
