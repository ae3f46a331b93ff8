//! Reads that load what no tier has.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::{crowd, loaders::Loader, stale};
use crate::{
    Result,
    data::new_key,
    measure::callers::{Turns, Work},
    peer::Peer,
};

/// A cache that loads what it misses, or the commands that do the same.
pub trait ReadThrough: Clone + Send + Sync + 'static {
    /// Reads a key, which the loader gives on a miss, and returns the number in the value.
    fn get_or_load(&self, n: usize, loader: Loader) -> impl Future<Output = Result<u64>> + Send;

    /// Says that the origin of a key has changed.
    fn invalidate(&self, n: usize) -> impl Future<Output = Result<()>> + Send;

    /// Waits for the fills that go on in the background.
    fn settle(&self) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// Where a cache keeps its copies.
#[derive(Clone, Debug)]
pub struct Place {
    /// The URL of the Redis.
    pub url: String,
    /// What the keys in Redis begin with. Caches of one namespace share their copies.
    pub namespace: String,
}

/// A peer that is being set up.
pub type Connecting = BoxFuture<'static, Result<Box<dyn Loads>>>;

/// A way to use a peer for reads that load.
#[derive(Clone, Copy)]
pub struct Candidate {
    /// The peer.
    pub peer: &'static Peer,
    /// How the peer is used.
    pub usage: &'static str,
    /// Sets the peer up.
    pub connect: fn(Place) -> Connecting,
}

/// What is measured of any [`ReadThrough`].
pub trait Loads: Send + Sync {
    /// Reads of keys that were never read.
    fn misses(self: Box<Self>, loader: Loader) -> Box<dyn Turns>;

    /// Lets a crowd read one key at once.
    fn crowd(&self, n: usize, callers: usize) -> BoxFuture<'_, Result<crowd::Outcome>>;

    /// Whether a read after an invalidation during a load gives the value from before it.
    fn is_stale(&self, n: usize) -> BoxFuture<'_, Result<bool>>;

    /// Reads a key that was never read, whose loader answers at once.
    fn read(&self, n: usize) -> BoxFuture<'_, Result<u64>>;
}

/// The object of a peer that is being set up.
pub fn boxed<R: ReadThrough>(connect: impl Future<Output = Result<R>> + Send + 'static) -> Connecting {
    Box::pin(async move { Ok(Box::new(connect.await?) as Box<dyn Loads>) })
}

impl<R: ReadThrough> Loads for R {
    fn misses(self: Box<Self>, loader: Loader) -> Box<dyn Turns> {
        Box::new(Misses { cache: *self, loader })
    }

    fn crowd(&self, n: usize, callers: usize) -> BoxFuture<'_, Result<crowd::Outcome>> {
        Box::pin(crowd::run(self, n, callers))
    }

    fn is_stale(&self, n: usize) -> BoxFuture<'_, Result<bool>> {
        Box::pin(stale::is_stale(self, n))
    }

    fn read(&self, n: usize) -> BoxFuture<'_, Result<u64>> {
        Box::pin(self.get_or_load(n, Loader::Instant))
    }
}

/// Reads of keys that were never read.
#[derive(Clone)]
struct Misses<R> {
    cache: R,
    loader: Loader,
}

impl<R: ReadThrough> Work for Misses<R> {
    async fn run(&self, _n: usize) -> Result<()> {
        let n = new_key();
        let found = self.cache.get_or_load(n, self.loader.clone()).await?;
        if found == self.loader.number(n) { Ok(()) } else { Err("the load gave another user".into()) }
    }

    async fn settle(&self) {
        // A peer that never settles must not end the run.
        let _ended = tokio::time::timeout(Duration::from_secs(10), self.cache.settle()).await;
    }
}
