//! What idle processes that follow the log of one Postgres cost:
//! `cargo run --release -p terrace-bench-harness --bin followers -- 60`, the number of handles.
//!
//! Each handle has one cache with a near tier in front of a store, which is read once. Then nobody reads, and
//! after some seconds the polls and the CPU times of ten seconds are measured.

use std::{error::Error, fs, time::Duration};

use sqlx::{Connection, PgConnection};
use terrace::{Cache, Memory, Postgres};
use terrace_testbed as testbed;
use tokio::time::sleep;

type Stack = Cache<u64, String, Memory<u64, String>>;
type Outcome<T> = Result<T, Box<dyn Error>>;

const SETTLED_AFTER: Duration = Duration::from_secs(10);
const MEASURED_FOR: Duration = Duration::from_secs(10);
/// The ticks of CPU time in a second, on every Linux that this runs on.
const TICKS: f64 = 100.0;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Outcome<()> {
    let handles: usize = std::env::args().nth(1).as_deref().unwrap_or("60").parse()?;
    let server = testbed::Postgres::options().setting("max_connections", "500").start().await?;
    let mut caches: Vec<Stack> = Vec::new();
    for _ in 0..handles {
        let postgres = Postgres::builder(&server.url()).pool_size(1).build()?;
        let cache: Stack = Cache::builder("followed").near(Memory::entries(100)).store(postgres).build()?;
        cache.get_or_load(&1, || async { Ok::<_, std::io::Error>("value".to_owned()) }).await?;
        caches.push(cache);
    }
    sleep(SETTLED_AFTER).await;
    let before = measure(&server).await?;
    sleep(MEASURED_FOR).await;
    let after = measure(&server).await?;
    let per_second = |before: f64, after: f64| (after - before) / MEASURED_FOR.as_secs_f64();
    println!(
        "{handles} handles: {:.0} polls/s, {:.1} % of a core in Postgres, {:.1} % in this process",
        per_second(before.0, after.0),
        100.0 * per_second(before.1, after.1),
        100.0 * per_second(before.2, after.2),
    );
    Ok(())
}

/// The transactions of the server so far, and the CPU seconds of the server and of this process.
async fn measure(server: &testbed::Postgres) -> Outcome<(f64, f64, f64)> {
    let mut session = PgConnection::connect(&server.superuser_url_of("terrace_test_app")).await?;
    // Sessions report their counts once a second at most.
    sleep(Duration::from_millis(1_200)).await;
    let count = "SELECT xact_commit FROM pg_stat_database WHERE datname = 'terrace_test_app'";
    let transactions: i64 = sqlx::query_scalar(count).fetch_one(&mut session).await?;
    let postmaster = server.pid()?;
    let mut used = 0.0;
    for folder in fs::read_dir("/proc")?.flatten() {
        let Some(stat) = fs::read_to_string(folder.path().join("stat")).ok() else { continue };
        let (parent, ticks) = parent_and_ticks(&stat).unwrap_or_default();
        if parent == postmaster {
            used += ticks;
        }
    }
    let own = parent_and_ticks(&fs::read_to_string("/proc/self/stat")?).unwrap_or_default().1;
    Ok((transactions as f64, used / TICKS, own / TICKS))
}

/// The parent of a process, and its CPU time in ticks.
fn parent_and_ticks(stat: &str) -> Option<(u32, f64)> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let ticks: f64 = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    Some((fields.get(1)?.parse().ok()?, ticks))
}
