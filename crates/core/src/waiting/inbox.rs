//! What a process holds and waits for at one server, in two tasks: one shows signs of life for all
//! leases held, the other looks after all leases awaited. Each runs only while there are any.

use std::{
    collections::HashMap,
    future::Future,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{Notify, oneshot},
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{Awaited, Ended, Hold, Leases, Pace, Sight};
use crate::{Error, ErrorKind, Result, Token};

/// How long a holder counts as alive after its last sign of life, and after the grant of its lease.
const LIFE: Duration = Duration::from_millis(1200);
/// How often a holder shows a sign of life; a load that is over before costs no trip.
const SIGN_EVERY: Duration = Duration::from_millis(400);
/// How often it is looked whose sign is due.
const TICK: Duration = Duration::from_millis(100);
/// A server that takes longer is not waited at.
const TRIP: Duration = Duration::from_secs(1);
/// Leases of one process that show signs of life; waiters of those beyond take over early.
const MOST_HELD: usize = 10_000;
/// Leases that one process waits for; beyond, its loads do not wait.
const MOST_AWAITED: usize = 4_096;

/// What this process holds and waits for at one server, of which it asks three batched calls. A
/// clone is the same inbox; a backend handle has one, and its tiers answer
/// [`Waits`](super::Waits) by it.
///
/// # Cost
/// Nothing while nothing is held or awaited; then a task for each of the two.
///
/// ```
/// use std::time::Duration;
/// use terrace_core::{Result, Token, waiting::{Awaited, Ended, Inbox, Leases, Pace, Sight}};
///
/// /// A server that has forgotten every lease.
/// struct Forgetful;
///
/// impl Leases for Forgetful {
///     type Place = String;
///
///     async fn look(&self, leases: &[Awaited<String>]) -> Result<Vec<Sight>> {
///         Ok(vec![Sight::Changed; leases.len()])
///     }
///
///     async fn sign(&self, _leases: &[Awaited<String>], _life: Duration) -> Result<()> {
///         Ok(())
///     }
///
///     async fn give_back(&self, _lease: &Awaited<String>) -> Result<()> {
///         Ok(())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let pace = Pace { shortest: Duration::from_millis(10), longest: Duration::from_millis(100) };
/// let inbox = Inbox::new(Forgetful, pace);
/// let lease = Awaited { place: "users:7".to_owned(), token: Token::of_loader() };
/// assert_eq!(inbox.wait(lease).await.unwrap(), Ended::Changed);
/// # }
/// ```
pub struct Inbox<L: Leases>(Arc<Shared<L>>);

struct Shared<L: Leases> {
    leases: L,
    pace: Pace,
    held: Mutex<Table<Held<L::Place>>>,
    awaited: Mutex<Table<Waiting<L::Place>>>,
    /// Wakes the task that looks.
    news: Notify,
}

/// Leases by token, and the task that serves them while there are any.
struct Table<T> {
    entries: HashMap<Token, T>,
    task: Option<JoinHandle<()>>,
}

struct Held<P> {
    lease: Awaited<P>,
    /// Of the grant, then of the last sign.
    signed_at: Instant,
}

struct Waiting<P> {
    lease: Awaited<P>,
    since: Instant,
    next_look: Instant,
    waiters: Vec<oneshot::Sender<Result<Ended>>>,
}

impl<L: Leases> Inbox<L> {
    /// An inbox at the server of `leases`. No task runs before it is used.
    pub fn new(leases: L, pace: Pace) -> Self {
        Self(Arc::new(Shared {
            leases,
            pace,
            held: Mutex::new(Table::new()),
            awaited: Mutex::new(Table::new()),
            news: Notify::new(),
        }))
    }

    /// An inbox whose server is told of it: `leases` may pass on to it what it hears.
    pub fn hearing(leases: impl FnOnce(Herald<L>) -> L, pace: Pace) -> Self {
        Self(Arc::new_cyclic(|shared| Shared {
            leases: leases(Herald(Weak::clone(shared))),
            pace,
            held: Mutex::new(Table::new()),
            awaited: Mutex::new(Table::new()),
            news: Notify::new(),
        }))
    }

    /// [`Waits::hold`](super::Waits::hold) of the lease.
    pub fn hold(&self, lease: Awaited<L::Place>) -> Hold {
        let token = lease.token;
        let mut held = self.0.held.lock();
        if held.entries.len() < MOST_HELD {
            held.entries.insert(token, Held { lease: lease.clone(), signed_at: Instant::now() });
            held.serve(|| show_life(Arc::clone(&self.0)));
        }
        drop(held);
        let inbox = Arc::clone(&self.0);
        Hold::new(move |settled| {
            inbox.held.lock().entries.remove(&token);
            // A runtime that shuts down gives nothing back: its leases fall silent.
            if let (false, Ok(runtime)) = (settled, Handle::try_current()) {
                runtime.spawn(async move {
                    if let Err(error) = trip(inbox.leases.give_back(&lease)).await {
                        tracing::debug!(%error, "a lease was not given back; it falls silent");
                    }
                });
            }
        })
    }

    /// [`Waits::wait`](super::Waits::wait) for the lease.
    pub fn wait(&self, lease: Awaited<L::Place>) -> BoxFuture<'static, Result<Ended>> {
        let inbox = Arc::clone(&self.0);
        async move {
            let (sender, receiver) = oneshot::channel();
            inbox.add(lease, sender)?;
            inbox.news.notify_one();
            receiver.await.unwrap_or_else(|_| Err(Error::new(ErrorKind::Closed, "the runtime shuts down")))
        }
        .boxed()
    }
}

