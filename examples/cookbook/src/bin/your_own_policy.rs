//! A policy of your own: prices are published every full hour, so every copy expires at the next full
//! hour, even if it was read late in the hour.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin your_own_policy
//! ```

use std::{convert::Infallible, time::Duration};

use terrace::{
    Cache, Clock, Memory, Result,
    policy::{Expiry, Lifetime, WriteContext},
};

/// The whole policy: an entry lives until the next multiple of `period`.
struct Until {
    period: Duration,
    clock: Clock,
}

impl Expiry for Until {
    fn lifetime(&self, context: &WriteContext) -> Lifetime {
        let period = self.period.as_millis() as u64;
        let past = self.clock.now().as_millis() % period;
        let left = Duration::from_millis(period - past);
        match (context.negative, context.ttl) {
            // An absence, such as 'no such product', is not kept.
            (true, _) => Lifetime::fresh(Duration::ZERO),
            // The loader set a time to live, which is cut at the full hour.
            (false, Some(own)) => Lifetime::fresh(own.min(left)),
            (false, None) => Lifetime::fresh(left),
        }
    }
}

async fn published_price(hour: u64) -> Result<String, Infallible> {
    Ok(format!("the price of hour {hour}"))
}

#[tokio::main]
async fn main() -> Result<()> {
    // The example moves this clock by hand, so an hour takes no time. Without `.clock(..)` a cache uses
    // the clock of the host.
    let clock = Clock::manual();
    let hour = Duration::from_secs(3600);
    let to_the_hour = hour - Duration::from_millis(clock.now().as_millis() % 3_600_000);
    clock.advance(to_the_hour);

    let prices: Cache<&'static str, String> = Cache::builder("prices")
        .near(Memory::entries(1_000))
        .expire(Until { period: hour, clock: clock.clock() })
        .clock(&clock)
        .build()?;

    let start = clock.now();
    let pauses = [0, 20, 39, 1, 59, 2];
    for minutes in pauses {
        clock.advance(Duration::from_secs(60 * minutes));
        let passed = clock.now().since(start).as_secs() / 60;
        let price = prices.get_or_load(&"tea", || published_price(passed / 60)).await?;
        println!("{}:{:02}  {}  (from {:?})", passed / 60, passed % 60, *price, price.served().from);
    }
    println!("\n{} loads for {} reads", prices.stats().loads, pauses.len());
    Ok(())
}
