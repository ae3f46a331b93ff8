//! How large the tables in Postgres become under constant writes:
//! `cargo run --release -p terrace-bench-harness --bin table_sizes -- expiring 5` and `.. -- steady 30`, minutes last.
//!
//! - `expiring`: 5,000 puts a second of copies that live for one second. The table may grow by 5 % from the
//!   end of the first minute to the end of the last one.
//! - `steady`: 1,000 puts a second of records and 1,000 reads a second of copies, over 100,000 keys each.
//!   At the end the sizes are compared with those after VACUUM FULL.
//!
//! The server is private and shares this machine with the writers. It does not wait for the disk.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection, PgConnection};
use terrace::{BoxError, Cache, MissingKeys, Postgres, TierSettings, Ttl};
use terrace_testbed as testbed;
use tokio::{sync::Mutex, time::MissedTickBehavior};

type Stack = Cache<u64, String>;
type Outcome<T> = Result<T, Box<dyn Error>>;

const KEYS: u64 = 100_000;
const WRITERS: u64 = 8;
/// The keys of one call. Single calls would measure the machine and not the tables.
const AT_ONCE: u64 = 10;
const TABLES: [&str; 3] = ["records", "cache_entries", "outbox"];
const MINUTE: Duration = Duration::from_secs(60);
const BODY: usize = 300;
/// A busy machine must not make the tier a lost one.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the writers did in the current minute.
#[derive(Default)]
struct Tally {
    done: AtomicU64,
    failed: AtomicU64,
    latencies: Mutex<Vec<Duration>>,
    over: AtomicBool,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let scenario = arguments.next().unwrap_or_default();
    let minutes: usize = arguments.next().as_deref().unwrap_or("5").parse()?;
    let server = testbed::Postgres::start().await?;
    let tally = Arc::new(Tally::default());
    match scenario.as_str() {
        "expiring" => expiring(&server, minutes, &tally).await,
        "steady" => steady(&server, minutes, &tally).await,
        _ => Err("usage: table_sizes expiring|steady [minutes]".into()),
    }
}

async fn expiring(server: &testbed::Postgres, minutes: usize, tally: &Arc<Tally>) -> Outcome<()> {
    let cache: Stack = Cache::builder("expiring")
        .tier(Postgres::new(&server.url())?.budget(PATIENCE))
        .expire(Ttl::of(Duration::from_secs(1)))
        .build()?;
    let every = Duration::from_secs(1).mul_f64((WRITERS * AT_ONCE) as f64 / 5_000.0);
    for writer in 0..WRITERS {
        let cache = cache.clone();
        let mut number = writer << 40;
        spawn(tally, every, AT_ONCE, move |_| {
            let (cache, from) = (cache.clone(), number);
            number += AT_ONCE;
            async move {
                let puts = (from..from + AT_ONCE).map(|key| (key, body(key)));
                cache.put_many(puts).await.into_iter().all(|put| put.is_ok())
            }
        });
    }
    let mut sizes = Vec::new();
    for minute in 1..=minutes {
        tokio::time::sleep(MINUTE).await;
        sizes.push(report(server, minute, tally).await?[1]);
    }
    let growth = sizes[sizes.len() - 1] as f64 / sizes[0] as f64 - 1.0;
    println!("the copies grew by {:.1} % from minute 1 to minute {minutes}", growth * 100.0);
    if growth <= 0.05 { Ok(()) } else { Err("cleaning does not keep up".into()) }
}

