//! An in-memory tier for tests: of tiers, of caches, of applications.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use terrace_core::{
    Backend, Cell, Change, Claim, Clock, Epoch, Error, ErrorKind, Follower, InvalidationLog, Level, Moment,
    Op, Publish, Reply, Result, Role, Space, Spaces, Tier, TierKey, Timestamp, Token, Version, Waits,
    transition,
    waiting::{Awaited, Ended, Hold},
};
use tokio::sync::watch;

use crate::{
    FakeLog,
    calls::{Call, Calls, Counters},
    fake_log, fake_marks,
    process::{Process, Signs},
};

/// A server that is a map in this process: a cache tier and a store, as exact as
/// [`transition`], that can be taken down, slowed, stopped and robbed of its data.
///
/// A clone is the same handle; [`another_handle`](Fake::another_handle) is what a second process
/// would hold. It takes values of any size and evicts nothing
/// unless a test asks for it.
///
/// # Example
/// ```
/// use terrace_conformance::Fake;
///
/// let redis = Fake::named("redis");
/// redis.set_down(true); // every call fails at once
/// redis.set_down(false);
/// redis.evict("users", b"alice"); // one key is forgotten
/// redis.lose_everything(); // all of them are
/// assert_eq!(redis.calls().total(), 0); // the trips that a cache made
/// ```
#[derive(Clone)]
pub struct Fake {
    server: Arc<Server>,
    spaces: Arc<Spaces>,
    process: Process,
}

/// How the fake's parts work; tests of the suite put broken ones in.
pub(crate) struct Hooks {
    pub(crate) transition: fn(Option<&Cell>, &Op, &Moment) -> (Change, Reply),
    pub(crate) address: fn(&Space, &TierKey) -> Address,
    pub(crate) clear: fn(&mut Data, &Space),
    pub(crate) batch: fn(Vec<Result<Reply>>) -> Vec<Result<Reply>>,
    pub(crate) told: fn(&Op, &Reply) -> Option<Option<Version>>,
    /// Whether a publication whose mark is not as expected is refused.
    pub(crate) refuses: bool,
}

/// Where a cell is: namespace, tenant, key.
pub(crate) type Address = (String, Option<String>, Bytes);

/// What a [`Fake`] kept at one moment; from [`Fake::save`].
#[derive(Clone)]
pub struct Saved(Data);

impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saved").field("cells", &self.0.cells.len()).finish()
    }
}

/// What the server keeps.
#[derive(Clone, Default)]
pub(crate) struct Data {
    pub(crate) cells: HashMap<Address, Cell>,
    pub(crate) epochs: HashMap<(String, Option<String>), Epoch>,
}

pub(crate) struct Server {
    name: String,
    pub(crate) clock: Clock,
    pub(crate) hooks: Hooks,
    pub(crate) data: Mutex<Data>,
    pub(crate) signs: Mutex<Signs>,
    /// The terms that all handles agreed on in `ready`, schema by schema.
    agreed: Spaces,
    /// The newest schema of each namespace: whoever has an older one is refused.
    schemas: Mutex<HashMap<String, u32>>,
    down: AtomicBool,
    latency: Mutex<Duration>,
    hanging: watch::Sender<bool>,
    pub(crate) counters: Counters,
    pub(crate) log: FakeLog,
    logged: AtomicBool,
}

impl Default for Fake {
    fn default() -> Self {
        Self::named("fake")
    }
}

impl Fake {
    /// An empty one called `fake`, on the host's clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty one of this name, on the host's clock.
    pub fn named(name: &str) -> Self {
        Self::with_clock(name, Clock::system())
    }

    /// An empty one of this name on this clock.
    pub fn with_clock(name: &str, clock: Clock) -> Self {
        Self::with_hooks(name, clock, Hooks::default())
    }

