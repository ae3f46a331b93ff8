//! An invalidation while a load runs: the load has read the origin before the change, and must not be kept.

use std::{sync::Arc, time::Duration};

use super::{
    loaders::{Held, Loader},
    read_through::ReadThrough,
};
use crate::Result;

/// How long the invalidation may take while the load runs; a cache may make it wait for the load.
const PATIENCE: Duration = Duration::from_millis(500);

/// Whether a read after the invalidation gives the value from before it. `n` must not be [`OLD`](super::loaders::OLD).
///
/// # Errors
/// The error of the invalidation or of the last read; the load did not begin.
pub async fn is_stale<R: ReadThrough>(cache: &R, n: usize) -> Result<bool> {
    let (held, runs) = Held::new();
    let reader = tokio::spawn({
        let (cache, loader) = (cache.clone(), Loader::Held(Arc::clone(&held)));
        async move { cache.get_or_load(n, loader).await }
    });
    tokio::time::timeout(Duration::from_secs(10), runs).await??;
    let mut invalidation = Box::pin(cache.invalidate(n));
    let early = tokio::time::timeout(PATIENCE, &mut invalidation).await;
    held.go_on();
    match early {
        Ok(done) => done?,
        Err(_elapsed) => invalidation.await?,
    }
    // The first reader may have the old value: it asked before the invalidation.
    let _old = reader.await?;
    cache.settle().await;
    Ok(cache.get_or_load(n, Loader::Instant).await? != n as u64)
}
