//! How an application tests code that uses a cache: the test moves the clock by hand, a fake server
//! fails when the test says so, and nothing sleeps.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin testing
//! ```
//!
//! In an application each of these functions is a `#[tokio::test]`; here `main` runs them.

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

/// The code under test: it greets users by their names, which a slow directory knows.
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

/// The application, with a fake of its shared tier and a clock that only the test moves.
fn greeter(shared: &Fake, clock: &ManualClock) -> Result<Greeter> {
    let names = Cache::builder("names")
        .near(Memory::entries(100))
        .tier(shared.clone())
        .expire(Ttl::secs(60))
        .clock(clock)
        .build()?;
    Ok(Greeter { names, lookups: Arc::default() })
}

fn fake(clock: &ManualClock) -> Fake {
    Fake::with_clock("redis", clock.clock())
}

async fn a_name_is_looked_up_once_a_minute() -> Result<()> {
    let clock = Clock::manual();
    let greeter = greeter(&fake(&clock), &clock)?;
    assert_eq!(greeter.greet(7).await?, "Hello, user 7!");
    clock.advance(Duration::from_secs(59));
    greeter.greet(7).await?;
    assert_eq!(greeter.lookups.load(Ordering::Relaxed), 1);
    clock.advance(Duration::from_secs(1));
    greeter.greet(7).await?;
    assert_eq!(greeter.lookups.load(Ordering::Relaxed), 2);
    Ok(())
}

async fn another_instance_does_not_look_it_up_again() -> Result<()> {
    let clock = Clock::manual();
    let redis = fake(&clock);
    let (one, other) = (greeter(&redis, &clock)?, greeter(&redis.another_handle(), &clock)?);
    one.greet(7).await?;
    // A background task makes the copy that other instances read.
    one.names.settled().await;
    other.greet(7).await?;
    assert_eq!(other.lookups.load(Ordering::Relaxed), 0);
    Ok(())
}

async fn greets_without_the_shared_tier() -> Result<()> {
    let clock = Clock::manual();
    let redis = fake(&clock);
    let greeter = greeter(&redis, &clock)?;
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
