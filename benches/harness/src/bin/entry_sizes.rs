//! How many bytes an entry takes in each tier, and what a tenant, a lease and a tombstone take:
//! `cargo run --release -p terrace-bench-harness --bin entry_sizes` prints the table of docs/operations.md.
//!
//! Keys are numbers, and values are texts that do not compress. Near tiers are measured by the growth of a process
//! of their own, Redis by its used memory, and Postgres by the sizes of its tables with their indexes, 10,000 entries
//! each.

use std::{error::Error, fs, process::Command, time::Duration};

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use sqlx::{Connection, PgConnection};
use terrace::{Cache, Memory, NoNear, Postgres, Quick, Redis, TierSettings, near::Near};
use terrace_testbed as testbed;
use tokio::time::sleep;

type Outcome<T> = Result<T, Box<dyn Error>>;
type Far = Cache<u64, String, NoNear>;

const COUNT: u64 = 10_000;
const SIZES: [usize; 3] = [100, 1_000, 10_000];
const TENANTS: u64 = 2_000;
const LEASES: u64 = 50;
/// A busy machine must not make a tier a lost one.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [engine, size] = arguments.as_slice() {
        let (size, capacity) = (size.parse()?, 4 * COUNT);
        let bytes = match engine.as_str() {
            "memory" => near(Memory::entries(capacity), size).await?,
            _ => near(Quick::entries(capacity as usize), size).await?,
        };
        println!("{bytes}");
        return Ok(());
    }
    let (redis_server, server) = (testbed::Redis::start().await?, testbed::Postgres::start().await?);
    let mut raw = redis::Client::open(redis_server.url())?.get_multiplexed_async_connection().await?;
    let mut session = PgConnection::connect(&server.superuser_url_of("terrace_test_app")).await?;
    let (redis, postgres) = (Redis::new(redis_server.url())?, Postgres::new(&server.url())?);
    postgres.prepare().await?;
    // The log in Redis has its full length before anything is measured.
    let first: Far = Cache::builder("first").tier(redis.clone().budget(PATIENCE)).build()?;
    fill(&first, 10).await?;
    fill(&first, 10).await?;

    println!("| bytes of | 100 B | 1 KB | 10 KB |");
    println!("|---|---|---|---|");
    print_sizes("an entry in `Memory`", async |size| in_new_process("memory", size)).await?;
    print_sizes("an entry in `Quick`", async |size| in_new_process("quick", size)).await?;
    print_sizes("a copy in Redis", async |size| {
        let cache: Far =
            Cache::builder(format!("copies{size}")).tier(redis.clone().budget(PATIENCE)).build()?;
        let before = used_memory(&mut raw).await?;
        fill(&cache, size).await?;
        Ok((used_memory(&mut raw).await? - before) / COUNT as f64)
    })
    .await?;
    print_sizes("a copy in Postgres", async |size| {
        let tier = postgres.clone().budget(PATIENCE);
        let cache: Far = Cache::builder(format!("copies{size}")).tier(tier).build()?;
        filled_table(&mut session, "cache_entries", &cache, size).await
    })
    .await?;
    print_sizes("a record in Postgres", async |size| {
        let cache: Far = Cache::builder(format!("records{size}")).store(postgres.clone()).build()?;
        filled_table(&mut session, "records", &cache, size).await
    })
    .await?;

    println!("\n| bytes of | in Redis | in Postgres |");
    println!("|---|---|---|");
    let (in_redis, in_postgres) = tenants(&redis, &postgres, &mut raw, &mut session).await?;
    println!("| a tenant | {in_redis:.0} | {in_postgres:.0} |");
    let of_redis: Far = Cache::builder("marks").tier(redis.budget(PATIENCE)).build()?;
    let of_postgres: Far = Cache::builder("marks").tier(postgres.budget(PATIENCE)).build()?;
    let before = (used_memory(&mut raw).await?, table_bytes(&mut session, "cache_entries").await?);
    for cache in [&of_redis, &of_postgres] {
        for from in (0..COUNT).step_by(100) {
            let invalidations = (from..from + 100).map(async |key| cache.invalidate(&key).await);
            for done in join_all(invalidations).await {
                done?;
            }
        }
    }
    let in_redis = (used_memory(&mut raw).await? - before.0) / COUNT as f64;
    let in_postgres = (table_bytes(&mut session, "cache_entries").await? - before.1) / COUNT as f64;
    println!("| a tombstone | {in_redis:.0} | {in_postgres:.0} |");
    let in_redis = leases(&of_redis, &mut raw).await?;
    println!("| a lease | {in_redis:.0} | {in_postgres:.0}, as a tombstone |");
    Ok(())
}

async fn print_sizes(name: &str, mut bytes: impl AsyncFnMut(usize) -> Outcome<f64>) -> Outcome<()> {
    let mut row = format!("| {name} |");
    for size in SIZES {
        row += &format!(" {:.0} |", bytes(size).await?);
    }
    println!("{row}");
    Ok(())
}