impl<L: Leases> Clone for Inbox<L> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Brings an inbox what its server announces, for as long as the inbox is there.
pub struct Herald<L: Leases>(Weak<Shared<L>>);

impl<L: Leases> Herald<L> {
    /// Tells those who wait for the lease that it has ended. A wrong word costs them one look.
    pub fn tell(&self, token: Token, ended: Ended) {
        let Some(inbox) = self.0.upgrade() else { return };
        let told = inbox.awaited.lock().entries.remove(&token);
        if let Some(waiting) = told {
            waiting.tell(&Ok(ended));
        }
    }

    /// Has all leases looked at now: something may have been announced while nobody listened.
    pub fn look_at_all(&self) {
        let Some(inbox) = self.0.upgrade() else { return };
        let now = Instant::now();
        inbox.awaited.lock().entries.values_mut().for_each(|waiting| waiting.next_look = now);
        inbox.news.notify_one();
    }

    /// Whether the inbox is there, and anybody waits.
    pub fn is_awaiting(&self) -> bool {
        self.0.upgrade().is_some_and(|inbox| !inbox.awaited.lock().entries.is_empty())
    }
}

impl<L: Leases> Clone for Herald<L> {
    fn clone(&self) -> Self {
        Self(Weak::clone(&self.0))
    }
}

impl<L: Leases> Shared<L> {
    fn add(self: &Arc<Self>, lease: Awaited<L::Place>, waiter: oneshot::Sender<Result<Ended>>) -> Result<()> {
        let now = Instant::now();
        let mut awaited = self.awaited.lock();
        if let Some(waiting) = awaited.entries.get_mut(&lease.token) {
            waiting.waiters.push(waiter);
            return Ok(());
        }
        if awaited.entries.len() >= MOST_AWAITED {
            return Err(Error::new(ErrorKind::Busy, "too many leases are waited for"));
        }
        let token = lease.token;
        awaited.entries.insert(token, Waiting { lease, since: now, next_look: now, waiters: vec![waiter] });
        awaited.serve(|| look_after(Arc::clone(self)));
        Ok(())
    }

    /// The leases to look at now, and when the next is due; `None` once nobody waits.
    fn due(&self) -> Option<(Vec<Awaited<L::Place>>, Instant)> {
        let now = Instant::now();
        let mut awaited = self.awaited.lock();
        awaited.entries.retain(|_, waiting| waiting.waiters.iter().any(|waiter| !waiter.is_closed()));
        if awaited.entries.is_empty() {
            awaited.task = None;
            return None;
        }
        // What is due soon goes along: one trip for all.
        let soon = now + self.pace.shortest / 2;
        let mut due = Vec::new();
        for waiting in awaited.entries.values_mut().filter(|waiting| waiting.next_look <= soon) {
            let pause = (now - waiting.since) / 4;
            waiting.next_look = now + pause.clamp(self.pace.shortest, self.pace.longest);
            due.push(waiting.lease.clone());
        }
        let next = awaited.entries.values().map(|waiting| waiting.next_look).min();
        Some((due, next.unwrap_or(now + self.pace.longest)))
    }

