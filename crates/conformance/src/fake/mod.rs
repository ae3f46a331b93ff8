//! An in-memory tier for the tests of tiers, caches and applications.

mod epochs;
mod front;
mod keep_alives;
mod log;
mod process;
mod server;
mod tier;
mod watermark;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use terrace_tier::{Backend, Clock, Namespace, NamespaceRegistry, Result, Tier, Timestamp, Token, Version};

pub use log::FakeLog;
#[cfg(test)]
pub(crate) use log::reported_version;
pub(crate) use server::Server;
pub use server::{Address, Data, Hooks};

use self::{process::Process, tier::FakeTier};
use crate::calls::Calls;

/// A server that is a map in this process. It is a cache tier and a store, does exactly what
/// [`transition`](terrace_tier::transition) says, and a test can take it down, slow it, stop it and
/// delete its data. As through Redis, a handle that has read in the last 100 ms may read what another
/// handle has cleared meanwhile, until its log reports the clear.
///
/// A clone is the same handle; [`another_handle`](Fake::another_handle) gives the handle of a second
/// process. A fake takes values of any size and evicts nothing unless a test asks for it.
///
/// # Example
/// ```
/// use terrace_conformance::Fake;
///
/// let redis = Fake::named("redis");
/// redis.set_down(true); // every call fails at once
/// redis.set_down(false);
/// redis.evict("users", b"alice"); // one key is forgotten
/// redis.lose_everything(); // all keys are forgotten
/// assert_eq!(redis.calls().total(), 0); // the calls that caches made
/// ```
#[derive(Clone)]
pub struct Fake {
    server: Arc<Server>,
    namespaces: Arc<NamespaceRegistry>,
    process: Process,
}

/// The data of a [`Fake`] at one moment, from [`Fake::save`].
#[derive(Clone)]
pub struct Saved(Data);

impl fmt::Debug for Saved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Saved").field("cells", &self.0.cells.len()).finish()
    }
}

impl Default for Fake {
    fn default() -> Self {
        Self::named("fake")
    }
}

impl Fake {
    /// How long a handle may go on reading copies that another handle has cleared: 100 ms, and the grain of
    /// the host's clock.
    pub const CLEAR_LAG: Duration = Duration::from_millis(120);

    /// An empty fake called `fake`, on the host's clock.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty fake of this name, on the host's clock.
    pub fn named(name: &str) -> Self {
        Self::with_clock(name, Clock::system())
    }

    /// An empty fake of this name on this clock.
    pub fn with_clock(name: &str, clock: Clock) -> Self {
        Self::with_hooks(name, clock, Hooks::default())
    }

    #[doc(hidden)]
    pub fn with_hooks(name: &str, clock: Clock, hooks: Hooks) -> Self {
        let server = Arc::new(Server::new(name, clock, hooks));
        Self { process: Process::new(&server), server, namespaces: Arc::default() }
    }

    /// A handle on the same data, such as another process would have.
    #[must_use]
    pub fn another_handle(&self) -> Self {
        let server = Arc::clone(&self.server);
        Self { process: Process::new(&server), server, namespaces: Arc::default() }
    }

    /// While this handle is stopped, none of its calls is carried out, as if its process were under
    /// SIGSTOP. Other handles go on.
    pub fn set_stopped(&self, stopped: bool) {
        self.process.stopped.send_replace(stopped);
    }

    /// Gives the server an invalidation log, which every cache over its tiers may follow.
    #[must_use]
    pub fn with_log(self) -> Self {
        self.server.logged.store(true, Ordering::SeqCst);
        self
    }

    /// Advances the watermark of a namespace, as a relay that found nothing to drop does: the copies
    /// here are proven as of the previous advance. Returns the new version of the watermark.
    ///
    /// # Panics
    /// Never, unless the fake itself is broken.
    pub fn advance_watermark(&self, namespace: &str) -> Version {
        watermark::advance(&self.server, namespace)
    }

