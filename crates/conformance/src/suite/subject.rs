//! The backend under test, and what the suite needs to test it.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use terrace_tier::{Backend, Clock, ManualClock, Namespace, TierKey};

type Wait = dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync;
type LoseLog = dyn Fn(Namespace) -> BoxFuture<'static, ()> + Send + Sync;
type Evict = dyn Fn(Namespace, TierKey) -> BoxFuture<'static, ()> + Send + Sync;

/// A backend under test and its helpers. Every case gets its own subject and uses its own namespaces,
/// so all subjects may share one server.
#[derive(Clone)]
pub struct Subject {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) second: Option<Arc<dyn Backend>>,
    pub(crate) clock: Clock,
    pub(crate) virtual_time: bool,
    pub(crate) wait: Arc<Wait>,
    pub(crate) evict: Option<Arc<Evict>>,
    pub(crate) lose_log: Option<Arc<LoseLog>>,
    pub(crate) notified_within: Duration,
    guards: Vec<Arc<dyn Any + Send + Sync>>,
}

impl Subject {
    /// A backend on the host's clock, or on a server that keeps the host's time.
    pub fn new(backend: impl Backend) -> Self {
        Self {
            backend: Arc::new(backend),
            second: None,
            clock: Clock::system(),
            virtual_time: false,
            wait: Arc::new(|time| Box::pin(tokio::time::sleep(time))),
            evict: None,
            lose_log: None,
            notified_within: Duration::ZERO,
            guards: Vec::new(),
        }
    }

    /// A second handle on the same data, such as another or a restarted process would have. Without
    /// one, the suite uses the first handle twice.
    #[must_use]
    pub fn second(self, backend: impl Backend) -> Self {
        Self { second: Some(Arc::new(backend)), ..self }
    }

    /// The backend's clock, if it is a manual one. The suite then advances it, and the random histories
    /// of the oracle contain many expiries.
    #[must_use]
    pub fn manual_clock(self, hand: &ManualClock) -> Self {
        let clock = hand.clock();
        let hand = hand.clone();
        let wait = move |time| -> BoxFuture<'static, ()> {
            hand.advance(time);
            Box::pin(async {})
        };
        Self { clock, virtual_time: true, wait: Arc::new(wait), ..self }
    }

    /// A function that makes the server forget one cell of a cache tier, as if memory were short. The
    /// cell may be absent. The `evict` cases need this function.
    #[must_use]
    pub fn evict(
        self,
        evict: impl Fn(Namespace, TierKey) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self { evict: Some(Arc::new(evict)), ..self }
    }

    /// A function that makes the server lose its invalidation log, or the part that a follower has not
    /// read. One case of the `log` and `store_log` groups needs it.
    #[must_use]
    pub fn lose_log(
        self,
        lose: impl Fn(Namespace) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self { lose_log: Some(Arc::new(lose)), ..self }
    }

    /// How long a handle may go on reading copies that another handle has cleared; zero unless set.
    #[must_use]
    pub fn notified_within(self, notified_within: Duration) -> Self {
        Self { notified_within, ..self }
    }

    /// A value to drop after the case, such as a temporary folder or a server.
    #[must_use]
    pub fn guard(mut self, guard: impl Any + Send + Sync) -> Self {
        self.guards.push(Arc::new(guard));
        self
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Subject");
        out.field("backend", &self.backend.name()).field("guards", &self.guards.len()).finish_non_exhaustive()
    }
}