    /// What the looks of `asked_at` mean to those who wait.
    fn take(&self, due: &[Awaited<L::Place>], sights: Result<Vec<Sight>>, asked_at: Instant) {
        let mut told = Vec::new();
        let mut awaited = self.awaited.lock();
        for (at, lease) in due.iter().enumerate() {
            let Some(waiting) = awaited.entries.get(&lease.token) else { continue };
            let ended = match &sights {
                Err(error) => Err(error.clone()),
                Ok(sights) => match sights.get(at) {
                    Some(Sight::Changed) => Ok(Ended::Changed),
                    Some(Sight::Free) => Ok(Ended::Free),
                    Some(Sight::Silent) if asked_at - waiting.since >= LIFE => Ok(Ended::Free),
                    Some(_) => continue,
                    None => Err(Error::new(ErrorKind::Backend, "the server left out a lease")),
                },
            };
            told.extend(awaited.entries.remove(&lease.token).map(|waiting| (waiting, ended)));
        }
        drop(awaited);
        told.into_iter().for_each(|(waiting, ended)| waiting.tell(&ended));
    }

    /// The held leases whose sign of life is due; `None` once nothing is held.
    fn unsigned(&self) -> Option<Vec<Awaited<L::Place>>> {
        let now = Instant::now();
        let mut held = self.held.lock();
        if held.entries.is_empty() {
            held.task = None;
            return None;
        }
        let due = held.entries.values().filter(|held| now - held.signed_at >= SIGN_EVERY);
        Some(due.map(|held| held.lease.clone()).collect())
    }

    fn signed(&self, leases: &[Awaited<L::Place>], at: Instant) {
        let mut held = self.held.lock();
        for lease in leases {
            if let Some(held) = held.entries.get_mut(&lease.token) {
                held.signed_at = at;
            }
        }
    }
}

impl<P> Waiting<P> {
    fn tell(self, ended: &Result<Ended>) {
        for waiter in self.waiters {
            // Whoever went away needs no word.
            let _ = waiter.send(ended.clone());
        }
    }
}

impl<T> Table<T> {
    fn new() -> Self {
        Self { entries: HashMap::new(), task: None }
    }

    /// Starts the task that serves the table, if none runs: the first one, or in the place of one
    /// whose runtime has ended.
    fn serve<F: Future<Output = ()> + Send + 'static>(&mut self, task: impl FnOnce() -> F) {
        if self.task.as_ref().is_none_or(JoinHandle::is_finished) {
            self.task = Handle::try_current().ok().map(|runtime| runtime.spawn(task()));
        }
    }
}

/// Looks after the awaited leases until there are none.
async fn look_after<L: Leases>(inbox: Arc<Shared<L>>) {
    while let Some((due, next)) = inbox.due() {
        if due.is_empty() {
            tokio::select! {
                () = sleep_until(next) => {}
                () = inbox.news.notified() => {}
            }
            continue;
        }
        let asked_at = Instant::now();
        let sights = trip(inbox.leases.look(&due)).await;
        inbox.take(&due, sights, asked_at);
    }
}

/// Shows signs of life for the held leases until there are none.
async fn show_life<L: Leases>(inbox: Arc<Shared<L>>) {
    while let Some(due) = inbox.unsigned() {
        if !due.is_empty() {
            let asked_at = Instant::now();
            match trip(inbox.leases.sign(&due, LIFE)).await {
                Ok(()) => inbox.signed(&due, asked_at),
                Err(error) => tracing::debug!(%error, "no sign of life; it is tried again"),
            }
        }
        sleep(TICK).await;
    }
}