    /// The log, which a test can stall, let send a heartbeat, and lose.
    pub fn log(&self) -> &FakeLog {
        &self.server.log
    }

    /// While the server is down, every call fails at once with
    /// [`ErrorKind::Unavailable`](terrace_core::ErrorKind::Unavailable). No data is lost.
    pub fn set_down(&self, down: bool) {
        self.server.down.store(down, Ordering::SeqCst);
    }

    /// How long every call takes before it is carried out.
    pub fn set_latency(&self, latency: Duration) {
        *self.server.latency.lock() = latency;
    }

    /// While the server hangs, as under SIGSTOP, no call is carried out or answered. The calls that wait
    /// go on when it ends.
    pub fn set_hanging(&self, hanging: bool) {
        self.server.hanging.send_replace(hanging);
    }

    /// Forgets one key of a namespace in all tenants, and returns whether it was there. The key has the
    /// bytes that the cache encodes: text as UTF-8, integers as 8 bytes big-endian.
    pub fn evict(&self, namespace: &str, key: &[u8]) -> bool {
        let mut data = self.server.data.lock();
        let before = data.cells.len();
        data.cells.retain(|(name, _, bytes), _| name != namespace || bytes != key);
        data.cells.len() < before
    }

    /// Forgets all data, with records and epochs, as after FLUSHALL or on an empty disk.
    pub fn lose_everything(&self) {
        *self.server.data.lock() = Data::default();
    }

    /// Copies the server's data, so that [`go_back`](Fake::go_back) can return to it.
    pub fn save(&self) -> Saved {
        Saved(self.server.data.lock().clone())
    }

    /// Returns to saved data, as a server does that restarts from an old dump.
    pub fn go_back(&self, saved: &Saved) {
        *self.server.data.lock() = saved.0.clone();
    }

    /// [`go_back`](Self::go_back), except that one namespace keeps its present data.
    #[doc(hidden)]
    pub fn go_back_but_for(&self, saved: &Saved, namespace: &str) {
        let mut data = self.server.data.lock();
        let Data { cells, epochs, .. } = std::mem::replace(&mut *data, saved.0.clone());
        data.cells.extend(cells.into_iter().filter(|((name, ..), _)| name == namespace));
        data.epochs.extend(epochs.into_iter().filter(|((name, _), _)| name == namespace));
    }

    /// Whether the cell at `address` is alive and has this token.
    #[doc(hidden)]
    pub fn is_leased(&self, address: &Address, token: Token) -> bool {
        self.server.is_leased(&self.server.data.lock(), address, token)
    }

    /// Forgets what this handle knows of the epochs that a clear has ended, as the handle of a log that
    /// reports the clear does. Without a tenant, the clear is one of all tenants.
    #[doc(hidden)]
    pub fn hear_clear(&self, namespace: &str, tenant: Option<&str>) {
        self.process.epochs.forget(namespace, tenant);
    }

    /// Forgets all epochs that this handle knows, as the handle of a log with a gap does.
    #[doc(hidden)]
    pub fn hear_loss(&self) {
        self.process.epochs.forget_all();
    }

    /// Lets the clock by which the server issues versions be behind by this much from now on, as the clock of a
    /// host may be that takes over after a failover.
    #[doc(hidden)]
    pub fn set_clock_behind(&self, behind: Duration) {
        *self.server.clock_behind.lock() = behind;
    }

    /// Ends the epochs of all namespaces, which makes all copies dead.
    #[doc(hidden)]
    pub fn renew_epochs(&self) {
        self.server.data.lock().epochs.clear();
    }

    /// The calls that the server has carried out since its start.
    pub fn calls(&self) -> Calls {
        self.server.counters.read()
    }

    /// The present time of the fake's own clock.
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

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        let guard = self.namespaces.claim(namespace)?;
        Ok(Arc::new(FakeTier::new(Arc::clone(&self.server), namespace.clone(), self.process.clone(), guard)))
    }
}
