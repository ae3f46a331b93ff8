//! Makes many entries unreachable at once, for all processes.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use terrace::{Cache, Forever, Lease, Level, Result, config::Stack};

/// How long a process may use a generation without a look at the shared tiers.
const NEAR_TTL: Duration = Duration::from_secs(60);

/// A generation for each name, which is a part of the keys of all entries of that name.
///
/// A generation is made when it is first asked for, and again when the cache has forgotten it or it was retired. It is
/// never made twice: it holds the time and a random number. So an entry of a former generation can never be read again,
/// also one whose load began before. That a generation is forgotten costs hits alone.
pub(crate) struct Generations(Cache<(String, String), u64>);

impl Generations {
    /// Generations that the caches of `namespace` use.
    pub(crate) fn new(stack: &Stack, namespace: &str) -> Result<Self> {
        let builder = stack.builder(format!("{namespace}-generations")).level(Level::Fenced);
        Ok(Self(builder.expire(Forever).near_ttl(NEAR_TTL).stampede(Lease).build()?))
    }

    /// The present generation of a name within a scope, such as a tenant.
    pub(crate) async fn of(&self, scope: &str, name: &str) -> Result<u64> {
        let made = || async { Ok::<_, std::convert::Infallible>(new_generation()) };
        Ok(*self.0.get_or_load(&(scope.to_owned(), name.to_owned()), made).await?)
    }

    /// Begins a new generation.
    pub(crate) async fn retire(&self, scope: &str, name: &str) -> Result<()> {
        self.0.invalidate(&(scope.to_owned(), name.to_owned())).await.map(drop)
    }

    /// Waits until every tier answers.
    pub(crate) async fn ready(&self) -> Result<()> {
        self.0.ready().await.map(drop)
    }

    pub(crate) async fn close(&self) {
        self.0.close().await;
    }
}

/// The time in microseconds in the upper bits, and chance in the lowest twelve.
fn new_generation() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    u64::try_from(now).unwrap_or(0) << 12 | fastrand::u64(..4096)
}
