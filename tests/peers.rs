//! Faults seen in the code of other caches, each as a test against real servers.
//!
//! | fault | test here | tests of the parts |
//! |---|---|---|
//! | 1 a promoted entry is dead on arrival near | [`fault_1_a_promoted_entry_is_a_near_hit_at_the_second_read`] | core `fences.rs` |
//! | 2 an outage of a tier fails the read | [`fault_2_a_dead_tier_fails_no_read_that_the_loader_can_answer`] | `outage.rs`, core `outages.rs` |
//! | 3 overlapping invalidations merge | [`fault_3_a_value_put_before_the_second_of_two_overlapping_invalidations_is_gone`] | core `fences.rs` |
//! | 4 a cancelled or panicking leader leaves waiters behind | [`fault_4_two_hundred_aborted_leaders_leave_nobody_behind`], [`fault_4_a_panicking_leader_hands_over`] | core `single_flight.rs` |
//! | 5 waiters of a failed load stampede | [`fault_5_the_waiters_of_a_failed_load_do_not_stampede`] | core `single_flight.rs` |
//! | 6 a life below one second becomes none | [`fault_6_a_life_below_a_second_ends_in_redis_to_the_millisecond`] | tier-redis `data.rs` |
//! | 7 a connection for each operation | [`fault_7_one_connection_serves_ten_thousand_operations`] | tier-redis `load.rs` |
//! | 8 receivers write to the shared tier | [`fault_8_another_process_that_reads_writes_nothing`] | core `fences.rs`; there are no messages to receive yet |
//! | 9 a reconnect that serves what was watched before | [`fault_9_after_a_reconnect_an_old_copy_is_not_read`] | `outage.rs`, core `outages.rs` |
//! | 10 an outage looks like a miss | [`fault_10_an_outage_is_counted_as_errors_and_trips`] | core `outages.rs` |
//! | 11 promotion multiplies lives | [`fault_11_no_tier_gives_a_promoted_entry_a_longer_life`] | core `fences.rs` |
//! | 12 a pattern delete in one command | [`fault_12_a_clear_scans_and_unlinks_in_bounded_batches`] | tier-redis `data.rs` |
//! | 13 a write during a load is overwritten by it | [`fault_13_a_put_and_a_remove_during_a_load_stand`] | core `fences.rs` |
//! | 14 each method has its own flights | [`fault_14_all_methods_share_one_load`] | core `single_flight.rs` |
//! | 15 hits pay for the flight machinery | [`fault_15_a_near_hit_boards_no_flight_and_makes_no_trip`] | `near_hit_allocates_nothing.rs` |
//! | 16 a partial delete is reported as done | [`fault_16_a_remove_that_a_tier_did_not_confirm_is_an_error`] | core `outages.rs` |
//! | 17 a reader gets another key's reply | [`fault_17_a_value_under_another_keys_name_is_a_miss`] | core codec tests, tier-redis `outage.rs` |
//! | 18 a loader that asks for its own key hangs | [`fault_18_a_loader_that_asks_for_its_own_key_gets_a_typed_error`] | core `single_flight.rs` |
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use support::{PATIENCE, calls_of, eventually, ms, raw_redis, redis_command};
use terrace::{BoxError, Cache, ErrorKind, Item, Memory, Near, NoNear, Redis, Source, TierSettings};
use terrace_testbed as testbed;
use terrace_testbed::{Proxy, shared_redis, unique_name};
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};

type Stack<N = Memory<String, u64>> = Cache<String, u64, N>;

/// Memory before the Redis at `url`: what one process has.
fn process(url: &str, namespace: &str) -> Stack {
    let redis = Redis::new(url).unwrap().budget(PATIENCE);
    Cache::builder(namespace).near(Memory::entries(1_000)).tier(redis).build().unwrap()
}

/// Redis alone.
fn bare(url: &str, namespace: &str) -> Stack<NoNear> {
    Cache::builder(namespace).tier(Redis::new(url).unwrap().budget(PATIENCE)).build().unwrap()
}

/// Loads that are counted and take a while.
#[derive(Clone, Default)]
struct Loads(Arc<AtomicU64>);

impl Loads {
    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn run<T: Send + 'static>(
        &self,
        outcome: impl FnOnce() -> Result<T, BoxError> + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>> {
        let count = Arc::clone(&self.0);
        Box::pin(async move {
            count.fetch_add(1, Ordering::SeqCst);
            sleep(ms(30)).await;
            outcome()
        })
    }
}

async fn name(start: &str) -> (String, String) {
    (shared_redis().await.unwrap(), unique_name(start))
}

