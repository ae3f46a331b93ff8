//! A tier on a server of its own, with short methods for the operations of the tests.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use terrace_testbed::unique_name;
use terrace_tier::{
    Backend, Condition, Deadlines, ErrorKind, Fence, Level, Namespace, Op, Order, Reply, Result, Role, Tier,
    TierKey, Timestamp, Token, key_digest,
};
use terrace_tier_redis::Redis;
use tokio::time::{Instant, sleep};

/// The budget of the calls that must end in time.
pub(crate) const BUDGET: Duration = Duration::from_millis(50);
/// The time that a busy machine may add to a budget.
pub(crate) const SLACK: Duration = Duration::from_millis(250);
/// The budget of all other calls: the machine may be busy with many tests.
const LONG_BUDGET: Duration = Duration::from_secs(20);
const TTL: Duration = Duration::from_secs(600);

pub(crate) struct Bench {
    pub(crate) handle: Redis,
    pub(crate) namespace: Namespace,
    pub(crate) tier: Arc<dyn Tier>,
    /// The same namespace with the short [`BUDGET`].
    pub(crate) short_budget: Arc<dyn Tier>,
    url: String,
}

impl Bench {
    pub(crate) fn new(url: &str) -> Self {
        Self::on(url, Level::Fenced)
    }

    pub(crate) fn on(url: &str, level: Level) -> Self {
        let handle = Redis::new(url).unwrap();
        let namespace = Namespace::new(unique_name("faults"), Role::Cache)
            .with_level(level)
            .with_type(1, 7)
            .with_budget(LONG_BUDGET);
        Self::open(handle, namespace, url)
    }

    /// The same namespace, opened as by another process.
    pub(crate) fn other_process(&self) -> Self {
        Self::open(Redis::new(&self.url).unwrap(), self.namespace.clone(), &self.url)
    }

    /// The namespace of `other`, opened through another URL of the same server.
    pub(crate) fn open_like(other: &Self, url: &str) -> Self {
        Self::open(Redis::new(url).unwrap(), other.namespace.clone(), url)
    }

    /// The same namespace for a tenant, opened through the same handle.
    pub(crate) fn tenant(&self, tenant: &str) -> Self {
        let namespace = self.namespace.clone().with_tenant(Some(tenant.to_owned()));
        Self::open(self.handle.clone(), namespace, &self.url)
    }

    /// A tier through a handle of its own; `url` is for the test's own commands.
    pub(crate) fn through(handle: Redis, url: &str) -> Self {
        let namespace =
            Namespace::new(unique_name("faults"), Role::Cache).with_type(1, 7).with_budget(LONG_BUDGET);
        Self::open(handle, namespace, url)
    }

    fn open(handle: Redis, namespace: Namespace, url: &str) -> Self {
        let tier = handle.open(&namespace).unwrap();
        let short_budget = handle.open(&namespace.clone().with_budget(BUDGET)).unwrap();
        Self { handle, namespace, tier, short_budget, url: url.to_owned() }
    }

    /// A connection for the test's own commands.
    pub(crate) async fn raw(&self) -> MultiplexedConnection {
        raw(&self.url).await
    }

    pub(crate) fn key(&self, text: &str) -> TierKey {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        TierKey { digest: key_digest(&self.namespace.name, self.namespace.tenant.as_deref(), &bytes), bytes }
    }

    /// The Redis key of a cell whose key is plain text.
    pub(crate) fn cell_name(&self, text: &str) -> String {
        format!("terrace:{}:{text}", self.namespace.name)
    }

    pub(crate) async fn get(&self, key: &str) -> Result<Reply> {
        self.tier.apply(&self.key(key), Op::Get).await
    }

    pub(crate) async fn put(&self, key: &str, body: &str) -> Result<Reply> {
        self.tier.apply(&self.key(key), put(body)).await
    }

    /// Appends so many entries to the log: puts that do not share a call do not share an entry.
    pub(crate) async fn append_entries(&self, number: usize) {
        let puts = async |first: usize| {
            for at in (first..number).step_by(2) {
                self.put(&(at % 400).to_string(), "value").await.unwrap();
            }
        };
        tokio::join!(puts(0), puts(1));
    }

    /// A read that must end within the short budget.
    pub(crate) async fn get_in_budget(&self, key: &str) -> Result<Reply> {
        in_time(self.short_budget.apply(&self.key(key), Op::Get)).await
    }

    /// A write that must end within the short budget.
    pub(crate) async fn put_in_budget(&self, key: &str, body: &str) -> Result<Reply> {
        in_time(self.short_budget.apply(&self.key(key), put(body))).await
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

    /// Reads until the tier answers again, and returns the time that it took. Panics after `limit`.
    pub(crate) async fn recovers_within(&self, limit: Duration) -> Duration {
        let start = Instant::now();
        loop {
            match self.get_in_budget("is it back?").await {
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
        tombstone_ttl: TTL,
    }
}

pub(crate) fn lease() -> Op {
    lease_by(Token::random())
}

pub(crate) fn lease_by(token: Token) -> Op {
    Op::Lease { token, ttl: TTL, over: None, replaces: Token::NONE }
}

pub(crate) fn fill(fence: Fence, body: &str) -> Op {
    let body = Some(Bytes::copy_from_slice(body.as_bytes()));
    Op::Fill { fence, version: fence.version, deadlines: long(), body }
}

pub(crate) fn long() -> Deadlines {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Deadlines::ttl(Timestamp::from_millis(since.as_millis().try_into().unwrap()), TTL)
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

/// The kind of an entry with each of its keys; a clear has one without bytes. The keys come after kind, number and
/// origin, and namespace and tenant with their lengths. Each has a version and a length.
pub(crate) fn keys_in(entry: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let length = |at: usize| usize::from(u16::from_be_bytes([entry[at], entry[at + 1]]));
    let tenant = 19 + length(17);
    let mut rest = match length(tenant) {
        0xffff => &entry[tenant + 2..],
        bytes => &entry[tenant + 2 + bytes..],
    };
    if rest.is_empty() {
        return vec![(entry[0], Vec::new())];
    }
    let mut keys = Vec::new();
    while !rest.is_empty() {
        let end = 12 + u32::from_be_bytes(rest[8..12].try_into().unwrap()) as usize;
        keys.push((entry[0], rest[12..end].to_vec()));
        rest = &rest[end..];
    }
    keys
}

pub(crate) async fn raw(url: &str) -> MultiplexedConnection {
    redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.unwrap()
}

/// Runs a call and checks that it ends within the short budget.
async fn in_time<T>(call: impl Future<Output = T>) -> T {
    let start = Instant::now();
    let answer = call.await;
    assert!(start.elapsed() <= BUDGET + SLACK, "a call took {:?}", start.elapsed());
    answer
}
