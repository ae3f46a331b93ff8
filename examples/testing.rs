//! How an application tests code that uses a cache: time by hand, a server that fails on cue, and
//! no sleep.
//!
//! ```sh
//! cargo run --release --example testing
//! ```
//!
//! In an application each of these is a `#[tokio::test]`; here `main` runs them.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use terrace::{Cache, Clock, ManualClock, Memory, Result, Ttl};
use terrace_conformance::Fake;

/// The code under test: greets users by the name that a slow directory has for them.
struct Greeter {
    names: Cache<u64, String>,
    lookups: Arc<AtomicU32>,
}

impl Greeter {
    async fn greet(&self, user: u64) -> Result<String> {
        let lookups = Arc::clone(&self.lookups);
        let load = || async move {
            lookups.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(format!("user {user}"))
        };
        let name = self.names.get_or_load(&user, load).await?;
        Ok(format!("Hello, {}!", *name))
    }
}

/// The application on a fake of its shared tier and on a clock that only we move.
fn greeter(shared: &Fake, hand: &ManualClock) -> Result<Greeter> {
    let names = Cache::builder("names")
        .near(Memory::entries(100))
        .tier(shared.clone())
        .expire(Ttl::secs(60))
        .clock(hand)
        .build()?;
    Ok(Greeter { names, lookups: Arc::default() })
}

fn fake(hand: &ManualClock) -> Fake {
    Fake::with_clock("redis", hand.clock())
}

async fn a_name_is_looked_up_once_a_minute() -> Result<()> {
    let hand = Clock::manual();
    let greeter = greeter(&fake(&hand), &hand)?;
    assert_eq!(greeter.greet(7).await?, "Hello, user 7!");
    hand.advance(Duration::from_secs(59));
    greeter.greet(7).await?;
    assert_eq!(greeter.lookups.load(Ordering::Relaxed), 1);
    hand.advance(Duration::from_secs(1));
    greeter.greet(7).await?;
    assert_eq!(greeter.lookups.load(Ordering::Relaxed), 2);
    Ok(())
}

async fn another_instance_does_not_look_it_up_again() -> Result<()> {
    let hand = Clock::manual();
    let redis = fake(&hand);
    let (one, other) = (greeter(&redis, &hand)?, greeter(&redis.another_handle(), &hand)?);
    one.greet(7).await?;
    // The copy for others is made behind the caller's back.
    one.names.settled().await;
    other.greet(7).await?;
    assert_eq!(other.lookups.load(Ordering::Relaxed), 0);
    Ok(())
}

async fn greets_without_the_shared_tier() -> Result<()> {
    let hand = Clock::manual();
    let redis = fake(&hand);
    let greeter = greeter(&redis, &hand)?;
    redis.set_down(true);
    assert_eq!(greeter.greet(7).await?, "Hello, user 7!");
    let stats = greeter.names.stats();
    assert!(stats.tier("redis").is_some_and(|tier| tier.errors > 0 && tier.hits == 0));
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    a_name_is_looked_up_once_a_minute().await?;
    println!("ok  a name is looked up once a minute");
    another_instance_does_not_look_it_up_again().await?;
    println!("ok  another instance does not look it up again");
    greets_without_the_shared_tier().await?;
    println!("ok  greets without the shared tier");
    Ok(())
}
