//! A tier of your own in one file: a service that can get and compare-and-swap becomes a fenced tier.
//!
//! Here the service is a map behind a lock. etcd, DynamoDB, FoundationDB and object stores with
//! conditional writes have the same two operations. `Swapping` adds the versions, leases, tombstones
//! and tenants that a cache tier needs. At the end the tier passes the suite that the library's own
//! cache tiers pass.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin your_own_tier
//! ```

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use bytes::Bytes;
use terrace::{
    Cache, Memory, Result,
    tier::{Swap, Swapping, Timestamp},
};
use terrace_conformance::suite::{self, Subject};

/// The whole tier.
#[derive(Default)]
struct Shelf(Mutex<HashMap<String, Bytes>>);

impl Shelf {
    fn map(&self) -> MutexGuard<'_, HashMap<String, Bytes>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Swap for Shelf {
    fn name(&self) -> &str {
        "shelf"
    }

    async fn get(&self, key: &str) -> Result<Option<Bytes>> {
        Ok(self.map().get(key).cloned())
    }

    /// Writes `new` if the value of the key is still `seen`. A service may keep the bytes for longer
    /// than `expires`, since they contain the deadline too.
    async fn swap(&self, key: &str, seen: Option<&Bytes>, new: Bytes, _expires: Timestamp) -> Result<bool> {
        let mut map = self.map();
        let unchanged = map.get(key) == seen;
        if unchanged {
            map.insert(key.to_owned(), new);
        }
        Ok(unchanged)
    }

    async fn clear(&self, prefix: &str) -> Result<()> {
        self.map().retain(|key, _| !key.starts_with(prefix));
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    // One handle serves any number of caches and outlives them.
    let shelf = Swapping::new(Shelf::default());
    let open = || Cache::builder("words").near(Memory::entries(100)).tier(shelf.clone()).build();

    let words: Cache<String, usize> = open()?;
    let count = words.get_or_load("terrace", || async { Ok::<_, std::io::Error>("terrace".len()) }).await?;
    println!("loaded:            {count}, from {:?}", count.served().from);
    words.settled().await;

    let again: Cache<String, usize> = open()?;
    if let Some(count) = again.get("terrace").await? {
        println!("another cache:     {count}, from {:?}", count.served().from);
    }
    again.invalidate("terrace").await?;
    println!("after invalidate:  {:?}", again.get("terrace").await?);

    let cases = suite::CACHE;
    let passed = suite::run_all(cases, async || Subject::new(Swapping::new(Shelf::default()))).await;
    match passed {
        Ok(()) => println!("\npasses all {} cases that the library's own cache tiers pass", cases.len()),
        Err(failed) => println!("\nnot a tier yet: {failed:?}"),
    }
    Ok(())
}