    pub(crate) fn with_hooks(name: &str, clock: Clock, hooks: Hooks) -> Self {
        let server = Server {
            name: name.to_owned(),
            clock,
            hooks,
            data: Mutex::default(),
            signs: Mutex::default(),
            agreed: Spaces::default(),
            schemas: Mutex::default(),
            down: AtomicBool::new(false),
            latency: Mutex::default(),
            hanging: watch::Sender::new(false),
            counters: Counters::default(),
            log: FakeLog::default(),
            logged: AtomicBool::new(false),
        };
        let server = Arc::new(server);
        Self { process: Process::new(&server), server, spaces: Arc::default() }
    }

    /// A handle on the same data, as another process has it.
    #[must_use]
    pub fn another_handle(&self) -> Self {
        let server = Arc::clone(&self.server);
        Self { process: Process::new(&server), server, spaces: Arc::default() }
    }

    /// While stopped, no call of this handle is carried out, as of a process under SIGSTOP; other
    /// handles go on.
    pub fn set_stopped(&self, stopped: bool) {
        self.process.stopped.send_replace(stopped);
    }

    /// From now on it has an invalidation log: those who open its tiers may follow it.
    #[must_use]
    pub fn with_log(self) -> Self {
        self.server.logged.store(true, Ordering::SeqCst);
        self
    }

    /// Moves the mark of a namespace as a relay does that has found nothing to drop: what is here is
    /// proven as of the move before. Says the new version.
    ///
    /// # Panics
    /// Where it has no log.
    pub fn move_mark(&self, namespace: &str) -> Version {
        fake_marks::move_mark(&self.server, namespace)
    }

    /// The log, to be stalled, heard and lost by a test.
    pub fn log(&self) -> &FakeLog {
        &self.server.log
    }

    /// While down, every call fails at once with [`ErrorKind::Unavailable`]; nothing is lost.
    pub fn set_down(&self, down: bool) {
        self.server.down.store(down, Ordering::SeqCst);
    }

    /// How long every call takes before it is carried out.
    pub fn set_latency(&self, latency: Duration) {
        *self.server.latency.lock() = latency;
    }

    /// While hanging, no call is carried out or answered, as under SIGSTOP; those that wait go on
    /// when it ends.
    pub fn set_hanging(&self, hanging: bool) {
        self.server.hanging.send_replace(hanging);
    }

    /// Forgets one key of a namespace, in all tenants; says whether it was there. The key is as
    /// the cache encodes it: text as UTF-8, integers as 8 bytes big-endian.
    pub fn evict(&self, namespace: &str, key: &[u8]) -> bool {
        let mut data = self.server.data.lock();
        let before = data.cells.len();
        data.cells.retain(|(space, _, bytes), _| space != namespace || bytes != key);
        data.cells.len() < before
    }

    /// Forgets everything, records and epochs too, as FLUSHALL or an empty disk would.
    pub fn lose_everything(&self) {
        *self.server.data.lock() = Data::default();
    }

    /// What the server keeps now, to [`go_back`](Fake::go_back) to.
    pub fn save(&self) -> Saved {
        Saved(self.server.data.lock().clone())
    }

    /// Goes back to what was saved, as a restart from an old dump does.
    pub fn go_back(&self, saved: &Saved) {
        *self.server.data.lock() = saved.0.clone();
    }

    /// [`go_back`](Self::go_back), but for one namespace.
    pub(crate) fn go_back_but_for(&self, saved: &Saved, namespace: &str) {
        let mut data = self.server.data.lock();
        let Data { cells, epochs } = std::mem::replace(&mut *data, saved.0.clone());
        data.cells.extend(cells.into_iter().filter(|((of, ..), _)| of == namespace));
        data.epochs.extend(epochs.into_iter().filter(|((of, _), _)| of == namespace));
    }

    /// Whether the cell there is live and holds this token.
    pub(crate) fn is_leased(&self, place: &Address, token: Token) -> bool {
        self.server.is_leased(&self.server.data.lock(), place, token)
    }

    /// All copies are dead from now on: they are of an epoch that is over.
    pub(crate) fn renew_epochs(&self) {
        self.server.data.lock().epochs.clear();
    }

