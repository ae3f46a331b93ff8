//! Two processes over one Redis: what one process changes, the other reads within milliseconds, out of its own
//! memory again after that.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin two_processes
//! ```
//!
//! The program uses the server of `REDIS_URL`, or starts a private one. It starts itself as the second process.

use std::{
    convert::Infallible,
    error::Error,
    process::Stdio,
    time::{Duration, Instant},
};

use terrace::{Cache, Memory, Redis, Ttl};
use tokio::{process::Command, time::timeout};

const PREFIX: &str = "COOKBOOK_PREFIX";

fn open(url: &str, prefix: &str) -> terrace::Result<Cache<String, String>> {
    Cache::builder("prices")
        .near(Memory::entries(1_000))
        .tier(Redis::builder(url).prefix(prefix).allow_plaintext().build()?)
        .expire(Ttl::secs(600))
        .build()
}

/// The second process: it changes a price and ends.
async fn change(url: &str, prefix: &str) -> Result<(), Box<dyn Error>> {
    let prices = open(url, prefix)?;
    prices.put("tea", "3.20".into()).await?;
    prices.close().await;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let given = std::env::var("REDIS_URL").ok().filter(|url| !url.is_empty());
    if let (Some(url), Ok(prefix)) = (&given, std::env::var(PREFIX)) {
        return change(url, &prefix).await;
    }
    let private = if given.is_none() { Some(terrace_testbed::Redis::start().await?) } else { None };
    let url = given.or_else(|| private.as_ref().map(terrace_testbed::Redis::url)).unwrap_or_default();
    let prefix = format!("cookbook-{}", std::process::id());

    let prices = open(&url, &prefix)?;
    prices.ready().await?;
    let load = || async { Ok::<_, Infallible>("3.00".to_owned()) };
    println!("this process loads the price of tea: {}", *prices.get_or_load("tea", load).await?);
    prices.settled().await;
    let price = prices.get("tea").await?.ok_or("no price")?;
    println!("and reads it again: {} from {:?}", *price, price.served().from);

    let mut other = Command::new(std::env::current_exe()?);
    let begun = Instant::now();
    let mut other = other.env("REDIS_URL", &url).env(PREFIX, &prefix).stdout(Stdio::null()).spawn()?;
    let changed = async {
        loop {
            if let Some(price) = prices.get("tea").await?
                && *price == "3.20"
            {
                return Ok::<_, terrace::Error>(price);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let price = timeout(Duration::from_secs(30), changed).await??;
    println!("another process changes it: {} from {:?}", *price, price.served().from);
    println!("{} ms passed since that process was started", begun.elapsed().as_millis());
    if !other.wait().await?.success() {
        return Err("the other process failed".into());
    }
    let price = prices.get("tea").await?.ok_or("no price")?;
    println!("and from then on: {} from {:?}", *price, price.served().from);
    prices.clear().await?;
    prices.close().await;
    Ok(())
}
