//! A log that no read needs is polled once a second, and proves nothing until it is woken.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use support::run;
use terrace_conformance::PlainNear;
use terrace_core::{Cache, TierSettings};
use terrace_testbed::shared_postgres;
use terrace_tier::{Backend, Follower, Notice};
use terrace_tier_postgres::Postgres;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

#[derive(Default)]
struct Reader {
    is_used: AtomicBool,
    heartbeats: AtomicU64,
    notices: Mutex<Vec<Notice>>,
    wake: Mutex<Option<Arc<Notify>>>,
}

impl Follower for Reader {
    fn notice(&self, notice: &Notice) {
        self.notices.lock().push(notice.clone());
    }

    fn heartbeat(&self, _at: Instant) {
        self.heartbeats.fetch_add(1, Ordering::SeqCst);
    }

    fn is_unused(&self) -> bool {
        !self.is_used.load(Ordering::SeqCst)
    }

    fn suspend(&self, wake: &Arc<Notify>) {
        *self.wake.lock() = Some(Arc::clone(wake));
    }
}

impl Reader {
    fn follow(handle: &Postgres) -> Arc<Self> {
        let reader = Arc::<Self>::default();
        let weak: Weak<Self> = Arc::downgrade(&reader);
        handle.log().expect("a log").follow("users", weak);
        reader
    }

    fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Ordering::SeqCst)
    }

    async fn until(&self, most: Duration, holds: impl Fn(&Self) -> bool) {
        let end = Instant::now() + most;
        while !holds(self) {
            assert!(Instant::now() < end, "not within {most:?}");
            sleep(Duration::from_millis(2)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_is_suspended_only_while_all_followers_are_unused_and_woken_by_any() {
    let url = shared_postgres().await.expect("a server");
    let handle = Postgres::new(&url).expect("a URL");
    let (first, second) = (Reader::follow(&handle), Reader::follow(&handle));
    first.is_used.store(true, Ordering::SeqCst);
    sleep(Duration::from_secs(7)).await;
    assert!(first.wake.lock().is_none() && second.wake.lock().is_none(), "one of them is used");
    first.is_used.store(false, Ordering::SeqCst);
    let suspended = |reader: &Reader| reader.wake.lock().is_some();
    first.until(Duration::from_secs(20), suspended).await;
    second.until(Duration::from_secs(1), suspended).await;

    let before = first.heartbeats();
    run(&url, "SELECT terrace.invalidate('users', NULL, terrace.key(7))").await;
    let of_key =
        |reader: &Reader| reader.notices.lock().iter().any(|notice| matches!(notice, Notice::Key { .. }));
    first.until(Duration::from_secs(5), of_key).await;
    assert_eq!(first.heartbeats(), before, "a suspended log proves nothing");

    let wake = second.wake.lock().take().expect("suspended");
    let woken_at = Instant::now();
    wake.notify_one();
    first.until(Duration::from_secs(2), |reader| reader.heartbeats() > before + 1).await;
    assert!(woken_at.elapsed() < Duration::from_millis(900), "{:?}", woken_at.elapsed());
    assert!(!first.notices.lock().iter().skip(1).any(|notice| *notice == Notice::Lost), "nothing was missed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_read_after_a_pause_serves_no_near_copy_and_the_next_ones_do() {
    let url = shared_postgres().await.expect("a server");
    let cache = || {
        let postgres = Postgres::new(&url).expect("a URL").budget(Duration::from_secs(10));
        let builder = Cache::<u64, u64, PlainNear>::builder("numbers").near(PlainNear::new());
        builder.store(postgres).build().expect("a cache")
    };
    let (reader, writer) = (cache(), cache());
    writer.put(&1, 1).await.expect("done");
    let near_hits = || reader.stats().tier("near").map_or(0, |near| near.hits);
    let reads_near = async || {
        let (before, end) = (near_hits(), Instant::now() + Duration::from_secs(10));
        while near_hits() == before {
            assert!(Instant::now() < end, "near must answer");
            reader.get(&1).await.expect("a record");
            sleep(Duration::from_millis(1)).await;
        }
    };
    reads_near().await;
    sleep(Duration::from_secs(8)).await;
    let before = near_hits();
    writer.put(&1, 2).await.expect("done");
    assert_eq!(reader.get(&1).await.expect("a record").expect("a value"), 2);
    assert_eq!(near_hits(), before, "the log was suspended");
    reads_near().await;
}
