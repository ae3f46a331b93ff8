//! The levels `Bounded` and `Strong` over real servers, with writers that notify no other process.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

use std::time::{Duration, Instant};

use terrace::{Cache, Level, Memory, Postgres, Redis, Source, TierSettings, Ttl};
use terrace_testbed::{shared_postgres, shared_redis, unique_name};

const BOUND: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

type Numbers = Cache<u64, u64>;

/// The servers of one test, and a namespace of its own on them.
struct Servers {
    database: String,
    redis: String,
    prefix: String,
    namespace: String,
}

impl Servers {
    async fn start() -> Self {
        let (database, redis) = (shared_postgres().await.expect("a database"), shared_redis().await);
        Self {
            database,
            redis: redis.expect("a Redis"),
            prefix: unique_name("levels"),
            namespace: unique_name("numbers"),
        }
    }

    fn postgres(&self) -> terrace::TierConfig {
        Postgres::new(&self.database).expect("a URL").budget(PATIENCE)
    }

    /// The cache of a process with a near tier and Redis.
    async fn reader(&self, level: Level) -> Numbers {
        let redis = Redis::builder(&self.redis).prefix(&self.prefix).build().expect("a URL");
        let builder = Cache::builder(&self.namespace).near(Memory::entries(1_000)).expire(Ttl::secs(3600));
        let reader = builder.level(level).tier(redis).store(self.postgres()).build().expect("a cache");
        reader.ready().await.expect("ready");
        reader
    }

    /// The cache of a process with the store alone: others learn of its commits from Postgres only.
    async fn writer(&self, level: Level) -> Numbers {
        let writer = Cache::builder(&self.namespace).level(level).store(self.postgres());
        let writer = writer.build().expect("a cache");
        writer.ready().await.expect("ready");
        writer
    }
}

async fn read(cache: &Numbers) -> (u64, Source) {
    let value = cache.get(&1).await.expect("an answer").expect("a number");
    (*value, value.served().from)
}

