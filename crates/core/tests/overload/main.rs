//! What a cache does where its origin is overloaded, fails or hangs.

#[path = "../support/mod.rs"]
mod support;

mod backoff;
mod limit;
mod limit_edges;
mod renewals;
mod soft_timeout;
mod stale_near;
mod store_calls;

use std::time::Duration;

use support::{FixedExpiry, Near, Stack, builder};
use terrace_core::{
    BoxError, Builder,
    policy::{Freshness, OnStale, StaleHit},
};
use terrace_tier::ManualClock;
use tokio::task::JoinHandle;

pub(crate) const LIFE: Duration = Duration::from_secs(1);

pub(crate) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

/// A builder whose entries live for a second and are stale for an hour after that.
pub(crate) fn with_stale_time(hand: &ManualClock) -> Builder<String, u64, Near> {
    builder().clock(hand).expire(FixedExpiry::fresh(LIFE).stale(secs(3_600)))
}

/// Serves a stale value while it is renewed, and where its renewal fails.
pub(crate) struct ServeAlways;

impl Freshness for ServeAlways {
    fn on_stale(&self, hit: &StaleHit) -> OnStale {
        if hit.renewable { OnStale::ServeAndRefresh } else { OnStale::Serve }
    }

    fn on_error(&self, _hit: &StaleHit) -> bool {
        true
    }
}

/// A call in a task of its own. The call has begun when this returns.
pub(crate) async fn begin(
    cache: &Stack,
    key: impl Into<String>,
    load: impl Future<Output = Result<u64, BoxError>> + Send + 'static,
) -> JoinHandle<terrace_core::Result<u64>> {
    let (cache, key) = (cache.clone(), key.into());
    let call = tokio::spawn(async move { cache.get_or_load(&key, || load).await.map(|value| *value) });
    settle().await;
    call
}

/// Lets every task go on that can, without any time that passes.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