async fn trip<T>(call: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(TRIP, call).await.unwrap_or_else(|_| Err(Error::timeout(TRIP)))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::future::join_all;

    use super::*;

    /// A server whose leases are all in one state, and that counts its trips.
    #[derive(Clone, Default)]
    struct Server(Arc<Counts>);

    #[derive(Default)]
    struct Counts {
        looks: AtomicUsize,
        signs: AtomicUsize,
        given_back: AtomicUsize,
        sight: Mutex<Option<Sight>>,
    }

    impl Server {
        fn shows(&self, sight: Sight) {
            *self.0.sight.lock() = Some(sight);
        }

        fn inbox(&self) -> Inbox<Self> {
            Inbox::new(self.clone(), Pace { shortest: ms(10), longest: ms(100) })
        }
    }

    impl Leases for Server {
        type Place = ();

        async fn look(&self, leases: &[Awaited<()>]) -> Result<Vec<Sight>> {
            self.0.looks.fetch_add(1, Ordering::SeqCst);
            Ok(vec![self.0.sight.lock().unwrap_or(Sight::Alive); leases.len()])
        }

        async fn sign(&self, _leases: &[Awaited<()>], _life: Duration) -> Result<()> {
            self.0.signs.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }

        async fn give_back(&self, _lease: &Awaited<()>) -> Result<()> {
            self.0.given_back.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }
    }

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn lease(number: u64) -> Awaited<()> {
        Awaited { place: (), token: Token::from_u64(number) }
    }

    #[tokio::test(start_paused = true)]
    async fn all_that_wait_share_their_looks() {
        let server = Server::default();
        let inbox = server.inbox();
        let waits = (1..=1_000).map(|number| inbox.wait(lease(number)));
        let waiting = tokio::spawn(join_all(waits.collect::<Vec<_>>()));
        sleep(ms(2_000)).await;
        let looks = server.0.looks.load(Ordering::SeqCst);
        assert!((15..40).contains(&looks), "{looks} looks in two seconds");
        server.shows(Sight::Changed);
        let ended = waiting.await.ok();
        let changed = |ended: &Result<Ended>| matches!(ended, Ok(Ended::Changed));
        assert!(ended.is_some_and(|ended| ended.len() == 1_000 && ended.iter().all(changed)));
        assert!(inbox.0.awaited.lock().entries.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_hold_costs_no_trip_and_long_ones_share_theirs() {
        let server = Server::default();
        let inbox = server.inbox();
        let holds: Vec<Hold> = (1..=1_000).map(|number| inbox.hold(lease(number))).collect();
        sleep(ms(350)).await;
        assert_eq!(server.0.signs.load(Ordering::SeqCst), 0);
        sleep(ms(1_800)).await;
        let signs = server.0.signs.load(Ordering::SeqCst);
        assert!((4..=5).contains(&signs), "{signs} signs in 2.15 seconds");
        holds.iter().for_each(Hold::settle);
        drop(holds);
        sleep(ms(1_000)).await;
        assert_eq!(server.0.signs.load(Ordering::SeqCst), signs);
        assert_eq!(server.0.given_back.load(Ordering::SeqCst), 0);
        drop(inbox.hold(lease(1)));
        sleep(ms(1)).await;
        assert_eq!(server.0.given_back.load(Ordering::SeqCst), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn waits_that_are_dropped_leave_nothing() {
        let server = Server::default();
        let inbox = server.inbox();
        assert!(timeout(ms(50), inbox.wait(lease(1))).await.is_err());
        sleep(ms(200)).await;
        let looks = server.0.looks.load(Ordering::SeqCst);
        assert!(inbox.0.awaited.lock().entries.is_empty());
        sleep(ms(1_000)).await;
        assert_eq!(server.0.looks.load(Ordering::SeqCst), looks, "nobody looks any more");
    }

    #[tokio::test(start_paused = true)]
    async fn beyond_the_most_leases_nobody_waits() {
        let inbox = Server::default().inbox();
        let most = 1..=MOST_AWAITED as u64;
        let waiting =
            tokio::spawn(join_all(most.map(|number| inbox.wait(lease(number))).collect::<Vec<_>>()));
        sleep(ms(10)).await;
        let refused = inbox.wait(lease(u64::MAX)).await;
        assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Busy));
        waiting.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_counts_from_the_first_look_and_a_sign_ends_it() {
        let server = Server::default();
        let inbox = server.inbox();
        server.shows(Sight::Silent);
        let began = Instant::now();
        assert_eq!(inbox.wait(lease(1)).await.ok(), Some(Ended::Free));
        assert!((LIFE..LIFE + ms(150)).contains(&began.elapsed()), "{:?}", began.elapsed());
        server.shows(Sight::Alive);
        assert!(timeout(LIFE * 4, inbox.wait(lease(2))).await.is_err());
    }
}