#[tokio::test]
async fn fault_1_a_promoted_entry_is_a_near_hit_at_the_second_read() {
    let (url, namespace) = name("promoted").await;
    bare(&url, &namespace).put("k", 1).await.unwrap();
    sleep(ms(50)).await;
    let cache = process(&url, &namespace);
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Tier("redis"));
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Near);
}

#[tokio::test]
async fn fault_2_a_dead_tier_fails_no_read_that_the_loader_can_answer() {
    let server = testbed::Redis::start().await.unwrap();
    let cache = bare(&server.url(), "dead");
    cache.ready().await.unwrap();
    server.kill9().unwrap();
    for key in 0..100_u64 {
        let load = || async move { Ok::<_, BoxError>(key) };
        assert_eq!(cache.get_or_load(&key.to_string(), load).await.unwrap(), key);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_3_a_value_put_before_the_second_of_two_overlapping_invalidations_is_gone() {
    let (url, namespace) = name("overlap").await;
    let (cache, other) = (process(&url, &namespace), process(&url, &namespace));
    for round in 0..200 {
        cache.put("k", round).await.unwrap();
        let first = tokio::spawn({
            let cache = cache.clone();
            async move { cache.invalidate("k").await }
        });
        if round % 2 == 0 { &cache } else { &other }.put("k", round + 1_000).await.unwrap();
        cache.invalidate("k").await.unwrap();
        assert!(cache.get("k").await.unwrap().is_none(), "round {round}");
        first.await.unwrap().unwrap();
        assert!(cache.get("k").await.unwrap().is_none(), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_two_hundred_aborted_leaders_leave_nobody_behind() {
    let (url, namespace) = name("aborted").await;
    let (cache, loads) = (process(&url, &namespace), Loads::default());
    for round in 0..200_u64 {
        let leader = tokio::spawn({
            let (cache, loads) = (cache.clone(), loads.clone());
            async move { cache.get_or_load("k", || loads.run(|| Ok(7))).await }
        });
        sleep(Duration::from_micros(round * 10)).await;
        leader.abort();
    }
    let value = cache.get_or_load("k", || loads.run(|| Ok(7))).await.unwrap();
    assert_eq!(value, 7);
    cache.settled().await;
    assert!(loads.count() < 20, "{} loads", loads.count());
    assert_eq!(cache.stats().flights, 0);
    assert_eq!(bare(&url, &namespace).get("k").await.unwrap().unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_4_a_panicking_leader_hands_over() {
    let (url, namespace) = name("panic").await;
    let (cache, loads) = (process(&url, &namespace), Loads::default());
    let panics = || loads.run(|| panic!("a loader that panics on purpose"));
    let later = async {
        sleep(ms(10)).await;
        cache.get_or_load("k", || loads.run(|| Ok(7))).await
    };
    let (first, second) = tokio::join!(cache.get_or_load("k", panics), later);
    assert_eq!(second.unwrap(), 7);
    assert!(first.is_ok_and(|value| value == 7) || loads.count() == 2);
    cache.settled().await;
    assert_eq!(cache.stats().flights, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_5_the_waiters_of_a_failed_load_do_not_stampede() {
    let (url, namespace) = name("failed").await;
    let (cache, loads) = (process(&url, &namespace), Loads::default());
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let (cache, loads) = (cache.clone(), loads.clone());
            tokio::spawn(async move {
                let fails = || loads.run(|| Err::<u64, BoxError>("the origin is away".into()));
                cache.get_or_load("k", fails).await.map(|value| *value)
            })
        })
        .collect();
    for caller in callers {
        assert_eq!(caller.await.unwrap().unwrap_err().kind(), ErrorKind::Load);
    }
    assert_eq!(loads.count(), 1);
}

#[tokio::test]
async fn fault_6_a_life_below_a_second_ends_in_redis_to_the_millisecond() {
    let (url, namespace) = name("short").await;
    let (cache, mut raw) = (bare(&url, &namespace), raw_redis(&url).await);
    for life in [150, 999, 1_500] {
        let put_at = Instant::now();
        cache.put("k", Item::new(1).ttl(ms(life))).await.unwrap();
        let key = format!("terrace:{namespace}:k");
        let left: i64 = redis_command(&mut raw, &["PTTL", &key]).await;
        let least = i64::try_from(life).unwrap() - i64::try_from(put_at.elapsed().as_millis()).unwrap() - 20;
        assert!(left != -1 && left >= least && left <= i64::try_from(life).unwrap(), "{life}: {left}");
    }
    cache.put("k", Item::new(1).ttl(ms(150))).await.unwrap();
    sleep(ms(160)).await;
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_7_one_connection_serves_ten_thousand_operations() {
    let server = testbed::Redis::start().await.unwrap();
    let cache = bare(&server.url(), "many");
    cache.ready().await.unwrap();
    let calls: Vec<_> = (0..10_000_u64)
        .map(|call| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let key = (call % 2_000).to_string();
                match call % 3 {
                    0 => cache.put(&key, call % 2_000).await.map(drop).unwrap(),
                    1 => assert!(cache.get(&key).await.unwrap().is_none_or(|value| *value == call % 2_000)),
                    _ => {
                        let load = move || async move { Ok::<_, BoxError>(call % 2_000) };
                        assert_eq!(cache.get_or_load(&key, load).await.unwrap(), call % 2_000);
                    }
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(cache.stats().tier("redis").unwrap().errors, 0);
    let mut raw = raw_redis(&server.url()).await;
    let clients: String = redis_command(&mut raw, &["CLIENT", "LIST", "TYPE", "normal"]).await;
    assert_eq!(clients.lines().count(), 2, "the cache's and this test's: {clients}");
    let stats: String = redis_command(&mut raw, &["INFO", "stats"]).await;
    let made = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
    assert!(made.trim().parse::<u32>().unwrap() <= 4, "{made} connections were made");
}

#[tokio::test]
async fn fault_8_another_process_that_reads_writes_nothing() {
    let server = testbed::Redis::start().await.unwrap();
    let (writer, reader) = (process(&server.url(), "readers"), process(&server.url(), "readers"));
    for key in 0..20_u64 {
        writer.put(&key.to_string(), key).await.unwrap();
    }
    reader.ready().await.unwrap();
    let mut raw = raw_redis(&server.url()).await;
    let mut written = async || {
        let (mut scripts, mut sets) = (0, 0);
        for script in ["evalsha", "eval"] {
            scripts += calls_of(&mut raw, script).await;
        }
        for set in ["set", "del", "unlink"] {
            sets += calls_of(&mut raw, set).await;
        }
        (scripts, sets)
    };
    let before = written().await;
    for key in 0..20_u64 {
        assert_eq!(reader.get(&key.to_string()).await.unwrap().unwrap(), key);
        let load = async || Ok::<u64, BoxError>(0);
        assert_eq!(reader.get_or_load(&key.to_string(), load).await.unwrap(), key);
    }
    reader.settled().await;
    assert_eq!(written().await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_9_after_a_reconnect_an_old_copy_is_not_read() {
    let server = testbed::Redis::start().await.unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let postgres = terrace::Postgres::new(&testbed::shared_postgres().await.unwrap()).unwrap();
    let url = format!("redis://127.0.0.1:{}", proxy.port());
    let cache: Stack<NoNear> =
        Cache::builder("reconnect").tier(Redis::new(url).unwrap()).store(postgres).build().unwrap();
    cache.put("k", 1).await.unwrap();
    for round in 2..6 {
        eventually("a copy is in redis", async || {
            cache.get("k").await.unwrap();
            cache.settled().await;
            bare_has(&server.url(), round - 1).await
        })
        .await;
        proxy.refuse().await;
        proxy.cut().await;
        cache.put("k", round).await.unwrap();
        assert_eq!(cache.get("k").await.unwrap().unwrap(), round);
        proxy.accept().await;
        let back = Instant::now();
        while back.elapsed() < ms(700) {
            assert_eq!(cache.get("k").await.unwrap().unwrap(), round);
            assert_eq!(
                cache.get_many(&["k".to_owned()]).await.into_values().unwrap(),
                [cache.get("k").await.unwrap()]
            );
            sleep(ms(7)).await;
        }
    }
}

/// Whether Redis itself has this value.
async fn bare_has(url: &str, value: u64) -> bool {
    let mut raw = raw_redis(url).await;
    let cell: Option<Vec<u8>> = redis_command(&mut raw, &["GET", "terrace:reconnect:k"]).await;
    cell.is_some_and(|cell| cell.first() == Some(&b'V') && cell.last() == Some(&u8::try_from(value).unwrap()))
}

#[tokio::test]
async fn fault_10_an_outage_is_counted_as_errors_and_trips() {
    let server = testbed::Redis::start().await.unwrap();
    let cache = bare(&server.url(), "trips");
    cache.ready().await.unwrap();
    let redis = || cache.stats().tier("redis").unwrap().clone();
    assert!(cache.get("k").await.unwrap().is_none());
    assert_eq!((redis().misses, redis().errors, redis().lost), (1, 0, false), "an honest miss");
    server.kill9().unwrap();
    for _ in 0..100 {
        assert!(cache.get("k").await.unwrap().is_none());
    }
    assert!(redis().lost && redis().errors >= 1);
    assert!(redis().errors < 20, "a lost tier is asked now and then, not by every read: {:?}", redis());
}

#[tokio::test]
async fn fault_11_no_tier_gives_a_promoted_entry_a_longer_life() {
    let (url, namespace) = name("lives").await;
    let postgres = terrace::Postgres::new(&testbed::shared_postgres().await.unwrap()).unwrap();
    let far: Stack<NoNear> =
        Cache::builder(namespace.clone()).tier(postgres.clone().budget(PATIENCE)).build().unwrap();
    far.ready().await.unwrap();
    let put_at = Instant::now();
    far.put("k", Item::new(1).ttl(ms(2_000))).await.unwrap();
    sleep(ms(500)).await;
    let near = Memory::entries(10);
    let cache: Stack = Cache::builder(namespace.clone())
        .near(near)
        .tier(Redis::new(&url).unwrap().budget(PATIENCE))
        .tier(postgres.budget(PATIENCE))
        .build()
        .unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Tier("postgres"));
    cache.settled().await;
    let mut raw = raw_redis(&url).await;
    let left: i64 = redis_command(&mut raw, &["PTTL", &format!("terrace:{namespace}:k")]).await;
    assert!((1..=1_500).contains(&left), "in redis it has {left} ms left");
    sleep((ms(2_010)).saturating_sub(put_at.elapsed())).await;
    assert!(cache.get("k").await.unwrap().is_none());
}

#[tokio::test]
async fn fault_12_a_clear_scans_and_unlinks_in_bounded_batches() {
    let server = testbed::Redis::start().await.unwrap();
    let cache = bare(&server.url(), "clear");
    for put in cache.put_many((0..5_000_u64).map(|key| (key.to_string(), key))).await {
        put.unwrap();
    }
    let mut raw = raw_redis(&server.url()).await;
    cache.clear().await.unwrap();
    eventually("the memory is free", async || {
        let left: u64 = redis_command(&mut raw, &["DBSIZE"]).await;
        left < 10
    })
    .await;
    let (scans, unlinks) = (calls_of(&mut raw, "scan").await, calls_of(&mut raw, "unlink").await);
    assert!(scans >= 8 && unlinks >= 8, "5,000 keys in batches: {scans} SCANs, {unlinks} UNLINKs");
    for never in ["keys", "flushdb", "flushall"] {
        assert_eq!(calls_of(&mut raw, never).await, 0, "{never}");
    }
}

/// Starts a load of `k` that gives 1, and ends it once `write`, begun during it, is done.
async fn load_around(cache: &Stack, write: impl Future<Output = ()>) -> u64 {
    let (began, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (Arc::clone(&began), Arc::clone(&go));
    let load = cache.get_or_load("k", || async move {
        tell.notify_one();
        wait.notified().await;
        Ok::<_, BoxError>(1)
    });
    let write = async {
        began.notified().await;
        write.await;
        go.notify_one();
    };
    let (loaded, ()) = tokio::join!(load, write);
    cache.settled().await;
    *loaded.unwrap()
}

#[tokio::test]
async fn fault_13_a_put_and_a_remove_during_a_load_stand() {
    let (url, namespace) = name("during").await;
    let (here, there) = (process(&url, &namespace), process(&url, &namespace));
    for writer in [&here, &there] {
        assert_eq!(load_around(&here, async { writer.put("k", 2).await.map(drop).unwrap() }).await, 1);
        assert_eq!(bare(&url, &namespace).get("k").await.unwrap().unwrap(), 2);
        assert_eq!(here.get("k").await.unwrap().unwrap(), 2);
        here.invalidate("k").await.unwrap();
        assert_eq!(load_around(&here, async { writer.remove("k").await.map(drop).unwrap() }).await, 1);
        assert!(bare(&url, &namespace).get("k").await.unwrap().is_none());
        assert!(here.get("k").await.unwrap().is_none());
    }
}

#[tokio::test]
async fn fault_14_all_methods_share_one_load() {
    let (url, namespace) = name("methods").await;
    let (cache, loads) = (process(&url, &namespace), Loads::default());
    let many = ["k".to_owned()];
    let grouped = cache.get_or_load_many(&many, |missing| {
        let load = loads.run(|| Ok(()));
        async move { load.await.map(|()| missing.zip([7_u64])) }
    });
    let (one, with, many) = tokio::join!(
        cache.get_or_load("k", || loads.run(|| Ok(7))),
        cache.get_or_load_with("k", |_| loads.run(|| Ok(Some(7)))),
        grouped,
    );
    assert_eq!((*one.unwrap(), *with.unwrap().unwrap()), (7, 7));
    assert_eq!(*many.into_values().unwrap()[0].clone().unwrap(), 7);
    assert_eq!(loads.count(), 1);
}

#[tokio::test]
async fn fault_15_a_near_hit_boards_no_flight_and_makes_no_trip() {
    let server = testbed::Redis::start().await.unwrap();
    let cache = process(&server.url(), "hits");
    cache.put("k", 7).await.unwrap();
    cache.settled().await;
    let mut raw = raw_redis(&server.url()).await;
    let commands = async |raw: &mut _| -> u64 {
        let stats: String = redis_command(raw, &["INFO", "stats"]).await;
        let line = stats.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.unwrap().trim().parse().unwrap()
    };
    let before = commands(&mut raw).await;
    for _ in 0..1_000 {
        assert_eq!(cache.get("k").await.unwrap().unwrap(), 7);
        assert_eq!(cache.get_or_load("k", async || Ok::<u64, BoxError>(0)).await.unwrap(), 7);
        assert_eq!(cache.stats().flights, 0);
    }
    assert_eq!(commands(&mut raw).await, before + 1, "this test's own INFO");
}

#[tokio::test]
async fn fault_16_a_remove_that_a_tier_did_not_confirm_is_an_error() {
    let server = testbed::Redis::start().await.unwrap();
    let postgres = terrace::Postgres::new(&testbed::shared_postgres().await.unwrap()).unwrap();
    let cache: Stack<NoNear> =
        Cache::builder("partial").tier(Redis::new(server.url()).unwrap()).store(postgres).build().unwrap();
    cache.put("k", 1).await.unwrap();
    cache.put("l", 1).await.unwrap();
    server.pause().unwrap();
    let error = cache.remove("k").await.unwrap_err();
    assert!(error.kind() == ErrorKind::Partial && error.to_string().contains("redis"), "{error:?}");
    for result in cache.remove_many(&["l".to_owned(), "m".to_owned()]).await {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::Partial);
    }
    assert!(cache.get("k").await.unwrap().is_none(), "the store has removed it");
    server.resume().unwrap();
}

#[tokio::test]
async fn fault_17_a_value_under_another_keys_name_is_a_miss() {
    let (url, namespace) = name("swapped").await;
    let (cache, mut raw) = (bare(&url, &namespace), raw_redis(&url).await);
    let other = bare(&url, &format!("{namespace}_other"));
    cache.put("a", 1).await.unwrap();
    cache.put("b", 2).await.unwrap();
    other.put("b", 3).await.unwrap();
    for (source, what) in [("a", namespace.clone()), ("b", format!("{namespace}_other"))] {
        let before = cache.stats().tier("redis").unwrap().undecodable;
        let (from, to) = (format!("terrace:{what}:{source}"), format!("terrace:{namespace}:b"));
        // The bytes of another key, with the header of the namespace that they are read in.
        let own: Vec<u8> = redis_command(&mut raw, &["GET", &to]).await;
        let foreign: Vec<u8> = redis_command(&mut raw, &["GET", &from]).await;
        let cell = [&own[..terrace::HEADER_LEN], &foreign[terrace::HEADER_LEN..]].concat();
        let mut set = redis::cmd("SET");
        set.arg(&to).arg(cell).exec_async(&mut raw).await.unwrap();
        assert!(cache.get("b").await.unwrap().is_none(), "{what}");
        assert_eq!(cache.stats().tier("redis").unwrap().undecodable, before + 1);
        assert_eq!(cache.get_or_load("b", async || Ok::<u64, BoxError>(2)).await.unwrap(), 2);
        cache.settled().await;
        assert_eq!(cache.get("b").await.unwrap().unwrap(), 2, "it healed");
    }
    assert_eq!(cache.get("a").await.unwrap().unwrap(), 1);
}

#[tokio::test]
async fn fault_18_a_loader_that_asks_for_its_own_key_gets_a_typed_error() {
    async fn check<N: Near<String, u64>>(cache: Stack<N>) {
        let inner = cache.clone();
        let asks = move || async move {
            let error = inner.get_or_load("k", async || Ok::<u64, BoxError>(1)).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Reentrant);
            Ok::<u64, BoxError>(2)
        };
        assert_eq!(cache.get_or_load("k", asks).await.unwrap(), 2);
    }
    let (url, namespace) = name("reentrant").await;
    check(process(&url, &namespace)).await;
    check(bare(&url, &format!("{namespace}_bare"))).await;
}
