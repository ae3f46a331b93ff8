//! The main use of a cache: a value is loaded once, then served from memory, and is still there after
//! a restart. The example needs no server.
//!
//! ```sh
//! cargo run --release --example quickstart
//! ```
//!
//! The tiers are memory and an SQLite file. With servers they are memory, Redis and Postgres, and the code
//! that uses the cache is the same:
//!
//! ```sh
//! export REDIS_URL=redis://localhost DATABASE_URL=postgres://localhost/postgres
//! cargo run --release --features redis,postgres --example quickstart
//! ```

use std::{
    convert::Infallible,
    env::var,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use terrace::{Cache, Cached, Error, Memory, Result, Source, Sqlite, Stats, Ttl};

#[derive(Serialize, Deserialize)]
struct Article {
    title: String,
}

/// Builds the cache. No other code names the tiers.
fn open() -> Result<Cache<u64, Article>> {
    let cache = Cache::builder("articles").near(Memory::entries(1_000)).expire(Ttl::secs(60));
    #[cfg(all(feature = "redis", feature = "postgres"))]
    if let (Ok(redis), Ok(database)) = (var("REDIS_URL"), var("DATABASE_URL")) {
        return cache.tier(terrace::Redis::new(redis)?).store(terrace::Postgres::new(&database)?).build();
    }
    cache.store(Sqlite::file(std::env::temp_dir().join("terrace-quickstart.db"))?).build()
}

/// Says why servers that the environment names are not used.
fn explain_unused_servers() {
    let with_servers = cfg!(all(feature = "redis", feature = "postgres"));
    match (var("REDIS_URL").is_ok(), var("DATABASE_URL").is_ok()) {
        (true, true) if !with_servers => {
            println!("To use REDIS_URL and DATABASE_URL, add --features redis,postgres.\n");
        }
        (one, other) if one != other => {
            println!("Servers are used if both REDIS_URL and DATABASE_URL are set.\n");
        }
        _ => {}
    }
}

/// The slow work that the cache saves: it takes 50 milliseconds.
async fn write_article(number: u64) -> Result<Article, Infallible> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(Article { title: format!("Article {number}, on terraces") })
}

#[tokio::main]
async fn main() -> Result<()> {
    explain_unused_servers();
    let articles = open()?;
    articles.ready().await?;
    // An earlier run may have left these articles behind.
    articles.remove_many(&[1, 2]).await.into_iter().collect::<Result<Vec<_>>>()?;

    let tiers: Vec<String> = articles.stats().tiers.into_iter().map(|tier| tier.name).collect();
    println!("{}\n\nA new process", tiers.join(" -> "));
    read(&articles, "read article 1").await?;
    read(&articles, "read it again").await?;
    stampede(&articles).await?;
    settle_and_print(&articles).await;

    println!("\nAfter a restart: the memory of the process is empty");
    articles.close().await;
    drop(articles);
    let articles = open()?;
    articles.ready().await?;
    read(&articles, "read article 1").await?;
    read(&articles, "read it again").await?;
    settle_and_print(&articles).await;

    println!("\nRemoved everywhere");
    articles.remove(&1).await?;
    let gone = articles.get(&1).await?.is_none();
    println!(
        "  {:<28}{}",
        "read article 1",
        if gone { "not found in any tier" } else { "found, although it was removed" }
    );
    Ok(())
}

async fn read(articles: &Cache<u64, Article>, what: &str) -> Result<()> {
    let began = Instant::now();
    let article: Cached<Article> = articles.get_or_load(&1, || write_article(1)).await?;
    let took = began.elapsed();
    let from = match article.served().from {
        Source::Loader => "the loader".to_owned(),
        Source::Near => "near".to_owned(),
        Source::Tier(name) | Source::Store(name) => name.to_string(),
        _ => "elsewhere".to_owned(),
    };
    // `Cached` dereferences to the value.
    println!("  {what:<28}{:<28}{:>12}  from {from}", article.title, human(took));
    Ok(())
}

async fn stampede(articles: &Cache<u64, Article>) -> Result<()> {
    let (began, loads) = (Instant::now(), articles.stats().loads);
    let callers: Vec<_> = (0..1_000)
        .map(|_| articles.clone())
        .map(|articles| tokio::spawn(async move { articles.get_or_load(&2, || write_article(2)).await }))
        .collect();
    for caller in callers {
        caller.await.map_err(Error::load)??;
    }
    let loads = articles.stats().loads - loads;
    println!("  {:<56}{:>12}  {loads} load", "1,000 callers read article 2 at once", human(began.elapsed()));
    Ok(())
}

/// Waits until the background tasks have made their copies, then prints the counts of each tier.
async fn settle_and_print(articles: &Cache<u64, Article>) {
    articles.settled().await;
    let Stats { tiers, loads, .. } = articles.stats();
    println!("  {:<28}{:>8}{:>8}{:>8}", "", "hits", "misses", "fills");
    for tier in tiers {
        println!("  {:<28}{:>8}{:>8}{:>8}", tier.name, tier.hits, tier.misses, tier.fills);
    }
    println!("  {:<28}{loads:>8}", "loads");
}

fn human(took: Duration) -> String {
    match took.as_nanos() as f64 / 1000.0 {
        micros if micros < 1_000.0 => format!("{micros:.1} us"),
        micros => format!("{:.1} ms", micros / 1000.0),
    }
}
