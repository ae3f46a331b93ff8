//! Metrics: the counters of a cache in the text format of Prometheus, and an observer for what counters do not
//! show, here how long loads take.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin metrics
//! ```

use std::{
    convert::Infallible,
    fmt::Write,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use terrace::{Cache, Event, Memory, Observer, Result, Sqlite, Stats, Ttl};

/// The bounds of the histogram of loads, in milliseconds.
const BOUNDS_MS: [u64; 4] = [1, 10, 100, 1_000];

/// Counts loads by their time. An observer is called on each hit too, so it must be quick.
#[derive(Clone, Default)]
struct LoadTimes(Arc<[AtomicU64; BOUNDS_MS.len() + 1]>);

impl Observer for LoadTimes {
    fn observe(&self, _namespace: &str, event: &Event<'_>) {
        if let Event::Loaded { elapsed, .. } = event {
            let ms = elapsed.as_millis() as u64;
            let bucket = BOUNDS_MS.iter().position(|bound| ms <= *bound).unwrap_or(BOUNDS_MS.len());
            self.0[bucket].fetch_add(1, Relaxed);
        }
    }
}

/// The text that an endpoint `/metrics` answers with.
fn metrics(cache: &str, stats: &Stats, loads: &LoadTimes) -> String {
    let mut text = String::new();
    let mut line = |name: &str, labels: &str, value: u64| {
        // Writing to a string cannot fail.
        let _infallible = writeln!(text, "cache_{name}{{cache=\"{cache}\"{labels}}} {value}");
    };
    for tier in &stats.tiers {
        let label = format!(",tier=\"{}\"", tier.name);
        line("hits_total", &label, tier.hits);
        line("misses_total", &label, tier.misses);
        line("errors_total", &label, tier.errors);
        line("undecodable_total", &label, tier.undecodable);
        line("lost", &label, u64::from(tier.lost));
    }
    line("load_errors_total", "", stats.load_errors);
    line("coalesced_total", "", stats.coalesced);
    line("stale_served_total", "", stats.stale_served);
    line("near_entries", "", stats.near_entries);
    let mut below = 0;
    for (bucket, count) in loads.0.iter().enumerate() {
        below += count.load(Relaxed);
        let bound = BOUNDS_MS.get(bucket).map_or("+Inf".to_owned(), u64::to_string);
        line("load_milliseconds_bucket", &format!(",le=\"{bound}\""), below);
    }
    line("load_milliseconds_count", "", below);
    text
}

#[tokio::main]
async fn main() -> Result<()> {
    let loads = LoadTimes::default();
    let pages = Cache::builder("pages")
        .near(Memory::entries(1_000))
        .tier(Sqlite::memory())
        .expire(Ttl::secs(60))
        .observer(loads.clone())
        .build()?;
    for number in [1_u64, 2, 1, 1, 3] {
        let load = || async move {
            tokio::time::sleep(Duration::from_millis(5)).await;
            Ok::<_, Infallible>(format!("page {number}"))
        };
        pages.get_or_load(&number, load).await?;
    }
    pages.settled().await;
    print!("{}", metrics(pages.namespace(), &pages.stats(), &loads));
    Ok(())
}