/// What this program prints for one near tier and one size. Memory that was freed before would be used again.
fn in_new_process(engine: &str, size: usize) -> Outcome<f64> {
    let output = Command::new(std::env::current_exe()?).arg(engine).arg(size.to_string()).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// The bytes of a near entry, by the growth of this process.
async fn near<N: Near<u64, String>>(near: N, size: usize) -> Outcome<f64> {
    let cache: Cache<u64, String, N> = Cache::builder("near").near(near).build()?;
    let before = resident_bytes();
    for key in 0..COUNT {
        cache.put(&key, body(key, size)).await?;
    }
    let grown = resident_bytes() - before;
    match cache.stats().near_entries {
        entries if entries >= COUNT * 99 / 100 => Ok(grown / COUNT as f64),
        entries => Err(format!("{entries} entries are near").into()),
    }
}

async fn fill(cache: &Far, size: usize) -> Outcome<()> {
    for from in (0..COUNT).step_by(100) {
        for put in cache.put_many((from..from + 100).map(|key| (key, body(key, size)))).await {
            put?;
        }
    }
    Ok(())
}

/// The bytes by which a table grows for each entry.
async fn filled_table(session: &mut PgConnection, table: &str, cache: &Far, size: usize) -> Outcome<f64> {
    let before = table_bytes(session, table).await?;
    fill(cache, size).await?;
    Ok((table_bytes(session, table).await? - before) / COUNT as f64)
}

/// The bytes of a tenant in Redis and in Postgres.
async fn tenants(
    redis: &Redis,
    postgres: &Postgres,
    raw: &mut MultiplexedConnection,
    session: &mut PgConnection,
) -> Outcome<(f64, f64)> {
    let of_redis = Cache::<u64, String, NoNear>::builder("tenants").tier(redis.clone().budget(PATIENCE));
    let of_postgres =
        Cache::<u64, String, NoNear>::builder("tenants").tier(postgres.clone().budget(PATIENCE));
    let (of_redis, of_postgres) = (of_redis.build_per_tenant()?, of_postgres.build_per_tenant()?);
    let before = (used_memory(raw).await?, table_bytes(session, "spaces").await?);
    for tenant in 0..TENANTS {
        // A clear writes the epoch and no entry.
        of_redis.tenant(&tenant.to_string())?.clear().await?;
        of_postgres.tenant(&tenant.to_string())?.clear().await?;
    }
    let in_redis = (used_memory(raw).await? - before.0) / TENANTS as f64;
    Ok((in_redis, (table_bytes(session, "spaces").await? - before.1) / TENANTS as f64))
}

/// The bytes of a lease in Redis, while its load runs.
async fn leases(cache: &Far, raw: &mut MultiplexedConnection) -> Outcome<f64> {
    let loads: Vec<_> = (COUNT..COUNT + LEASES)
        .map(|key| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let load = || async {
                    sleep(Duration::from_secs(5)).await;
                    Ok::<_, std::io::Error>(String::new())
                };
                cache.get_or_load(&key, load).await.map(drop)
            })
        })
        .collect();
    sleep(Duration::from_secs(2)).await;
    // The names of cells hold digests, so the leases are known by their first byte.
    let script = "local bytes = 0
        for _, key in ipairs(redis.call('KEYS', 'terrace:marks:*')) do
            if redis.call('GETRANGE', key, 0, 0) == 'L' then bytes = bytes + redis.call('MEMORY', 'USAGE', key) end
        end
        for _, key in ipairs(redis.call('KEYS', 'terrace:$sign:*')) do
            bytes = bytes + redis.call('MEMORY', 'USAGE', key)
        end
        return bytes";
    let bytes: u64 = redis::cmd("EVAL").arg(script).arg(0).query_async(raw).await?;
    for load in loads {
        load.await??;
    }
    Ok(bytes as f64 / LEASES as f64)
}

async fn used_memory(raw: &mut MultiplexedConnection) -> Outcome<f64> {
    let memory: String = redis::cmd("INFO").arg("memory").query_async(raw).await?;
    Ok(memory.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap_or("0").trim().parse()?)
}

async fn table_bytes(session: &mut PgConnection, table: &str) -> Outcome<f64> {
    let size = "SELECT pg_total_relation_size(('terrace.' || $1)::regclass)";
    Ok(sqlx::query_scalar::<_, i64>(size).bind(table).fetch_one(session).await? as f64)
}

fn resident_bytes() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0");
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap_or(0.0) * 1024.0
}

/// A text of this size that does not compress.
fn body(key: u64, size: usize) -> String {
    let mut random = key.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        char::from(b'!' + (random % 90) as u8)
    };
    (0..size).map(|_| next()).collect()
}
