//! A policy of your own: prices are published every full hour, so they all end at the next one,
//! however late in the hour they were read.
//!
//! ```sh
//! cargo run --release --example your_own_policy
//! ```

use std::{convert::Infallible, time::Duration};

use terrace::{
    Cache, Clock, Memory, Result,
    policy::{Expiry, Lifetime, WriteContext},
};

/// The whole policy: entries live until the next multiple of `period`.
struct Until {
    period: Duration,
    clock: Clock,
}

impl Expiry for Until {
    fn lifetime(&self, writing: &WriteContext) -> Lifetime {
        let period = self.period.as_millis() as u64;
        let past = self.clock.now().as_millis() % period;
        let left = Duration::from_millis(period - past);
        match (writing.negative, writing.ttl) {
            // 'No such product' is not kept.
            (true, _) => Lifetime::fresh(Duration::ZERO),
            // A life that the loader gave, but not past the hour.
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
    // Driven by hand: an hour takes no time. Without `.clock(..)` it is the host's clock.
    let hand = Clock::manual();
    let hour = Duration::from_secs(3600);
    let to_the_hour = hour - Duration::from_millis(hand.now().as_millis() % 3_600_000);
    hand.advance(to_the_hour);

    let prices: Cache<&'static str, String> = Cache::builder("prices")
        .near(Memory::entries(1_000))
        .expire(Until { period: hour, clock: hand.clock() })
        .clock(&hand)
        .build()?;

    let start = hand.now();
    let waits = [0, 20, 39, 1, 59, 2];
    for minutes in waits {
        hand.advance(Duration::from_secs(60 * minutes));
        let passed = hand.now().since(start).as_secs() / 60;
        let price = prices.get_or_load(&"tea", || published_price(passed / 60)).await?;
        println!("{}:{:02}  {}  (from {:?})", passed / 60, passed % 60, *price, price.served().from);
    }
    println!("\n{} loads for {} reads", prices.stats().loads, waits.len());
    Ok(())
}
