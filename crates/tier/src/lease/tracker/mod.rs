//! What a process holds and waits for at one server, in two tasks: one shows signs of life for all
//! leases held, the other looks after all leases awaited. Each runs only while there are any.

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

use super::{LeaseEnd, LeaseGuard, LeaseRef, Leases, PollInterval};
use crate::{
    Error, ErrorKind, Result, Token,
    defence::{Defence, enabled},
};
use awaited::AwaitedLeases;
use held::HeldLeases;

/// How long a holder counts as alive after its last sign of life, and after the grant of its lease.
const LIFE: Duration = Duration::from_millis(1200);
/// How often it is looked whose sign is due.
const TICK: Duration = Duration::from_millis(100);
/// A server that takes longer is not waited at.
const TRIP: Duration = Duration::from_secs(1);

/// What this process holds and waits for at one server, of which it asks three batched calls. A
/// clone is the same inbox; a backend handle has one, and its tiers answer
/// [`LeaseWaiter`](super::LeaseWaiter) by it.
///
/// # Cost
/// Nothing while nothing is held or awaited; then a task for each of the two.
///
/// ```
/// use std::time::Duration;
/// use terrace_tier::{Result, Token, lease::{LeaseRef, LeaseEnd, LeaseTracker, Leases, PollInterval, LeaseStatus}};
///
/// /// A server that has forgotten every lease.
/// struct Forgetful;
///
/// impl Leases for Forgetful {
///     type Place = String;
///
///     async fn look(&self, leases: &[LeaseRef<String>]) -> Result<Vec<LeaseStatus>> {
///         Ok(vec![LeaseStatus::Changed; leases.len()])
///     }
///
///     async fn sign(&self, _leases: &[LeaseRef<String>], _life: Duration) -> Result<()> {
///         Ok(())
///     }
///
///     async fn give_back(&self, _lease: &LeaseRef<String>) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let pace = PollInterval { shortest: Duration::from_millis(10), longest: Duration::from_millis(100) };
/// let inbox = LeaseTracker::new(Forgetful, pace);
/// let lease = LeaseRef { place: "users:7".to_owned(), token: Token::of_loader() };
/// assert_eq!(inbox.wait(lease).await.unwrap(), LeaseEnd::Changed);
/// # }
/// ```
pub struct LeaseTracker<L: Leases>(Arc<Shared<L>>);

struct Shared<L: Leases> {
    leases: L,
    held: HeldLeases<L::Place>,
    awaited: AwaitedLeases<L::Place>,
    /// Wakes the task that looks.
    news: Notify,
}

impl<L: Leases> Shared<L> {
    fn new(leases: L, pace: PollInterval) -> Self {
        let (held, awaited) = (HeldLeases::new(), AwaitedLeases::new(pace, LIFE));
        Self { leases, held, awaited, news: Notify::new() }
    }
}

impl<L: Leases> LeaseTracker<L> {
    /// An inbox at the server of `leases`. No task runs before it is used.
    pub fn new(leases: L, pace: PollInterval) -> Self {
        Self(Arc::new(Shared::new(leases, pace)))
    }

    /// An inbox whose server is told of it: `leases` may pass on to it what it hears.
    pub fn hearing(leases: impl FnOnce(LeaseNotifier<L>) -> L, pace: PollInterval) -> Self {
        Self(Arc::new_cyclic(|shared| Shared::new(leases(LeaseNotifier(Weak::clone(shared))), pace)))
    }

    /// [`LeaseWaiter::hold`](super::LeaseWaiter::hold) of the lease.
    pub fn hold(&self, lease: LeaseRef<L::Place>) -> LeaseGuard {
        self.0.held.add(&lease, || show_life(Arc::clone(&self.0)));
        let inbox = Arc::clone(&self.0);
        LeaseGuard::new(move |settled| {
            inbox.held.remove(lease.token);
            // A runtime that shuts down gives nothing back: its leases fall silent.
            let kept = settled || !enabled(Defence::GiveBack);
            if let (false, Ok(runtime)) = (kept, Handle::try_current()) {
                runtime.spawn(async move {
                    if let Err(error) = trip(inbox.leases.give_back(&lease)).await {
                        tracing::debug!(%error, "a lease was not given back; it falls silent");
                    }
                });
            }
        })
    }

    /// [`LeaseWaiter::wait`](super::LeaseWaiter::wait) for the lease.
    pub fn wait(&self, lease: LeaseRef<L::Place>) -> BoxFuture<'static, Result<LeaseEnd>> {
        let inbox = Arc::clone(&self.0);
        async move {
            let (sender, receiver) = oneshot::channel();
            inbox.awaited.add(lease, sender, || look_after(Arc::clone(&inbox)))?;
            inbox.news.notify_one();
            receiver.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the runtime shuts down")))
        }
        .boxed()
    }
}

impl<L: Leases> Clone for LeaseTracker<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Brings an inbox what its server announces, for as long as the inbox is there.
pub struct LeaseNotifier<L: Leases>(Weak<Shared<L>>);

impl<L: Leases> LeaseNotifier<L> {
    /// Tells those who wait for the lease that it has ended. A wrong word costs them one look.
    pub fn tell(&self, token: Token, ended: LeaseEnd) {
        if let Some(inbox) = self.0.upgrade() {
            inbox.awaited.tell(token, ended);
        }
    }

    /// Has all leases looked at now: something may have been announced while nobody listened.
    pub fn look_at_all(&self) {
        let Some(inbox) = self.0.upgrade() else { return };
        inbox.awaited.hurry();
        inbox.news.notify_one();
    }

    /// Whether the inbox is there, and anybody waits.
    pub fn is_awaiting(&self) -> bool {
        self.0.upgrade().is_some_and(|inbox| !inbox.awaited.is_empty())
    }
}

impl<L: Leases> Clone for LeaseNotifier<L> {
    fn clone(&self) -> Self {
        Self(Weak::clone(&self.0))
    }
}

/// Looks after the awaited leases until there are none.
async fn look_after<L: Leases>(inbox: Arc<Shared<L>>) {
    while let Some((due, next)) = inbox.awaited.due() {
        if due.is_empty() {
            tokio::select! {
                () = sleep_until(next) => {}
                () = inbox.news.notified() => {}
            }
            continue;
        }
        let asked_at = Instant::now();
        let sights = trip(inbox.leases.look(&due)).await;
        inbox.awaited.seen(&due, sights, asked_at);
    }
}

/// Shows signs of life for the held leases until there are none.
async fn show_life<L: Leases>(inbox: Arc<Shared<L>>) {
    while let Some(due) = inbox.held.unsigned() {
        if !due.is_empty() && enabled(Defence::Signs) {
            let asked_at = Instant::now();
            match trip(inbox.leases.sign(&due, LIFE)).await {
                Ok(()) => inbox.held.signed(&due, asked_at),
                Err(error) => tracing::debug!(%error, "no sign of life; it is tried again"),
            }
        }
        sleep(TICK).await;
    }
}

async fn trip<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    if !enabled(Defence::TripTimeout) {
        return call.await;
    }
    timeout(TRIP, call).await.unwrap_or_else(|_| Err(Error::timeout(TRIP)))
}

#[cfg(test)]
mod tests;
