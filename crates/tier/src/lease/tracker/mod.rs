//! The leases that a process holds and awaits at one server, in two tasks. One task keeps all held leases
//! alive, and the other polls all awaited leases. Each task runs only while it has leases.

mod awaited;
mod held;
mod table;

use std::{
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{LeaseBackend, LeaseEnd, LeaseGuard, LeaseRef, PollInterval};
use crate::{
    Error, ErrorKind, Result, Token,
    defence::{Defence, enabled},
};
use awaited::AwaitedLeases;
use held::HeldLeases;

/// How long a holder counts as alive after the grant of its lease, and after each keep-alive.
const LIFE: Duration = Duration::from_millis(1200);
/// How often the held leases are checked for a keep-alive that is due.
const TICK: Duration = Duration::from_millis(100);
/// The longest time that a call of the server may take.
const CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// Tracks what this process holds and awaits at one server, over the three batched calls of a
/// [`LeaseBackend`].
///
/// A backend handle has one tracker, whose clones share their state. Its tiers implement
/// [`LeaseWaiter`](super::LeaseWaiter) with it.
///
/// # Cost
/// Nothing while no lease is held or awaited; else one task for held and one for awaited leases.
///
/// ```
/// use std::time::Duration;
/// use terrace_tier::{Result, Token};
/// use terrace_tier::lease::{LeaseBackend, LeaseEnd, LeaseRef, LeaseStatus, LeaseTracker, PollInterval};
///
/// /// A server that has forgotten every lease.
/// struct Forgetful;
///
/// impl LeaseBackend for Forgetful {
///     type Address = String;
///
///     async fn poll(&self, leases: &[LeaseRef<String>]) -> Result<Vec<LeaseStatus>> {
///         Ok(vec![LeaseStatus::Changed; leases.len()])
///     }
///
///     async fn keep_alive(&self, _leases: &[LeaseRef<String>], _life: Duration) -> Result<()> {
///         Ok(())
///     }
///
///     async fn release(&self, _lease: &LeaseRef<String>) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let poll_interval = PollInterval::new(Duration::from_millis(10), Duration::from_millis(100));
/// let tracker = LeaseTracker::new(Forgetful, poll_interval);
/// let lease = LeaseRef { address: "users:7".to_owned(), token: Token::of_loader() };
/// assert_eq!(tracker.wait(lease).await.unwrap(), LeaseEnd::Changed);
/// # }
/// ```
pub struct LeaseTracker<B: LeaseBackend>(Arc<Shared<B>>);

struct Shared<B: LeaseBackend> {
    backend: B,
    held: HeldLeases<B::Address>,
    awaited: AwaitedLeases<B::Address>,
    /// Wakes the task that polls.
    wake: Notify,
}

impl<B: LeaseBackend> Shared<B> {
    fn new(backend: B, poll_interval: PollInterval) -> Self {
        let (held, awaited) = (HeldLeases::new(), AwaitedLeases::new(poll_interval, LIFE));
        Self { backend, held, awaited, wake: Notify::new() }
    }
}

impl<B: LeaseBackend> LeaseTracker<B> {
    /// A tracker at the server of `backend`. No task runs before the first lease.
    pub fn new(backend: B, poll_interval: PollInterval) -> Self {
        Self(Arc::new(Shared::new(backend, poll_interval)))
    }

    /// A tracker at a server that announces the ends of leases. `backend` makes the backend, which passes
    /// on the announcements through the [`LeaseNotifier`].
    pub fn with_notifier(backend: impl FnOnce(LeaseNotifier<B>) -> B, poll_interval: PollInterval) -> Self {
        let new = |shared: &Weak<Shared<B>>| {
            Shared::new(backend(LeaseNotifier(Weak::clone(shared))), poll_interval)
        };
        Self(Arc::new_cyclic(new))
    }

    /// Holds the lease, as [`LeaseWaiter::hold`](super::LeaseWaiter::hold) says.
    pub fn hold(&self, lease: LeaseRef<B::Address>) -> LeaseGuard {
        self.0.held.add(&lease, || keep_alive(Arc::clone(&self.0)));
        let tracker = Arc::clone(&self.0);
        LeaseGuard::new(move |settled| {
            tracker.held.remove(lease.token);
            // Without a runtime nothing is released: the leases fall silent.
            let releases = !settled && enabled(Defence::Release);
            if let (true, Ok(runtime)) = (releases, Handle::try_current()) {
                runtime.spawn(async move {
                    if let Err(error) = in_time(tracker.backend.release(&lease)).await {
                        let (tier, cache) = tracker.backend.log_names();
                        let what = "a lease was not released; it ends when its holder is silent for too long";
                        tracing::debug!(%cache, tier, %error, "{what}");
                    }
                });
            }
        })
    }

    /// Waits for the lease, as [`LeaseWaiter::wait`](super::LeaseWaiter::wait) says.
    pub fn wait(&self, lease: LeaseRef<B::Address>) -> BoxFuture<'static, Result<LeaseEnd>> {
        let tracker = Arc::clone(&self.0);
        async move {
            let (sender, receiver) = oneshot::channel();
            tracker.awaited.add(lease, sender, || poll(Arc::clone(&tracker)))?;
            tracker.wake.notify_one();
            receiver.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the runtime shuts down")))
        }
        .boxed()
    }
}

