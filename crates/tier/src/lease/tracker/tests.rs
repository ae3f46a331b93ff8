use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use parking_lot::Mutex;

use super::{super::LeaseStatus, *};

/// A server whose leases are all in one state, and that counts its trips.
#[derive(Clone, Default)]
struct Server(Arc<Counts>);

#[derive(Default)]
struct Counts {
    looks: AtomicUsize,
    signs: AtomicUsize,
    given_back: AtomicUsize,
    sight: Mutex<Option<LeaseStatus>>,
}

impl Server {
    fn shows(&self, sight: LeaseStatus) {
        *self.0.sight.lock() = Some(sight);
    }

    fn inbox(&self) -> LeaseTracker<Self> {
        LeaseTracker::new(self.clone(), PollInterval { shortest: ms(10), longest: ms(100) })
    }
}

impl Leases for Server {
    type Place = ();

    async fn look(&self, leases: &[LeaseRef<()>]) -> Result<Vec<LeaseStatus>> {
        self.0.looks.fetch_add(1, Ordering::SeqCst);
        Ok(vec![self.0.sight.lock().unwrap_or(LeaseStatus::Alive); leases.len()])
    }

    async fn sign(&self, _leases: &[LeaseRef<()>], _life: Duration) -> Result<()> {
        self.0.signs.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    async fn give_back(&self, _lease: &LeaseRef<()>) -> Result<()> {
        self.0.given_back.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn lease(number: u64) -> LeaseRef<()> {
    LeaseRef { place: (), token: Token::from_u64(number) }
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
    server.shows(LeaseStatus::Changed);
    let ended = waiting.await.ok();
    let changed = |ended: &Result<LeaseEnd>| matches!(ended, Ok(LeaseEnd::Changed));
    assert!(ended.is_some_and(|ended| ended.len() == 1_000 && ended.iter().all(changed)));
    assert!(inbox.0.awaited.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_short_hold_costs_no_trip_and_long_ones_share_theirs() {
    let server = Server::default();
    let inbox = server.inbox();
    let holds: Vec<LeaseGuard> = (1..=1_000).map(|number| inbox.hold(lease(number))).collect();
    sleep(ms(350)).await;
    assert_eq!(server.0.signs.load(Ordering::SeqCst), 0);
    sleep(ms(1_800)).await;
    let signs = server.0.signs.load(Ordering::SeqCst);
    assert!((4..=5).contains(&signs), "{signs} signs in 2.15 seconds");
    holds.iter().for_each(LeaseGuard::settle);
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
    assert!(inbox.0.awaited.is_empty());
    sleep(ms(1_000)).await;
    assert_eq!(server.0.looks.load(Ordering::SeqCst), looks, "nobody looks any more");
}

#[tokio::test(start_paused = true)]
async fn beyond_the_most_leases_nobody_waits() {
    let inbox = Server::default().inbox();
    let most = 1..=awaited::MOST as u64;
    let waiting = tokio::spawn(join_all(most.map(|number| inbox.wait(lease(number))).collect::<Vec<_>>()));
    sleep(ms(10)).await;
    let refused = inbox.wait(lease(u64::MAX)).await;
    assert_eq!(refused.err().map(|error| error.kind()), Some(ErrorKind::Busy));
    waiting.abort();
}

#[tokio::test(start_paused = true)]
async fn silence_counts_from_the_first_look_and_a_sign_ends_it() {
    let server = Server::default();
    let inbox = server.inbox();
    server.shows(LeaseStatus::Silent);
    let began = Instant::now();
    assert_eq!(inbox.wait(lease(1)).await.ok(), Some(LeaseEnd::Free));
    assert!((LIFE..LIFE + ms(150)).contains(&began.elapsed()), "{:?}", began.elapsed());
    server.shows(LeaseStatus::Alive);
    assert!(timeout(LIFE * 4, inbox.wait(lease(2))).await.is_err());
}
