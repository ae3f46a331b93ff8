//! hitbox: its moka backend composed with its Redis backend, functions with `#[cached]`, bincode, and the broadcast
//! manager that it recommends against stampedes.

use std::time::Duration;

use hitbox::{
    CacheContext, CacheKey, CacheValue, Extractor,
    backend::{Backend, CacheBackend},
    concurrency::BroadcastConcurrencyManager,
    offload::OffloadManager,
    policy::{ConcurrencyLimit, PolicyConfig},
};
use hitbox_backend::{
    BackendError, CompositionBackend,
    composition::{Compose, policy::RefillPolicy},
    format::BincodeFormat,
};
use hitbox_fn::{Arg, Args, Cache, CacheableResponse, FnExtractor, Skipped, cached};
use hitbox_moka::MokaBackend;
use hitbox_redis::{ConnectionMode, RedisBackend};
use serde::{Deserialize, Serialize};

use super::{LoadError, loaded};
use crate::{
    Result,
    data::{KEYS, Page, TTL_SECS, User, key},
    peer::Peer,
    work::{
        loaders::Loader,
        near::Near,
        read_through::{Candidate, Place, ReadThrough, boxed},
        remote::Remote,
    },
};

/// What is said of it.
pub const PEER: Peer = Peer {
    name: "hitbox",
    package: "hitbox",
    leaves_out: "fences, versions, log, single flight among processes; a cancelled leader leaves its followers",
};

type Memory = MokaBackend<BincodeFormat>;
type Layers = CompositionBackend<Memory, RedisBackend, OffloadManager>;
type Loaded = Result<CachedUser, LoadError>;

/// A page that hitbox can keep.
#[derive(Clone, Debug, Serialize, Deserialize, CacheableResponse)]
pub struct CachedPage {
    page: Page,
}

/// A user that hitbox can keep.
#[derive(Clone, Debug, Serialize, Deserialize, CacheableResponse)]
pub struct CachedUser {
    user: User,
}

/// A backend, whose keys are read and written one by one.
pub struct Plain<B>(B);

/// A backend behind the function that loads users.
#[derive(Clone)]
pub struct Layered(Cache<Layers, BroadcastConcurrencyManager<Loaded>>);

#[cached(prefix = "user", skip(loader))]
async fn load_user(n: u64, loader: Loader) -> Result<CachedUser, LoadError> {
    Ok(CachedUser { user: loaded(loader, n as usize).await? })
}

fn memory(entries: usize) -> Memory {
    MokaBackend::builder().max_entries(entries as u64).value_format(BincodeFormat).build()
}

fn redis(place: &Place) -> Result<RedisBackend> {
    Ok(RedisBackend::builder().connection(ConnectionMode::single(place.url.as_str())).build()?)
}

fn expires() -> Option<chrono::DateTime<chrono::Utc>> {
    Some(chrono::Utc::now() + Duration::from_secs(TTL_SECS))
}

/// hitbox's errors cannot go from thread to thread.
fn text(error: BackendError) -> String {
    error.to_string()
}

/// Its moka backend of so many entries alone.
#[must_use]
pub fn local(entries: usize) -> Plain<Memory> {
    Plain(memory(entries))
}

impl Near for Plain<Memory> {
    async fn get(&self, key: &str) -> Option<u64> {
        let mut context = CacheContext::default().boxed();
        let key = CacheKey::from_str("page", key);
        let found = self.0.get::<CachedPage>(&key, &mut context).await.ok().flatten();
        found.map(|value| value.data().page.number)
    }

    async fn put(&self, key: &str, page: Page) -> Result<()> {
        let mut context = CacheContext::default().boxed();
        let value = CacheValue::new(CachedPage { page }, expires(), None);
        Ok(self
            .0
            .set::<CachedPage>(&CacheKey::from_str("page", key), &value, &mut context)
            .await
            .map_err(text)?)
    }
}

/// Its Redis backend alone. All callers share it, since each clone opens connections of its own.
///
/// # Errors
/// The URL is wrong.
pub fn redis_alone(place: &Place) -> Result<std::sync::Arc<Plain<RedisBackend>>> {
    Ok(std::sync::Arc::new(Plain(redis(place)?)))
}

impl Remote for std::sync::Arc<Plain<RedisBackend>> {
    async fn get(&self, n: usize) -> Result<u64> {
        let mut context = CacheContext::default().boxed();
        let key = CacheKey::from_str("user", &key(n));
        let found = self.0.get::<CachedUser>(&key, &mut context).await.map_err(text)?;
        found.map(|value| value.data().user.id).ok_or_else(|| "a key is missing".into())
    }

    async fn put(&self, n: usize) -> Result<()> {
        let mut context = CacheContext::default().boxed();
        let value = CacheValue::new(CachedUser { user: User::new(n) }, expires(), None);
        let key = CacheKey::from_str("user", &key(n));
        Ok(self.0.set::<CachedUser>(&key, &value, &mut context).await.map_err(text)?)
    }
}

/// Reads through moka and Redis.
pub const READ_THROUGH: Candidate = Candidate {
    peer: &PEER,
    usage: "#[cached], broadcast, moka + redis, bincode",
    connect: |place| boxed(async move { Layered::connect(&place) }),
};

impl Layered {
    /// moka before Redis. The connection opens with the first call.
    ///
    /// # Errors
    /// The URL is wrong.
    pub fn connect(place: &Place) -> Result<Self> {
        let layers = memory(KEYS).compose(redis(place)?, OffloadManager::with_defaults());
        let policy = PolicyConfig::builder().ttl(Duration::from_secs(TTL_SECS));
        let limit = ConcurrencyLimit::new(1).ok_or("one is a limit")?;
        let cache = Cache::builder().backend(layers.refill(RefillPolicy::Always));
        let cache = cache.policy(policy.concurrency(limit).build());
        Ok(Self(cache.concurrency_manager(BroadcastConcurrencyManager::new()).build()))
    }
}

impl ReadThrough for Layered {
    async fn get_or_load(&self, n: usize, loader: Loader) -> Result<u64> {
        let found: Loaded = load_user(n as u64, loader).cache(&self.0).await;
        Ok(found?.user.id)
    }

    async fn invalidate(&self, n: usize) -> Result<()> {
        let extractor = FnExtractor::<Args<(Arg<u64>, Skipped<()>)>>::new("user");
        let arguments = Args((Arg::new("n", n as u64), Skipped::new(())));
        let (_, key) = extractor.get(arguments).await.into_cache_key();
        self.0.backend().remove(&key).await.map_err(text)?;
        Ok(())
    }
}
