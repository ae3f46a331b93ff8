use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use parking_lot::Mutex;

use super::{super::LeaseStatus, *};

/// A server whose leases all have the same status, and which counts its calls.
#[derive(Clone, Default)]
struct Server(Arc<Counts>);

#[derive(Default)]
struct Counts {
    polls: AtomicUsize,
    keep_alives: AtomicUsize,
    releases: AtomicUsize,
    status: Mutex<Option<LeaseStatus>>,
}

impl Server {
    fn shows(&self, status: LeaseStatus) {
        *self.0.status.lock() = Some(status);
    }

    fn tracker(&self) -> LeaseTracker<Self> {
        LeaseTracker::new(self.clone(), PollInterval::new(ms(10), ms(100)))
    }
}

impl LeaseBackend for Server {
    type Address = ();

    async fn poll(&self, leases: &[LeaseRef<()>]) -> Result<Vec<LeaseStatus>> {
        self.0.polls.fetch_add(1, Ordering::SeqCst);
        Ok(vec![self.0.status.lock().unwrap_or(LeaseStatus::Alive); leases.len()])
    }

    async fn keep_alive(&self, _leases: &[LeaseRef<()>], _life: Duration) -> Result<()> {
        self.0.keep_alives.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn release(&self, _lease: &LeaseRef<()>) -> Result<()> {
        self.0.releases.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn lease(number: u64) -> LeaseRef<()> {
    LeaseRef { address: (), token: Token::from_u64(number) }
}

#[tokio::test(start_paused = true)]
async fn all_that_wait_share_their_polls() {
    let server = Server::default();
    let tracker = server.tracker();
    let waits = (1..=1_000).map(|number| tracker.wait(lease(number)));
    let waiting = tokio::spawn(join_all(waits.collect::<Vec<_>>()));
    sleep(ms(2_000)).await;
    let polls = server.0.polls.load(Ordering::SeqCst);
    assert!((15..40).contains(&polls), "{polls} polls in two seconds");
    server.shows(LeaseStatus::Changed);
    let ended = waiting.await.ok();
    let changed = |ended: &Result<LeaseEnd>| matches!(ended, Ok(LeaseEnd::Changed));
    assert!(ended.is_some_and(|ended| ended.len() == 1_000 && ended.iter().all(changed)));
    assert!(tracker.0.awaited.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_short_hold_costs_no_trip_and_long_ones_share_theirs() {
    let server = Server::default();
    let tracker = server.tracker();
    let holds: Vec<LeaseGuard> = (1..=1_000).map(|number| tracker.hold(lease(number))).collect();
    sleep(ms(350)).await;
    assert_eq!(server.0.keep_alives.load(Ordering::SeqCst), 0);
    sleep(ms(1_800)).await;
    let keep_alives = server.0.keep_alives.load(Ordering::SeqCst);
    assert!((4..=5).contains(&keep_alives), "{keep_alives} keep-alives in 2.15 seconds");
    holds.iter().for_each(LeaseGuard::settle);
    drop(holds);
    sleep(ms(1_000)).await;
    assert_eq!(server.0.keep_alives.load(Ordering::SeqCst), keep_alives);
    assert_eq!(server.0.releases.load(Ordering::SeqCst), 0);
    drop(tracker.hold(lease(1)));
    sleep(ms(1)).await;
    assert_eq!(server.0.releases.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn waits_that_are_dropped_leave_nothing() {
    let server = Server::default();
    let tracker = server.tracker();
    assert!(timeout(ms(50), tracker.wait(lease(1))).await.is_err());
    sleep(ms(200)).await;
    let polls = server.0.polls.load(Ordering::SeqCst);
    assert!(tracker.0.awaited.is_empty());
    sleep(ms(1_000)).await;
    assert_eq!(server.0.polls.load(Ordering::SeqCst), polls, "nobody polls any more");
}

#[tokio::test(start_paused = true)]
async fn beyond_the_most_leases_nobody_waits() {
    let tracker = Server::default().tracker();
    let most = 1..=awaited::MAX_AWAITED as u64;
    let waiting = tokio::spawn(join_all(most.map(|number| tracker.wait(lease(number))).collect::<Vec<_>>()));
    sleep(ms(10)).await;
    let refused = tracker.wait(lease(u64::MAX)).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Busy));
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn silence_counts_from_the_first_poll_and_a_keep_alive_ends_it() {
    let server = Server::default();
    let tracker = server.tracker();
    server.shows(LeaseStatus::Silent);
    let began = Instant::now();
    assert_eq!(tracker.wait(lease(1)).await.ok(), Some(LeaseEnd::Free));
    assert!((LIFE..LIFE + ms(150)).contains(&began.elapsed()), "{:?}", began.elapsed());
    server.shows(LeaseStatus::Alive);
    assert!(timeout(LIFE * 4, tracker.wait(lease(2))).await.is_err());
}
