//! An in-memory tier for tests: of tiers, of caches, of applications.

mod log;
mod marks;
mod process;
mod server;
mod tier;

use std::{
    fmt,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use terrace_tier::{Backend, Clock, Namespace, NamespaceRegistry, Result, Tier, Timestamp, Token, Version};

pub use log::FakeLog;
#[cfg(test)]
pub(crate) use log::told_version;
pub(crate) use server::Server;
pub use server::{Address, Data, Hooks};

use self::{process::Process, tier::FakeTier};
use crate::calls::Calls;

/// A server that is a map in this process: a cache tier and a store, as exact as
/// [`transition`](terrace_tier::transition), that can be taken down, slowed, stopped and robbed of its data.
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
    spaces: Arc<NamespaceRegistry>,
    process: Process,
}

/// What a [`Fake`] kept at one moment; from [`Fake::save`].
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

    #[doc(hidden)]
    pub fn with_hooks(name: &str, clock: Clock, hooks: Hooks) -> Self {
        let server = Arc::new(Server::new(name, clock, hooks));
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
        marks::move_mark(&self.server, namespace)
    }

    /// The log, to be stalled, heard and lost by a test.
    pub fn log(&self) -> &FakeLog {
        &self.server.log
    }

    /// While down, every call fails at once with [`ErrorKind::Unavailable`](terrace_core::ErrorKind::Unavailable); nothing is lost.
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
    #[doc(hidden)]
    pub fn go_back_but_for(&self, saved: &Saved, namespace: &str) {
        let mut data = self.server.data.lock();
        let Data { cells, epochs } = std::mem::replace(&mut *data, saved.0.clone());
        data.cells.extend(cells.into_iter().filter(|((of, ..), _)| of == namespace));
        data.epochs.extend(epochs.into_iter().filter(|((of, _), _)| of == namespace));
    }

    /// Whether the cell there is live and holds this token.
    #[doc(hidden)]
    pub fn is_leased(&self, place: &Address, token: Token) -> bool {
        self.server.is_leased(&self.server.data.lock(), place, token)
    }

    /// All copies are dead from now on: they are of an epoch that is over.
    #[doc(hidden)]
    pub fn renew_epochs(&self) {
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

    fn open(&self, space: &Namespace) -> Result<Arc<dyn Tier>> {
        let claim = self.spaces.claim(space)?;
        Ok(Arc::new(FakeTier::new(Arc::clone(&self.server), space.clone(), self.process.clone(), claim)))
    }
}