async fn steady(server: &testbed::Postgres, minutes: usize, tally: &Arc<Tally>) -> Outcome<()> {
    let postgres = Postgres::new(&server.url())?;
    let records: Stack = Cache::builder("records").store(postgres.clone()).build()?;
    let copies: Stack = Cache::builder("copies")
        .tier(postgres.budget(PATIENCE))
        .expire(Ttl::of(Duration::from_secs(60)))
        .build()?;
    for from in (0..KEYS).step_by(1_000) {
        let puts = (from..from + 1_000).map(|key| (key, body(key)));
        for put in records.put_many(puts).await {
            put?;
        }
    }
    let every = Duration::from_secs(1).mul_f64((WRITERS * AT_ONCE) as f64 / 1_000.0);
    for _ in 0..WRITERS {
        let (records, copies) = (records.clone(), copies.clone());
        spawn(tally, every, AT_ONCE, move |keys| {
            let records = records.clone();
            async move {
                let puts = keys.into_iter().map(|key| (key, body(key)));
                records.put_many(puts).await.into_iter().all(|put| put.is_ok())
            }
        });
        let reads = Arc::new(Tally::default());
        spawn(&reads, every, AT_ONCE, move |keys| {
            let copies = copies.clone();
            async move {
                let load = |missing: MissingKeys<u64>| async move {
                    Ok::<_, BoxError>(missing.keys().iter().map(|key| (*key, body(*key))).collect::<Vec<_>>())
                };
                copies.get_or_load_many(&keys, load).await.into_iter().all(|read| read.is_ok())
            }
        });
    }
    for minute in 1..=minutes {
        tokio::time::sleep(MINUTE).await;
        report(server, minute, tally).await?;
    }
    tally.over.store(true, Ordering::Relaxed);
    let before = sizes(server).await?;
    let mut session = PgConnection::connect(&server.superuser_url_of("terrace_test_app")).await?;
    for table in TABLES {
        let full = format!("VACUUM FULL terrace.{table}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(full)).execute(&mut session).await?;
    }
    let after = sizes(server).await?;
    for (index, table) in TABLES.iter().enumerate() {
        let ratio = before[index] as f64 / after[index] as f64;
        println!("{table}: {:.2}x of its size after VACUUM FULL", ratio);
    }
    Ok(())
}

/// Runs `work` on random keys at a steady rate until the tally is over.
fn spawn<F>(
    tally: &Arc<Tally>,
    every: Duration,
    counts: u64,
    mut work: impl FnMut(Vec<u64>) -> F + Send + 'static,
) where
    F: Future<Output = bool> + Send,
{
    let tally = Arc::clone(tally);
    tokio::spawn(async move {
        let mut random =
            Random(Instant::now().elapsed().as_nanos() as u64 ^ std::ptr::from_ref(&tally) as u64);
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while !tally.over.load(Ordering::Relaxed) {
            ticks.tick().await;
            let start = Instant::now();
            let keys = (0..AT_ONCE).map(|_| random.next() % KEYS).collect();
            if work(keys).await {
                tally.done.fetch_add(counts, Ordering::Relaxed);
            } else {
                tally.failed.fetch_add(counts, Ordering::Relaxed);
            }
            tally.latencies.lock().await.push(start.elapsed());
        }
    });
}

/// Prints what happened in the last minute, and gives the sizes of the tables in bytes.
async fn report(server: &testbed::Postgres, minute: usize, tally: &Tally) -> Outcome<[i64; 3]> {
    let mut latencies = std::mem::take(&mut *tally.latencies.lock().await);
    latencies.sort_unstable();
    let at = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    let (done, failed) = (tally.done.swap(0, Ordering::Relaxed), tally.failed.swap(0, Ordering::Relaxed));
    let sizes = sizes(server).await?;
    let [records, copies, outbox] = sizes.map(|bytes| bytes as f64 / 1e6);
    let mut session = PgConnection::connect(&server.superuser_url_of("terrace_test_app")).await?;
    let hot: Vec<String> = sqlx::query_scalar(
        "SELECT relname || ' ' || (100 * n_tup_hot_upd / greatest(n_tup_upd, 1)) || ' %' \
         FROM pg_stat_user_tables WHERE relname IN ('records', 'cache_entries') AND n_tup_upd > 0",
    )
    .fetch_all(&mut session)
    .await?;
    println!(
        "minute {minute}: {}/s, {failed} failed, p50 {:.1?}, p99 {:.1?}; MB: records {records:.1}, copies \
         {copies:.1}, outbox {outbox:.1}; HOT: {}",
        done / 60,
        at(0.5),
        at(0.99),
        hot.join(", "),
    );
    Ok(sizes)
}

/// The sizes of the tables with their indexes, in bytes.
async fn sizes(server: &testbed::Postgres) -> Outcome<[i64; 3]> {
    let mut session = PgConnection::connect(&server.superuser_url_of("terrace_test_app")).await?;
    let mut sizes = [0; 3];
    for (size, table) in sizes.iter_mut().zip(TABLES) {
        *size = sqlx::query_scalar("SELECT pg_total_relation_size(('terrace.' || $1)::regclass)")
            .bind(table)
            .fetch_one(&mut session)
            .await?;
    }
    Ok(sizes)
}

fn body(key: u64) -> String {
    let mut random = Random(key);
    (0..BODY).map(|_| char::from(b'!' + (random.next() % 90) as u8)).collect()
}

/// splitmix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
