//! What the clears of many tenants cost the other users of a Redis server:
//! `cargo run --release -p terrace-bench-harness --bin clears`.
//!
//! 300,000 keys of others are on the server, and 500 tenants with 20 entries each. Another cache reads at a steady
//! rate through a handle of its own, without and with clears of all tenants at once, in turns. The server is
//! private and shares this machine with the readers.

use std::{
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use terrace::{Cache, Redis, Ttl};
use terrace_testbed as testbed;
use tokio::time::{MissedTickBehavior, interval, sleep};

type Stack = Cache<u64, String>;
type Outcome<T> = Result<T, Box<dyn Error>>;

const FOREIGN: u64 = 300_000;
const TENANTS: u64 = 500;
const ENTRIES: u64 = 20;
const READERS: u64 = 8;
/// Each reader reads so often.
const EVERY: Duration = Duration::from_millis(2);
const PHASE: Duration = Duration::from_secs(8);
const ROUNDS: usize = 3;

/// What happened in the phases of one kind.
#[derive(Default)]
struct Tally {
    latencies: Vec<Duration>,
    failed: u64,
    lost: bool,
    scans: u64,
    server_cpu: f64,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let server = testbed::Redis::start().await?;
    let mut raw = redis::Client::open(server.url())?.get_multiplexed_async_connection().await?;
    let script = "for n = ARGV[1], ARGV[2] do redis.call('SET', 'session:' .. n, 'of another program') end";
    for from in (0..FOREIGN).step_by(1_000) {
        let page = redis::cmd("EVAL").arg(script).arg(0).arg(from).arg(from + 999).to_owned();
        page.exec_async(&mut raw).await?;
    }
    let life = Ttl::of(Duration::from_secs(3_600));
    let others: Stack = Cache::builder("others").tier(Redis::new(server.url())?).expire(life).build()?;
    for put in others.put_many((0..1_000).map(|key| (key, value(key)))).await {
        put?;
    }
    let cleared = Cache::<u64, String>::builder("cleared").tier(Redis::new(server.url())?).expire(life);
    let cleared = cleared.build_per_tenant()?;
    let tenants: Vec<Stack> =
        (0..TENANTS).map(|tenant| cleared.tenant(&tenant.to_string())).collect::<Result<_, _>>()?;

    let (mut quiet, mut clearing) = (Tally::default(), Tally::default());
    let (mut slowest_clear, mut failed_clears) = (Duration::ZERO, 0);
    for _ in 0..ROUNDS {
        phase(&others, &mut raw, &mut quiet, async || {}).await?;
        for tenant in &tenants {
            for put in tenant.put_many((0..ENTRIES).map(|key| (key, value(key)))).await {
                put?;
            }
        }
        phase(&others, &mut raw, &mut clearing, async || {
            let clears = tenants.iter().map(async |tenant| {
                let began = Instant::now();
                (tenant.clear().await, began.elapsed())
            });
            for (done, took) in join_all(clears).await {
                failed_clears += u64::from(done.is_err());
                slowest_clear = slowest_clear.max(took);
            }
        })
        .await?;
        swept(&mut raw).await?;
    }
    let left: u64 = redis::cmd("DBSIZE").query_async(&mut raw).await?;

    println!(
        "{FOREIGN} foreign keys, {TENANTS} tenants of {ENTRIES} entries, {READERS} readers, {ROUNDS} rounds\n"
    );
    println!("| | reads | failed | tier lost | p50 | p99 | p99.9 | max | SCANs | CPU of Redis, s |");
    println!("|---|---|---|---|---|---|---|---|---|---|");
    print_row("without clears", &mut quiet);
    print_row("with clears", &mut clearing);
    let ratio = at(&clearing.latencies, 0.99).as_secs_f64() / at(&quiet.latencies, 0.99).as_secs_f64();
    println!("\nslowest clear {slowest_clear:.1?}, {failed_clears} failed; {left} keys are left at the end");
    println!("p99 of the reads with clears: {ratio:.2}x of that without");
    let met = ratio <= 2.0 && !clearing.lost && failed_clears == 0;
    println!("{}", if met { "met" } else { "MISSED" });
    if met { Ok(()) } else { Err("clears disturb the other users of the server".into()) }
}

fn value(key: u64) -> String {
    format!("value of {key}, {}", "and so on ".repeat(10))
}

/// Reads for one phase; `disturb` runs shortly after its start.
async fn phase(
    cache: &Stack,
    raw: &mut MultiplexedConnection,
    tally: &mut Tally,
    disturb: impl AsyncFnOnce(),
) -> Outcome<()> {
    let (scans, cpu) = server_counts(raw).await?;
    let readers: Vec<_> = (0..READERS).map(|reader| tokio::spawn(read(cache.clone(), reader))).collect();
    sleep(Duration::from_millis(500)).await;
    disturb().await;
    for reader in readers {
        let (latencies, failed, lost) = reader.await?;
        tally.latencies.extend(latencies);
        tally.failed += failed;
        tally.lost |= lost;
    }
    let (scans_after, cpu_after) = server_counts(raw).await?;
    tally.scans += scans_after - scans;
    tally.server_cpu += cpu_after - cpu;
    Ok(())
}

async fn read(cache: Stack, reader: u64) -> (Vec<Duration>, u64, bool) {
    let (mut latencies, mut failed, mut lost) = (Vec::new(), 0, false);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Instant::now() + PHASE;
    let cache = Arc::new(cache);
    for number in reader * 7.. {
        ticks.tick().await;
        let began = Instant::now();
        if began >= end {
            break;
        }
        failed += u64::from(!matches!(cache.get(&(number % 1_000)).await, Ok(Some(_))));
        latencies.push(began.elapsed());
        lost |= number % 64 == 0 && cache.stats().tier("redis").is_some_and(|redis| redis.lost);
    }
    (latencies, failed, lost)
}

/// Waits for the end of the sweep: until no SCAN was sent for a second.
async fn swept(raw: &mut MultiplexedConnection) -> Outcome<()> {
    let mut before = u64::MAX;
    loop {
        let (scans, _) = server_counts(raw).await?;
        if scans == before {
            return Ok(());
        }
        before = scans;
        sleep(Duration::from_secs(1)).await;
    }
}

/// The number of SCANs that the server has served, and the CPU time that it has used, in seconds.
async fn server_counts(raw: &mut MultiplexedConnection) -> Outcome<(u64, f64)> {
    let text: String = redis::cmd("INFO").arg("all").query_async(raw).await?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or("0").to_owned();
    let scans = field("cmdstat_scan:calls=").split(',').next().unwrap_or("0").parse()?;
    let (user, system): (f64, f64) = (field("used_cpu_user:").parse()?, field("used_cpu_sys:").parse()?);
    Ok((scans, user + system))
}

fn print_row(name: &str, tally: &mut Tally) {
    tally.latencies.sort_unstable();
    let Tally { latencies, failed, lost, scans, server_cpu } = &*tally;
    let [p50, p99, p999, max] = [0.5, 0.99, 0.999, 1.0].map(|part| at(latencies, part));
    println!(
        "| {name} | {} | {failed} | {lost} | {p50:.2?} | {p99:.2?} | {p999:.2?} | {max:.1?} | {scans} | \
         {server_cpu:.2} |",
        latencies.len()
    );
}

fn at(sorted: &[Duration], part: f64) -> Duration {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}
