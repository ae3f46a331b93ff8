//! The main job: load once, hit, restart, still there. Needs no server.
//!
//! ```sh
//! cargo run --release --example quickstart
//! ```
//!
//! Memory before an SQLite file; with `REDIS_URL` and `DATABASE_URL` set, memory before Redis
//! before Postgres. The code that uses the cache is the same.

use std::{
    convert::Infallible,
    env::var,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use terrace::{Cache, Cached, Memory, Postgres, Redis, Result, Source, Sqlite, Stats, Ttl};

#[derive(Serialize, Deserialize)]
struct Article {
    title: String,
}

/// The stack: the one place that knows the tiers.
fn open() -> Result<Cache<u64, Article>> {
    let cache = Cache::builder("articles").near(Memory::entries(1_000)).expire(Ttl::secs(60));
    match (var("REDIS_URL"), var("DATABASE_URL")) {
        (Ok(redis), Ok(database)) => cache.tier(Redis::new(redis)?).store(Postgres::new(&database)?).build(),
        _ => cache.store(Sqlite::file(std::env::temp_dir().join("terrace-quickstart.db"))?).build(),
    }
}

/// What the cache saves us: 50 milliseconds of thinking.
async fn write_article(number: u64) -> Result<Article, Infallible> {
    tokio::time::sleep(Duration::from_millis(50)).await;
    Ok(Article { title: format!("Article {number}, on terraces") })
}

#[tokio::main]
async fn main() -> Result<()> {
    let articles = open()?;
    articles.ready().await?;
    // An earlier run may have left them; this one begins at the beginning.
    articles.remove_many(&[1, 2]).await.into_iter().collect::<Result<Vec<_>>>()?;

    let tiers: Vec<String> = articles.stats().tiers.into_iter().map(|tier| tier.name).collect();
    println!("{}\n\nA new process", tiers.join(" -> "));
    read(&articles, "read article 1").await?;
    read(&articles, "read it again").await?;
    stampede(&articles).await?;
    settle_and_tell(&articles).await;

    println!("\nRestart: the process's memory is gone");
    articles.close().await;
    drop(articles);
    let articles = open()?;
    articles.ready().await?;
    read(&articles, "read article 1").await?;
    read(&articles, "read it again").await?;
    settle_and_tell(&articles).await;

    println!("\nRemoved everywhere");
    articles.remove(&1).await?;
    let gone = articles.get(&1).await?.is_none();
    println!("  {:<28}{}", "read article 1", if gone { "nothing, in any tier" } else { "still there?!" });
    Ok(())
}

async fn read(articles: &Cache<u64, Article>, what: &str) -> Result<()> {
    let asked = Instant::now();
    let article: Cached<Article> = articles.get_or_load(&1, || write_article(1)).await?;
    let took = asked.elapsed();
    let from = match article.served().from {
        Source::Loader => "the loader".to_owned(),
        Source::Near => "near".to_owned(),
        Source::Tier(name) | Source::Store(name) => name.to_string(),
        _ => "elsewhere".to_owned(),
    };
    // A handle reads like the value.
    println!("  {what:<28}{:<28}{:>12}  from {from}", article.title, human(took));
    Ok(())
}

async fn stampede(articles: &Cache<u64, Article>) -> Result<()> {
    let (asked, loads) = (Instant::now(), articles.stats().loads);
    let callers: Vec<_> = (0..1_000)
        .map(|_| articles.clone())
        .map(|articles| tokio::spawn(async move { articles.get_or_load(&2, || write_article(2)).await }))
        .collect();
    for caller in callers {
        caller.await.map_err(terrace::Error::load)??;
    }
    let loads = articles.stats().loads - loads;
    println!("  {:<56}{:>12}  {loads} load", "1,000 callers read article 2 at once", human(asked.elapsed()));
    Ok(())
}

/// What each tier did, once the copies that go on behind the caller's back are made.
async fn settle_and_tell(articles: &Cache<u64, Article>) {
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