    /// The calls that were carried out since the start.
    pub fn calls(&self) -> Calls {
        self.server.counters.read()
    }

    /// The fake's own clock.
    pub fn now(&self) -> Timestamp {
        self.server.clock.now()
    }
}

impl fmt::Debug for Fake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cells = self.server.data.lock().cells.len();
        f.debug_struct("Fake").field("name", &self.server.name).field("cells", &cells).finish()
    }
}

impl Backend for Fake {
    fn name(&self) -> &str {
        &self.server.name
    }

    fn open(&self, space: &Space) -> Result<Arc<dyn Tier>> {
        let claim = self.spaces.claim(space)?;
        Ok(Arc::new(FakeTier {
            server: Arc::clone(&self.server),
            space: space.clone(),
            process: self.process.clone(),
            claim,
            agreed: Mutex::default(),
            origin: AtomicU64::new(0),
        }))
    }
}

pub(crate) struct FakeTier {
    pub(crate) server: Arc<Server>,
    pub(crate) space: Space,
    pub(crate) process: Process,
    claim: Claim,
    agreed: Mutex<Option<Claim>>,
    /// The follower that its writes come from; zero for none.
    origin: AtomicU64,
}

impl fmt::Debug for FakeTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("FakeTier");
        out.field("name", &self.server.name).field("space", &self.space).field("claim", &self.claim);
        out.finish()
    }
}

#[async_trait]
impl Tier for FakeTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        self.process.trip(&self.server).await?;
        self.server.counters.add(Call::of(&op));
        self.server.counters.trip();
        let reply = self.step(key, &op);
        self.server.log.deliver();
        Ok(reply)
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        if let Err(error) = self.process.trip(&self.server).await {
            return batch.iter().map(|_| Err(error.clone())).collect();
        }
        self.server.counters.trip();
        let answer = |(key, op): &(TierKey, Op)| {
            self.server.counters.add(Call::of(op));
            Ok(self.step(key, op))
        };
        let replies = batch.iter().map(answer).collect();
        self.server.log.deliver();
        (self.server.hooks.batch)(replies)
    }

    async fn clear(&self) -> Result<()> {
        self.process.trip(&self.server).await?;
        self.server.counters.add(Call::Clear);
        self.server.counters.trip();
        if self.space.role == Role::Cache {
            let mut data = self.server.data.lock();
            (self.server.hooks.clear)(&mut data, &self.space);
            if self.log().is_some() {
                self.server.log.append_clear(self.origin.load(Ordering::SeqCst), &self.space);
            }
            drop(data);
            self.server.log.deliver();
        }
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        self.process.trip(&self.server).await?;
        self.server.counters.add(Call::Ping);
        self.server.counters.trip();
        Ok(())
    }

    async fn ready(&self) -> Result<()> {
        self.ping().await?;
        let claim = self.server.agree(&self.space).map_err(|error| error.at_tier(&self.server.name))?;
        *self.agreed.lock() = Some(claim);
        Ok(())
    }

    fn log(&self) -> Option<&dyn InvalidationLog> {
        if self.server.has_log(&self.space) { Some(self) } else { None }
    }

    fn publish(&self) -> Option<&dyn Publish> {
        let keeps_marks = self.space.role == Role::Cache && self.server.has_log(&self.space);
        if keeps_marks { Some(self) } else { None }
    }

    fn waits(&self) -> Option<&dyn Waits> {
        Some(self)
    }
}

impl Waits for FakeTier {
    fn hold(&self, key: &TierKey, token: Token) -> Hold {
        self.process.inbox.hold(Awaited { place: self.place(key), token })
    }

    fn wait(&self, key: &TierKey, token: Token) -> BoxFuture<'static, Result<Ended>> {
        self.process.inbox.wait(Awaited { place: self.place(key), token })
    }
}

