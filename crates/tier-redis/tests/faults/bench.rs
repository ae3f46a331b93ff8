//! One tier on a private server, with short names for what the tests do.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use terrace_testbed::unique_name;
use terrace_tier::{Backend, ErrorKind, Level, Result, key::key_digest};
use terrace_tier::{
    Condition, Deadlines, Fence, Namespace, Op, Order, Reply, Role, Tier, TierKey, Timestamp, Token,
};
use terrace_tier_redis::Redis;
use tokio::time::{Instant, sleep};

/// The budget of the calls whose end is under test.
pub(crate) const BUDGET: Duration = Duration::from_millis(50);
/// What a busy machine may add to a budget.
pub(crate) const SLACK: Duration = Duration::from_millis(250);
/// The budget of all others: the machine may be busy with many tests.
const PATIENCE: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(600);

pub(crate) struct Bench {
    pub(crate) handle: Redis,
    pub(crate) space: Namespace,
    pub(crate) tier: Arc<dyn Tier>,
    /// The same with [`BUDGET`].
    pub(crate) hasty: Arc<dyn Tier>,
    url: String,
}

impl Bench {
    pub(crate) fn new(url: &str) -> Self {
        Self::on(url, Level::Fenced)
    }

    pub(crate) fn on(url: &str, level: Level) -> Self {
        let handle = Redis::new(url).unwrap();
        let space = Namespace::new(unique_name("faults"), Role::Cache)
            .with_level(level)
            .with_type(1, 7)
            .with_budget(PATIENCE);
        Self::open(handle, space, url)
    }

    /// The same namespace as another process has it.
    pub(crate) fn other_process(&self) -> Self {
        Self::open(Redis::new(&self.url).unwrap(), self.space.clone(), &self.url)
    }

    /// The same namespace by another way to the server.
    pub(crate) fn open_like(other: &Self, url: &str) -> Self {
        Self::open(Redis::new(url).unwrap(), other.space.clone(), url)
    }

    /// The same namespace for a tenant, in the same process.
    pub(crate) fn tenant(&self, tenant: &str) -> Self {
        let space = self.space.clone().with_tenant(Some(tenant.to_owned()));
        Self::open(self.handle.clone(), space, &self.url)
    }

    fn open(handle: Redis, space: Namespace, url: &str) -> Self {
        let tier = handle.open(&space).unwrap();
        let hasty = handle.open(&space.clone().with_budget(BUDGET)).unwrap();
        Self { handle, space, tier, hasty, url: url.to_owned() }
    }

    /// A connection of the test's own.
    pub(crate) async fn raw(&self) -> MultiplexedConnection {
        raw(&self.url).await
    }

    pub(crate) fn key(&self, text: &str) -> TierKey {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        TierKey { digest: key_digest(&self.space.name, self.space.tenant.as_deref(), &bytes), bytes }
    }

    /// What the server calls a key of plain text.
    pub(crate) fn name(&self, text: &str) -> String {
        format!("terrace:{}:{text}", self.space.name)
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Reply> {
        self.tier.apply(&self.key(key), Op::Get).await
    }

    pub(crate) async fn put(&self, key: &str, body: &str) -> Result<Reply> {
        self.tier.apply(&self.key(key), put(body)).await
    }

    /// A read that must end with its budget.
    pub(crate) async fn hasty_get(&self, key: &str) -> Result<Reply> {
        in_time(self.hasty.apply(&self.key(key), Op::Get)).await
    }

    /// A write that must end with its budget.
    pub(crate) async fn hasty_put(&self, key: &str, body: &str) -> Result<Reply> {
        in_time(self.hasty.apply(&self.key(key), put(body))).await
    }

    pub(crate) async fn lease(&self, key: &str) -> Result<Fence> {
        match self.tier.apply(&self.key(key), lease()).await? {
            Reply::Miss(fence) => Ok(fence),
            reply => panic!("a lease must be granted: {reply:?}"),
        }
    }

    pub(crate) async fn fill(&self, key: &str, fence: Fence, body: &str) -> Result<Reply> {
        self.tier.apply(&self.key(key), fill(fence, body)).await
    }

    pub(crate) async fn reads(&self, key: &str, body: &str) {
        assert_eq!(body_of(&self.get(key).await.unwrap()), Some(body.as_bytes()), "{key}");
    }

    pub(crate) async fn misses(&self, key: &str) {
        assert_eq!(self.get(key).await.unwrap(), Reply::Miss(Fence::default()), "{key}");
    }

    /// Asks until the tier answers again; panics after `limit`. Returns how long it took.
    pub(crate) async fn recovers_within(&self, limit: Duration) -> Duration {
        let start = Instant::now();
        loop {
            match self.hasty_get("is it back?").await {
                Ok(_) => return start.elapsed(),
                Err(error) => assert!(start.elapsed() < limit, "still away after {limit:?}: {error}"),
            }
            sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) fn put(body: &str) -> Op {
    let order = Order::Author(Condition::Always);
    Op::Put {
        order,
        deadlines: long(),
        body: Some(Bytes::copy_from_slice(body.as_bytes())),
        tombstone_ttl: LONG,
    }
}

pub(crate) fn lease() -> Op {
    lease_by(Token::random())
}

pub(crate) fn lease_by(token: Token) -> Op {
    Op::Lease { token, ttl: LONG, over: None, replaces: Token::NONE }
}

pub(crate) fn fill(fence: Fence, body: &str) -> Op {
    let body = Some(Bytes::copy_from_slice(body.as_bytes()));
    Op::Fill { fence, version: fence.version, deadlines: long(), body }
}

pub(crate) fn long() -> Deadlines {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Deadlines::ttl(Timestamp::from_millis(since.as_millis().try_into().unwrap()), LONG)
}

pub(crate) fn body_of(reply: &Reply) -> Option<&[u8]> {
    match reply {
        Reply::Hit(stored) => stored.body.as_deref(),
        _ => None,
    }
}

pub(crate) fn kind_of<T: std::fmt::Debug>(result: Result<T>) -> ErrorKind {
    result.unwrap_err().kind()
}

pub(crate) async fn raw(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// Runs a call and checks that it did not outlast its budget.
async fn in_time<T>(call: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let answer = call.await;
    assert!(start.elapsed() <= BUDGET + SLACK, "a call took {:?}", start.elapsed());
    answer
}
