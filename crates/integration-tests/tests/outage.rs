//! Whole stacks on servers that are killed, stopped, restarted, or away at the start.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use support::{capture_log, eventually, logged, ms};
use terrace::{BoxError, Cache, ErrorKind, Memory, Postgres, Redis, Source, TierSettings};
use terrace_testbed as testbed;
use terrace_testbed::{shared_postgres, unique_name};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

const KEYS: u64 = 2_000;
const READERS: u64 = 50;
/// Longer than the default of 50 ms, so that a server on a busy machine does not count as lost. The
/// program `outage` of terrace-bench-harness measures the default.
const BUDGET: Duration = Duration::from_millis(400);

type Stack = Cache<u64, String>;

fn value_of(key: u64) -> String {
    format!("value of {key}, {}", "and so on ".repeat(15))
}

/// A cache without a near tier, with Redis before a Postgres that has all keys.
async fn stack(redis: &testbed::Redis) -> Stack {
    capture_log();
    let postgres = Postgres::new(&shared_postgres().await.unwrap()).unwrap();
    let cache: Stack = Cache::builder(unique_name("outage"))
        .tier(Redis::new(redis.url()).unwrap().budget(BUDGET))
        .store(postgres)
        .build()
        .unwrap();
    for put in cache.put_many((0..KEYS).map(|key| (key, value_of(key)))).await {
        put.unwrap();
    }
    cache
}

fn hits(cache: &Stack, tier: &str) -> u64 {
    cache.stats().tier(tier).unwrap().hits
}

fn times_lost_and_back(cache: &Stack, tier: &str) -> (usize, usize) {
    let count = |what| logged(&[cache.namespace(), &format!("tier=\"{tier}\""), what]).len();
    (count("the tier does not serve"), count("the tier is back"))
}

async fn redis_is_used_again(cache: &Stack) {
    eventually("redis is used again", async || {
        let before = hits(cache, "redis");
        for key in 0..50 {
            assert_eq!(*cache.get(&key).await.unwrap().unwrap(), value_of(key));
        }
        cache.settled().await;
        hits(cache, "redis") >= before + 50
    })
    .await;
    assert!(!cache.stats().tier("redis").unwrap().lost);
}

/// Tasks that read, and check every answer, until they are stopped.
struct Readers {
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<(u64, Duration)>>,
}

