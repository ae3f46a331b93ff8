//! Work in the process alone.

use std::hint::black_box;

use tokio::runtime::Handle;

use crate::{
    Result,
    data::{KEYS, Page, key, new_key, scattered},
    measure::{callers::Work, side::Side},
    peer::Peer,
};

/// A cache in the process alone, whose values are behind an `Arc`.
pub trait Near: Send + Sync + 'static {
    /// The number of the page of a key.
    fn get(&self, key: &str) -> impl Future<Output = Option<u64>> + Send;

    /// Keeps a page.
    fn put(&self, key: &str, page: Page) -> impl Future<Output = Result<()>> + Send;
}

/// A near cache that loads what it misses.
pub trait NearLoad: Clone + Send + Sync + 'static {
    /// The number of the page of a key; on a miss the page of this number, which is there at once.
    fn get_or_load(&self, key: &str, number: usize) -> impl Future<Output = Result<u64>> + Send;
}

/// The turns of any [`Near`]. Only a whole turn is a call through this object, which runs the turn's future on
/// the calling thread.
pub trait NearTurns: Send + Sync {
    /// Keeps all [`KEYS`].
    ///
    /// # Errors
    /// The error of a put.
    fn fill(&self, runtime: &Handle) -> Result<()>;

    /// Reads so many keys, all of which are there. Returns how many reads that were.
    ///
    /// # Errors
    /// A key is missing.
    fn hits(&self, runtime: &Handle, keys: &[String], start: usize, count: usize) -> Result<usize>;

    /// Runs 95 % gets and 5 % puts of these keys, and puts what a get misses. Returns how many gets hit.
    ///
    /// # Errors
    /// The error of a put.
    fn mixed(&self, runtime: &Handle, keys: &[String], draws: &[u32]) -> Result<usize>;
}

/// The side of a near cache.
pub type NearSide = Side<dyn NearTurns>;

/// A side of a near cache.
pub fn near<N: Near>(peer: &'static Peer, usage: impl Into<String>, cache: Result<N>) -> NearSide {
    Side::new(peer, usage, cache.map(|cache| Box::new(cache) as Box<dyn NearTurns>))
}

impl<N: Near> NearTurns for N {
    fn fill(&self, runtime: &Handle) -> Result<()> {
        runtime.block_on(async {
            for n in 0..KEYS {
                self.put(&key(n), Page::new(n)).await?;
            }
            Ok(())
        })
    }

    fn hits(&self, runtime: &Handle, keys: &[String], start: usize, count: usize) -> Result<usize> {
        runtime.block_on(async {
            for n in start..start + count {
                let Some(number) = self.get(&keys[scattered(n)]).await else {
                    return Err("a key is missing".into());
                };
                black_box(number);
            }
            Ok(count)
        })
    }

    fn mixed(&self, runtime: &Handle, keys: &[String], draws: &[u32]) -> Result<usize> {
        runtime.block_on(async {
            let mut hits = 0;
            for (at, draw) in draws.iter().enumerate() {
                let (key, number) = (&keys[*draw as usize], *draw as usize);
                // Every twentieth operation is a put.
                if at % 20 != 0 && black_box(self.get(key).await).is_some() {
                    hits += 1;
                } else {
                    self.put(key, Page::new(number)).await?;
                }
            }
            Ok(hits)
        })
    }
}

/// Loads of keys that were never read, each of which the loader answers at once.
#[derive(Clone)]
pub struct NearMisses<N>(pub N);

impl<N: NearLoad> Work for NearMisses<N> {
    async fn run(&self, _n: usize) -> Result<()> {
        let number = new_key();
        let found = self.0.get_or_load(&key(number), number).await?;
        if found == number as u64 { Ok(()) } else { Err("the load gave another page".into()) }
    }
}
