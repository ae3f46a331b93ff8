//! Early renewal: no reader waits for a load, although each value lives for two seconds only. The program prints
//! how many reads waited without early renewal, and with it.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin early_renewal
//! ```

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use terrace::{Cache, Memory, Result, Source, Sqlite, Ttl};

const LIFE: Duration = Duration::from_secs(2);
const LOAD_TIME: Duration = Duration::from_millis(50);

/// A cache of prices that the origin needs 50 ms for, and the number of its loads.
fn prices(expiry: Ttl) -> Result<(Cache<u64, u64>, Arc<AtomicU64>)> {
    let loads = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&loads);
    let load = move |article: u64| {
        let counted = Arc::clone(&counted);
        async move {
            tokio::time::sleep(LOAD_TIME).await;
            counted.fetch_add(1, Relaxed);
            Ok::<_, io::Error>(article * 2)
        }
    };
    let builder = Cache::builder("prices").near(Memory::entries(100)).tier(Sqlite::memory());
    Ok((builder.loader(load).expire(expiry).build()?, loads))
}

/// Reads one price every millisecond, for three lives. Returns how many reads waited for a load, after the first.
async fn waits(prices: &Cache<u64, u64>) -> Result<usize> {
    prices.get(&7).await?;
    let (end, mut waits) = (Instant::now() + LIFE * 3, 0);
    while Instant::now() < end {
        let price = prices.get(&7).await?;
        waits += usize::from(price.is_some_and(|price| price.served().from == Source::Loader));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(waits)
}

#[tokio::main]
async fn main() -> Result<()> {
    let plain = Ttl::of(LIFE);
    let early = [("refresh_early(0.5)", plain.refresh_early(0.5)), ("xfetch(1.0)", plain.xfetch(1.0))];
    for (name, expiry) in [("a life alone", plain)].into_iter().chain(early) {
        let (prices, loads) = prices(expiry)?;
        let waits = waits(&prices).await?;
        println!("{name}: {waits} reads waited for a load, {} loads in three lives", loads.load(Relaxed));
    }
    Ok(())
}