impl Readers {
    fn start(cache: &Stack) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let tasks = (0..READERS).map(|reader| {
            let (cache, stop) = (cache.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let (mut reads, mut longest) = (0, Duration::ZERO);
                let mut key = reader * 37;
                while !stop.load(Ordering::Relaxed) {
                    key = (key * 1_103_515_245 + 12_345) % KEYS;
                    let began = Instant::now();
                    let found = cache.get(&key).await.expect("a cache tier fails no read");
                    longest = longest.max(began.elapsed());
                    assert_eq!(*found.expect("the store has every key"), value_of(key));
                    reads += 1;
                }
                (reads, longest)
            })
        });
        let tasks = tasks.collect();
        Self { stop, tasks }
    }

    /// The number of reads, and the time of the longest.
    async fn end(self) -> (u64, Duration) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut reads, mut longest) = (0, Duration::ZERO);
        for task in self.tasks {
            let (more, long) = task.await.unwrap();
            reads += more;
            longest = longest.max(long);
        }
        (reads, longest)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_fails_no_read_and_is_used_after_its_restart() {
    let redis = testbed::Redis::start().await.unwrap();
    let cache = stack(&redis).await;
    let readers = Readers::start(&cache);
    eventually("redis answers", async || hits(&cache, "redis") > 500).await;
    redis.kill9().unwrap();
    sleep(ms(1_000)).await;
    assert!(cache.stats().tier("redis").unwrap().lost);
    let (reads, longest) = readers.end().await;
    assert!(reads > READERS && longest < BUDGET + ms(1_000), "{reads} reads, the longest {longest:?}");
    let readers = Readers::start(&cache);
    redis.restart().await.unwrap();
    redis_is_used_again(&cache).await;
    readers.end().await;
    assert_eq!(times_lost_and_back(&cache, "redis"), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_redis_fails_no_read_and_holds_none_beyond_its_budget() {
    let redis = testbed::Redis::start().await.unwrap();
    let cache = stack(&redis).await;
    let readers = Readers::start(&cache);
    eventually("redis answers", async || hits(&cache, "redis") > 500).await;
    redis.pause().unwrap();
    // This is long enough for the client to give up the connection too.
    sleep(ms(1_500)).await;
    assert!(cache.stats().tier("redis").unwrap().lost);
    let (reads, longest) = readers.end().await;
    assert!(reads > READERS && longest < BUDGET + ms(1_000), "{reads} reads, the longest {longest:?}");
    let readers = Readers::start(&cache);
    redis.resume().unwrap();
    redis_is_used_again(&cache).await;
    readers.end().await;
    assert_eq!(times_lost_and_back(&cache, "redis"), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_away_at_start_is_used_when_it_comes() {
    let redis = testbed::Redis::away().await.unwrap();
    let cache = stack(&redis).await;
    let readers = Readers::start(&cache);
    sleep(ms(300)).await;
    assert_eq!(hits(&cache, "redis"), 0);
    redis.restart().await.unwrap();
    redis_is_used_again(&cache).await;
    let (_, longest) = readers.end().await;
    assert!(longest < BUDGET + ms(1_000), "{longest:?}");
    assert_eq!(times_lost_and_back(&cache, "redis"), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_put_while_redis_was_stopped_is_what_is_read_when_it_goes_on() {
    let redis = testbed::Redis::start().await.unwrap();
    let cache = stack(&redis).await;
    redis_is_used_again(&cache).await;
    redis.pause().unwrap();
    for key in 0..50 {
        cache.put(&key, format!("new {key}")).await.unwrap();
        assert_eq!(*cache.get(&key).await.unwrap().unwrap(), format!("new {key}"));
    }
    redis.resume().unwrap();
    let back = Instant::now();
    // Redis keeps the old copies until it confirms a tombstone or the late write.
    while back.elapsed() < ms(1_500) {
        for key in 0..50 {
            assert_eq!(*cache.get(&key).await.unwrap().unwrap(), format!("new {key}"));
        }
        sleep(ms(10)).await;
    }
    eventually("the copies are read from redis again", async || {
        let found = cache.get(&7).await.unwrap().unwrap();
        *found == "new 7" && found.served().from == Source::Tier("redis")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_postgres_store_that_is_away_is_a_typed_error_and_serves_again_after_its_restart() {
    capture_log();
    let (redis, server) = (testbed::Redis::start().await.unwrap(), testbed::Postgres::start().await.unwrap());
    let postgres = Postgres::new(&server.url()).unwrap();
    let cache: Stack = Cache::builder(unique_name("outage"))
        .tier(Redis::new(redis.url()).unwrap().budget(BUDGET))
        .store(postgres)
        .build()
        .unwrap();
    cache.put(&1, value_of(1)).await.unwrap();
    cache.put(&2, value_of(2)).await.unwrap();
    eventually("a copy is in redis", async || {
        cache.get(&1).await.unwrap().unwrap().served().from == Source::Tier("redis")
    })
    .await;
    cache.invalidate(&2).await.unwrap();
    server.kill9().unwrap();
    for _ in 0..5 {
        let error = cache.get(&2).await.unwrap_err();
        assert_eq!((error.kind(), error.tier()), (ErrorKind::Unavailable, Some("postgres")), "{error}");
        let error = cache.put(&2, "lost".to_owned()).await.unwrap_err();
        assert!(matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Unknown), "{error:?}");
        let error = cache.get_or_load(&3, async || Ok::<_, BoxError>(value_of(3))).await.unwrap_err();
        assert_eq!((error.kind(), error.tier()), (ErrorKind::Unavailable, Some("postgres")), "{error}");
        assert_eq!(*cache.get(&1).await.unwrap().unwrap(), value_of(1), "its copy is in redis");
    }
    server.restart().await.unwrap();
    eventually("the store serves again", async || cache.get(&2).await.is_ok()).await;
    assert_eq!(*cache.get(&2).await.unwrap().unwrap(), value_of(2));
    cache.put(&2, "again".to_owned()).await.unwrap();
    assert_eq!(*cache.get(&2).await.unwrap().unwrap(), "again");
    assert_eq!(times_lost_and_back(&cache, "postgres"), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_memory_and_redis_alone_the_loader_answers_while_redis_is_away() {
    capture_log();
    let redis = testbed::Redis::start().await.unwrap();
    let cache: Stack = Cache::builder(unique_name("outage"))
        .near(Memory::entries(100))
        .tier(Redis::new(redis.url()).unwrap().budget(BUDGET))
        .build()
        .unwrap();
    let load = async |key: u64| {
        cache.get_or_load(&key, move || async move { Ok::<_, BoxError>(value_of(key)) }).await.unwrap()
    };
    assert_eq!(load(1).await.served().from, Source::Loader);
    cache.settled().await;
    redis.kill9().unwrap();
    assert_eq!(load(1).await.served().from, Source::Near, "the copy that was confirmed before stays");
    let began = Instant::now();
    for key in 2..50 {
        assert_eq!(*load(key).await, value_of(key));
    }
    assert!(began.elapsed() < ms(5_000), "{:?}", began.elapsed());
    redis.restart().await.unwrap();
    let mut key = 1_000;
    eventually("redis takes fills again", async || {
        key += 1;
        load(key).await;
        cache.settled().await;
        cache.stats().tier("redis").unwrap().fills > 1
    })
    .await;
    assert_eq!(times_lost_and_back(&cache, "redis"), (1, 1));
}