impl InvalidationLog for FakeTier {
    fn follow(&self, namespace: &str, follower: Weak<dyn Follower>) {
        self.origin.store(self.server.log.follow(namespace, follower), Ordering::SeqCst);
    }
}

impl FakeTier {
    fn place(&self, key: &TierKey) -> Address {
        (self.server.hooks.address)(&self.space, key)
    }

    fn step(&self, key: &TierKey, op: &Op) -> Reply {
        let mut data = self.server.data.lock();
        let origin = self.origin.load(Ordering::SeqCst);
        let reply = self.server.step(&mut data, &self.space, origin, key, op);
        match reply {
            Reply::Hit(stored) => Reply::Hit(self.server.certify(&mut data, &self.space, stored)),
            reply => reply,
        }
    }
}

impl Server {
    pub(crate) fn has_log(&self, space: &Space) -> bool {
        self.logged.load(Ordering::SeqCst) && space.level != Level::Ttl
    }

    /// Whether the cell there is live and holds this token.
    pub(crate) fn is_leased(&self, data: &Data, place: &Address, token: Token) -> bool {
        let (namespace, tenant, _) = place;
        let epoch = data.epochs.get(&(namespace.clone(), tenant.clone()));
        data.cells.get(place).is_some_and(|cell| {
            epoch == Some(&cell.epoch) && !cell.deadlines.is_expired(self.clock.now()) && cell.token == token
        })
    }

    /// One operation on one key, and its entry in the log.
    pub(crate) fn step(&self, data: &mut Data, space: &Space, origin: u64, key: &TierKey, op: &Op) -> Reply {
        let address = (self.hooks.address)(space, key);
        let epoch = match space.role {
            Role::Cache => *data.epochs.entry(scope(space)).or_insert_with(Epoch::random),
            Role::Store => Epoch::default(),
        };
        let clock = &self.clock;
        let moment = Moment { role: space.role, now: clock.now(), micros: clock.micros(), epoch };
        let (change, reply) = (self.hooks.transition)(data.cells.get(&address), op, &moment);
        if let Change::Write(cell) = change {
            data.cells.insert(address, cell);
        }
        if self.has_log(space)
            && let Some(version) = (self.hooks.told)(op, &reply)
        {
            self.log.append(origin, space, key, version);
        }
        reply
    }

    /// Agrees on the terms of a namespace: a higher schema takes it over.
    fn agree(&self, space: &Space) -> Result<Claim> {
        let mut schemas = self.schemas.lock();
        let newest = schemas.entry(space.namespace.clone()).or_insert(space.schema);
        if space.schema < *newest {
            let message = format!("the namespace `{}` has schema {newest} by now", space.namespace);
            return Err(Error::new(ErrorKind::NamespaceInUse, message));
        }
        *newest = space.schema;
        let namespace = format!("{}, schema {newest}", space.namespace);
        self.agreed.claim(&Space { namespace, ..space.clone() })
    }

    /// What a call goes through before it is carried out.
    pub(crate) async fn trip(&self) -> Result<()> {
        let latency = *self.latency.lock();
        if !latency.is_zero() {
            tokio::time::sleep(latency).await;
        }
        if *self.hanging.borrow() {
            // The sender lives as long as this call, so the wait ends with the hanging alone.
            let _ = self.hanging.subscribe().wait_for(|hanging| !hanging).await;
        }
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "the fake was set down").at_tier(&self.name));
        }
        Ok(())
    }
}

impl Hooks {
    /// What the contract says.
    pub(crate) const TRUE: Self = Self {
        transition,
        address: |space, key| (space.namespace.clone(), space.tenant.clone(), key.bytes.clone()),
        clear: |data, space| {
            data.epochs.remove(&scope(space));
        },
        batch: |replies| replies,
        told: fake_log::told_version,
        refuses: true,
    };
}

impl Default for Hooks {
    fn default() -> Self {
        Self::TRUE
    }
}

fn scope(space: &Space) -> (String, Option<String>) {
    (space.namespace.clone(), space.tenant.clone())
}
