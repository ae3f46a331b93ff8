//! Whether anything grows without an end: a day of traffic in ten minutes.
//! `cargo run --release -p terrace-bench-harness --bin compressed_day -- 600 120`, the seconds of traffic and of rest.
//!
//! 3,000 operations a second on a million keys of 10,000 tenants, in four stacks: near and Redis; near, Redis and a
//! store in Postgres; near and Postgres as a cache; near and SQLite. All values live for one second. After the rest
//! each measure has to be back at a tenth of its peak, but for what docs/operations.md lists. The servers are
//! private and share this machine with the traffic.

use std::{
    error::Error,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use redis::aio::MultiplexedConnection;
use sqlx::{Connection, PgConnection, SqliteConnection};
use terrace::{Cache, Item, Memory, Postgres, Redis, Sqlite, Tenants, TierSettings};
use terrace_testbed as testbed;
use tokio::{
    sync::OnceCell,
    time::{MissedTickBehavior, interval, sleep},
};

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;
type Near = Memory<u64, String>;

const KEYS: u64 = 1_000_000;
const TENANTS: u64 = 10_000;
const OPERATIONS: u64 = 3_000;
const WORKERS: u64 = 60;
const LIFE: Duration = Duration::from_secs(1);
/// A busy machine must not make a tier a lost one.
const PATIENCE: Duration = Duration::from_secs(5);
const STACKS: [&str; 4] = ["near + Redis", "near + Redis + store", "near + Postgres", "near + SQLite"];

/// One stack, with the handles of the tenants that were used.
struct Stack {
    tenants: Tenants<u64, String, Near>,
    caches: Vec<OnceCell<Cache<u64, String, Near>>>,
}

impl Stack {
    fn new(tenants: Tenants<u64, String, Near>) -> Self {
        Self { tenants, caches: (0..TENANTS).map(|_| OnceCell::new()).collect() }
    }

    async fn tenant(&self, number: u64) -> Outcome<&Cache<u64, String, Near>> {
        let open = async || Ok(self.tenants.tenant(&number.to_string())?);
        self.caches[number as usize].get_or_try_init(open).await
    }

    fn near_entries(&self) -> u64 {
        // All tenants of a stack share one near tier.
        self.caches.iter().find_map(OnceCell::get).map_or(0, |cache| cache.stats().near_entries)
    }
}

/// What is measured, and how much of it docs/operations.md lists at the end.
struct Measure {
    name: &'static str,
    start: f64,
    peak: f64,
    end: f64,
    listed: f64,
}

#[derive(Default)]
struct Tally {
    done: AtomicU64,
    failed: AtomicU64,
    over: AtomicBool,
}

struct Probe {
    stacks: Arc<[Stack; 4]>,
    redis: MultiplexedConnection,
    postgres: PgConnection,
    sqlite: SqliteConnection,
}

const NAMES: [&str; 11] = [
    "near entries",
    "Redis keys",
    "Redis memory, KB",
    "cache_entries",
    "records",
    "lease_signs",
    "outbox",
    "outbox_snapshots",
    "spaces",
    "SQLite cells",
    "SQLite spaces",
];

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let traffic = Duration::from_secs(arguments.next().as_deref().unwrap_or("600").parse()?);
    let rest = Duration::from_secs(arguments.next().as_deref().unwrap_or("120").parse()?);
    let (redis_server, server) = (testbed::Redis::start().await?, testbed::Postgres::start().await?);
    let folder = std::env::temp_dir().join(format!("compressed-day-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let file = folder.join("day.db");
    let stacks = Arc::new(stacks(&redis_server, &server, &file)?);
    for stack in stacks.iter() {
        stack.tenant(0).await?.ready().await?;
        stack.tenant(0).await?.put_item(&0, item(0)).await?;
    }
    let mut probe = Probe {
        redis: redis::Client::open(redis_server.url())?.get_multiplexed_async_connection().await?,
        postgres: PgConnection::connect(&server.superuser_url_of("terrace_test_app")).await?,
        sqlite: SqliteConnection::connect(&format!("sqlite://{}", file.display())).await?,
        stacks: Arc::clone(&stacks),
    };
    let start = probe.sizes().await?;
    let mut peak = start;
    let tally = Arc::new(Tally::default());
    let workers: Vec<_> = (0..WORKERS)
        .map(|number| tokio::spawn(work(Arc::clone(&stacks), Arc::clone(&tally), number)))
        .collect();
    let began = Instant::now();
    while began.elapsed() < traffic {
        sleep(Duration::from_secs(5)).await;
        raise(&mut peak, &probe.sizes().await?);
        if began.elapsed().as_secs() % 60 < 5 {
            let (done, failed) = (tally.done.load(Ordering::Relaxed), tally.failed.load(Ordering::Relaxed));
            println!(
                "{:?}: {done} operations, {failed} failed, {} MB resident",
                began.elapsed(),
                resident_mb()
            );
        }
    }
    tally.over.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.await?;
    }
    raise(&mut peak, &probe.sizes().await?);
    let rate = tally.done.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    let (busy, failed) = (resident_mb(), tally.failed.load(Ordering::Relaxed));
    println!("{} stacks, {rate:.0} operations/s, {failed} failed; now {rest:?} of rest", STACKS.len());
    sleep(rest).await;
    let (end, listed) = (probe.sizes().await?, probe.listed(peak[1] as u64).await?);
    println!("resident memory: {busy} MB at the end of the traffic, {} MB after the rest", resident_mb());
    let measures = (0..NAMES.len()).map(|at| Measure {
        name: NAMES[at],
        start: start[at],
        peak: peak[at],
        end: end[at],
        listed: listed[at],
    });
    let met = report(measures);
    let _removed = fs::remove_dir_all(&folder);
    if met { Ok(()) } else { Err("something grows without an end".into()) }
}

fn stacks(redis: &testbed::Redis, server: &testbed::Postgres, file: &std::path::Path) -> Outcome<[Stack; 4]> {
    let (redis, postgres) = (Redis::new(redis.url())?, Postgres::new(&server.url())?);
    let sqlite = Sqlite::file(file)?;
    let builder = |name: &str| Cache::<u64, String, Near>::builder(name).near(Memory::entries(KEYS));
    let (redis, copies) = (|| redis.clone().budget(PATIENCE), postgres.clone().budget(PATIENCE));
    Ok([
        Stack::new(builder("redis").tier(redis()).build_per_tenant()?),
        Stack::new(builder("store").tier(redis()).store(postgres).build_per_tenant()?),
        Stack::new(builder("postgres").tier(copies).build_per_tenant()?),
        Stack::new(builder("sqlite").tier(sqlite.budget(PATIENCE)).build_per_tenant()?),
    ])
}

fn item(key: u64) -> Item<String> {
    Item::new(format!("value of {key}, {}", "and so on ".repeat(8))).ttl(LIFE)
}

/// Makes operations at a steady rate: of ten, seven loads, two puts, and an invalidation or a removal.
async fn work(stacks: Arc<[Stack; 4]>, tally: Arc<Tally>, number: u64) {
    let mut random = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    let mut ticks = interval(Duration::from_secs_f64(WORKERS as f64 / OPERATIONS as f64));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    while !tally.over.load(Ordering::Relaxed) {
        ticks.tick().await;
        let (key, tenant) = (next() % KEYS, next() % TENANTS);
        let (kind, stack) = (next() % 20, &stacks[(next() % 4) as usize]);
        let done = async {
            let cache = stack.tenant(tenant).await?;
            match kind {
                0 => drop(cache.invalidate(&key).await?),
                1 => drop(cache.remove(&key).await?),
                2..6 => drop(cache.put_item(&key, item(key)).await?),
                _ => {
                    let load = |_| async move { Ok::<_, std::io::Error>(item(key)) };
                    cache.get_or_load_with(&key, load).await?;
                }
            }
            Outcome::Ok(())
        };
        let outcome = done.await;
        if let Err(error) = &outcome
            && tally.failed.fetch_add(1, Ordering::Relaxed) < 5
        {
            println!("an operation failed: {error}");
        }
        tally.done.fetch_add(1, Ordering::Relaxed);
    }
}

impl Probe {
    /// The measures, in the order of [`NAMES`].
    async fn sizes(&mut self) -> Outcome<[f64; 11]> {
        let mut sizes = [0.0; 11];
        sizes[0] = self.stacks.iter().map(Stack::near_entries).sum::<u64>() as f64;
        sizes[1] = redis::cmd("DBSIZE").query_async::<u64>(&mut self.redis).await? as f64;
        let memory: String = redis::cmd("INFO").arg("memory").query_async(&mut self.redis).await?;
        let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap_or("0");
        sizes[2] = used.trim().parse::<f64>()? / 1e3;
        for (at, table) in NAMES.iter().enumerate().take(9).skip(3) {
            let count = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM terrace.{table}"));
            sizes[at] = sqlx::query_scalar::<_, i64>(count).fetch_one(&mut self.postgres).await? as f64;
        }
        for (at, count) in [(9, "SELECT count(*) FROM cells"), (10, "SELECT count(*) FROM spaces")] {
            sizes[at] = sqlx::query_scalar::<_, i64>(count).fetch_one(&mut self.sqlite).await? as f64;
        }
        Ok(sizes)
    }

    /// How much of each measure docs/operations.md lists: epochs and the log in Redis; rows of tenants, expired
    /// records for an hour, tombstones of removed records for a week and the outbox of ten minutes.
    async fn listed(&mut self, most_keys: u64) -> Outcome<[f64; 11]> {
        let mut listed = [0.0; 11];
        let keys: Vec<String> = redis::cmd("KEYS").arg("terrace:$*").query_async(&mut self.redis).await?;
        let mut bytes = 0;
        for key in keys.iter().filter(|key| key.contains("$epoch:") || key.contains("$log")) {
            listed[1] += 1.0;
            let usage = redis::cmd("MEMORY").arg("USAGE").arg(key).arg("SAMPLES").arg(0).to_owned();
            bytes += usage.query_async::<Option<u64>>(&mut self.redis).await?.unwrap_or(0);
        }
        // The end of a key takes 24 bytes. The tables of the keys and of their ends have 8 bytes for each of a power
        // of two, and shrink only when less than a tenth is in use.
        let tables = 16 * most_keys.next_power_of_two();
        listed[2] = (bytes + tables) as f64 / 1e3 + listed[1] * 0.024;
        let counts = [
            (4, "SELECT count(*) FROM terrace.records WHERE expires_at >= 0"),
            (6, "SELECT count(*) FROM terrace.outbox"),
            (7, "SELECT count(*) FROM terrace.outbox_snapshots"),
            (8, "SELECT count(*) FROM terrace.spaces"),
        ];
        for (at, count) in counts {
            listed[at] = sqlx::query_scalar::<_, i64>(count).fetch_one(&mut self.postgres).await? as f64;
        }
        let count = "SELECT count(*) FROM spaces";
        listed[10] = sqlx::query_scalar::<_, i64>(count).fetch_one(&mut self.sqlite).await? as f64;
        Ok(listed)
    }
}

fn raise(peak: &mut [f64; 11], sizes: &[f64; 11]) {
    peak.iter_mut().zip(sizes).for_each(|(peak, size)| *peak = peak.max(*size));
}

/// Prints the table. The result says whether each measure is back.
fn report(measures: impl Iterator<Item = Measure>) -> bool {
    println!("\n| | start | peak | after the rest | of it listed | rest above the start | |");
    println!("|---|---|---|---|---|---|---|");
    let mut met = true;
    for Measure { name, start, peak, end, listed } in measures {
        let left = (end - listed - start).max(0.0) / (peak - start).max(1.0);
        let holds = left <= 0.1;
        let verdict = if holds { "met" } else { "MISSED" };
        println!(
            "| {name} | {start:.0} | {peak:.0} | {end:.0} | {listed:.0} | {:.1} % of the peak | {verdict} |",
            100.0 * left
        );
        met &= holds;
    }
    met
}

/// The memory of this process.
fn resident_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) / 1024
}