impl<B: LeaseBackend> Clone for LeaseTracker<B> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Passes the announcements of a server to its tracker, as long as the tracker exists.
pub struct LeaseNotifier<B: LeaseBackend>(Weak<Shared<B>>);

impl<B: LeaseBackend> LeaseNotifier<B> {
    /// Notifies the waiters of the lease that it has ended. A wrong announcement costs them one read.
    pub fn notify(&self, token: Token, end: LeaseEnd) {
        if let Some(tracker) = self.0.upgrade() {
            tracker.awaited.notify(token, end);
        }
    }

    /// Polls all awaited leases now, because announcements may have been missed.
    pub fn poll_all(&self) {
        let Some(tracker) = self.0.upgrade() else { return };
        tracker.awaited.hurry();
        tracker.wake.notify_one();
    }

    /// Whether the tracker still exists and awaits a lease.
    pub fn has_waiters(&self) -> bool {
        self.0.upgrade().is_some_and(|tracker| !tracker.awaited.is_empty())
    }
}

impl<B: LeaseBackend> Clone for LeaseNotifier<B> {
    fn clone(&self) -> Self {
        Self(Weak::clone(&self.0))
    }
}

/// Polls the awaited leases until there are none.
async fn poll<B: LeaseBackend>(tracker: Arc<Shared<B>>) {
    while let Some((due, next)) = tracker.awaited.due() {
        if due.is_empty() {
            tokio::select! {
                () = sleep_until(next) => {}
                () = tracker.wake.notified() => {}
            }
            continue;
        }
        let sent_at = Instant::now();
        let statuses = in_time(tracker.backend.poll(&due)).await;
        tracker.awaited.polled(&due, statuses, sent_at);
    }
}

/// Keeps the held leases alive until there are none.
async fn keep_alive<B: LeaseBackend>(tracker: Arc<Shared<B>>) {
    while let Some(due) = tracker.held.due() {
        if !due.is_empty() && enabled(Defence::KeepAlives) {
            let sent_at = Instant::now();
            match in_time(tracker.backend.keep_alive(&due, LIFE)).await {
                Ok(()) => tracker.held.confirm(&due, sent_at),
                Err(error) => {
                    let (tier, cache) = tracker.backend.log_names();
                    tracing::debug!(%cache, tier, %error, "a keep-alive failed; it is sent again");
                }
            }
        }
        sleep(TICK).await;
    }
}

async fn in_time<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    if !enabled(Defence::CallTimeout) {
        return call.await;
    }
    timeout(CALL_TIMEOUT, call).await.unwrap_or_else(|_| Err(Error::timeout(CALL_TIMEOUT)))
}

#[cfg(test)]
mod tests;