/// Reads until the number is at least `expected`, and returns the time from `since`, the commit, to that
/// read. A read that was called more than the bound after the commit must not give an older number.
async fn follow(reader: &Numbers, expected: u64, since: Instant) -> Duration {
    loop {
        let call = since.elapsed();
        let (number, from) = read(reader).await;
        if number >= expected {
            return since.elapsed();
        }
        assert!(call <= BOUND, "{number} from {from:?}, {call:?} after {expected} was committed");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn hits(cache: &Numbers, tier: &str) -> u64 {
    cache.stats().tier(tier).map_or(0, |tier| tier.hits)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_is_read_within_the_bound_and_near_serves_the_rest() {
    let (servers, level) = (Servers::start().await, Level::Bounded(BOUND));
    let (reader, writer) = (servers.reader(level).await, servers.writer(level).await);
    let mut took = Vec::new();
    for number in 0..50 {
        writer.put(&1, number).await.expect("a put");
        took.push(follow(&reader, number, Instant::now()).await);
    }
    took.sort_unstable();
    let (before, began) = (hits(&reader, "postgres"), Instant::now());
    let mut reads = 0_u64;
    while began.elapsed() < 3 * BOUND {
        assert_eq!(read(&reader).await.0, 49);
        tokio::time::sleep(Duration::from_millis(1)).await;
        reads += 1;
    }
    let store_reads = hits(&reader, "postgres") - before;
    println!(
        "read after p50 {:.1?}, at most {:.1?}; then {store_reads} of {reads} reads asked the store",
        took[25], took[49]
    );
    assert!(
        store_reads <= reads / 10,
        "the relay must prove copies: {store_reads} of {reads} reads asked the store"
    );
    assert!(hits(&reader, "near") > reads / 2, "near must serve most reads");

    // The near tier of another process has no copy yet.
    let second = servers.reader(level).await;
    let began = Instant::now();
    while read(&second.with(Level::Bounded(BOUND))).await.1 != Source::Near {
        assert!(began.elapsed() < PATIENCE, "the near tier must answer in the end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_stands_still_makes_nothing_older_than_the_bound() {
    let (mut servers, level) = (Servers::start().await, Level::Bounded(BOUND));
    let redis = terrace_testbed::Redis::start().await.expect("a Redis");
    servers.redis = redis.url();
    let (reader, writer) = (servers.reader(level).await, servers.writer(level).await);
    writer.put(&1, 0).await.expect("a put");
    follow(&reader, 0, Instant::now()).await;
    for number in 1..4 {
        tokio::time::sleep(Duration::from_millis(300)).await;
        redis.pause().expect("a stopped Redis");
        writer.put(&1, number).await.expect("a put");
        let took = follow(&reader, number, Instant::now()).await;
        println!("Redis stopped: read after {took:.1?}");
        redis.resume().expect("a Redis that goes on");
        let resumed = Instant::now();
        while resumed.elapsed() < BOUND {
            assert_eq!(read(&reader).await.0, number, "the copy in Redis is older");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_table_is_read_within_the_bound_with_redis_and_without() {
    let servers = Servers::start().await;
    let pool = sqlx::PgPool::connect(&servers.database).await.expect("a pool");
    let sql = async |sql: &'static str| _ = sqlx::raw_sql(sql).execute(&pool).await.expect(sql);
    sql("CREATE TABLE numbers (id bigint PRIMARY KEY, number bigint NOT NULL)").await;
    sql("INSERT INTO numbers VALUES (1, 0)").await;
    let mut watched = false;
    for with_redis in [false, true] {
        let postgres = Postgres::new(&servers.database).expect("a URL");
        let loader = pool.clone();
        let builder = Numbers::builder("numbers").level(Level::Bounded(BOUND)).near(Memory::entries(1_000));
        let builder = builder.expire(Ttl::secs(3600)).watch_origin(&postgres).loader(move |id: u64| {
            let pool = loader.clone();
            async move {
                let number = sqlx::query_scalar("SELECT number FROM numbers WHERE id = $1").bind(id as i64);
                number.fetch_one(&pool).await.map(|number: i64| number as u64)
            }
        });
        let redis = || Redis::builder(&servers.redis).prefix(&servers.prefix).build().expect("a URL");
        let reader =
            if with_redis { builder.tier(redis()).build() } else { builder.build() }.expect("a cache");
        reader.ready().await.expect("ready");
        if !watched {
            let table_exists =
                "SELECT count(*) FROM pg_tables WHERE schemaname = 'terrace' AND tablename = 'watches'";
            while sqlx::query_scalar::<_, i64>(table_exists).fetch_one(&pool).await.expect("a count") == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            sql("SELECT terrace.watch('numbers', 'numbers', '{id}')").await;
            watched = true;
        }
        sql("UPDATE numbers SET number = 0").await;
        tokio::time::sleep(BOUND).await;
        let mut took = Vec::new();
        for number in 1..=30 {
            sql("UPDATE numbers SET number = number + 1").await;
            took.push(follow(&reader, number, Instant::now()).await);
        }
        took.sort_unstable();
        let (loads, began) = (reader.stats().loads, Instant::now());
        while began.elapsed() < 2 * BOUND {
            assert_eq!(read(&reader).await.0, 30);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let later_loads = reader.stats().loads - loads;
        println!(
            "redis {with_redis}: read after p50 {:.1?}, at most {:.1?}; then {later_loads} loads",
            took[15], took[29]
        );
        assert!(later_loads <= 5, "the log must prove near copies: {later_loads} loads");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strong_reads_see_every_commit_at_once() {
    let servers = Servers::start().await;
    let (reader, writer) = (servers.reader(Level::Strong).await, servers.writer(Level::Strong).await);
    let fenced = reader.with(Level::Fenced);
    for number in 0..200 {
        writer.put(&1, number).await.expect("a put");
        assert_eq!(read(&reader).await, (number, Source::Store("postgres")));
        let many = reader.get_many(&[1, 2]).await.into_values().expect("answers");
        assert!(many[0].as_deref() == Some(&number) && many[1].is_none());
        assert!(read(&fenced).await.0 <= number);
    }
    writer.remove(&1).await.expect("a removal");
    assert!(!reader.contains(&1).await.expect("an answer"));
    // These loads are of another key: a late notice of the removal may restart a load of the first key.
    let load = |reader: Numbers| async move {
        let number = reader.get_or_load(&2, || async { Ok::<_, std::io::Error>(7) }).await;
        *number.expect("a number")
    };
    let loads: Vec<_> = (0..100).map(|_| tokio::spawn(load(reader.clone()))).collect();
    for number in loads {
        assert_eq!(number.await.expect("a load"), 7);
    }
    assert_eq!(reader.stats().loads, 1);
}
