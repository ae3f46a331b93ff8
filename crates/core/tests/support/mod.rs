//! Small stacks over in-memory tiers, which several test files share.
#![allow(dead_code, unused_imports, reason = "each test file uses only a part of this module")]
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod policies;

pub(crate) use policies::{EarlyLead, FixedExpiry, FixedStampede, Idle, OnStaleHit, ServeOnError};

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use terrace_conformance::Fake;
use terrace_core::{Backend, BoxError, Builder, Cache, Result};
use terrace_tier::{Follower, InvalidationLog, ManualClock, Namespace, Notice, Replay, Tier};
use terrace_tier_memory::Memory;

pub(crate) type Near = Memory<String, u64>;
pub(crate) type Stack = Cache<String, u64, Near>;

/// A cache with only a near tier.
pub(crate) fn local() -> Stack {
    builder().build().unwrap()
}

/// A builder with a near tier.
pub(crate) fn builder() -> Builder<String, u64, Near> {
    Builder::new("tests".to_owned(), Memory::entries(1_000))
}

/// A builder without a near tier.
pub(crate) fn without_near() -> Builder<String, u64, Near> {
    Builder::new("tests".to_owned(), Memory::off())
}

/// A fake tier on a manual clock.
pub(crate) fn fake(name: &str, hand: &ManualClock) -> Fake {
    Fake::with_clock(name, hand.into())
}

/// Makes loaders and counts how often they run.
#[derive(Clone, Default)]
pub(crate) struct Loader(Arc<AtomicUsize>);

impl Loader {
    pub(crate) fn runs(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// A load that gives `value` after `pause`.
    pub(crate) fn give(
        &self,
        value: u64,
        pause: Duration,
    ) -> impl Future<Output = std::result::Result<u64, BoxError>> + Send + 'static + use<> {
        let runs = Arc::clone(&self.0);
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(pause).await;
            Ok(value)
        }
    }

    /// A load that panics after `pause`.
    pub(crate) fn panic(
        &self,
        pause: Duration,
    ) -> impl Future<Output = std::result::Result<u64, BoxError>> + Send + 'static + use<> {
        let runs = Arc::clone(&self.0);
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(pause).await;
            panic!("a loader that panics on purpose")
        }
    }

    /// A load that fails after `pause`.
    pub(crate) fn fail(
        &self,
        pause: Duration,
    ) -> impl Future<Output = std::result::Result<u64, BoxError>> + Send + 'static + use<> {
        let runs = Arc::clone(&self.0);
        async move {
            runs.fetch_add(1, Ordering::SeqCst);
            tokio::time::sleep(pause).await;
            Err("the origin is away".into())
        }
    }
}

pub(crate) fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// A store with a log that a relay could read, but that never answers: the test itself is the relay.
#[derive(Clone)]
pub(crate) struct ReplayableStore(pub(crate) Fake);

impl Backend for ReplayableStore {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        self.0.open(namespace)
    }

    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        Some(Arc::new(SilentLog))
    }
}

/// A log that never answers a relay.
struct SilentLog;

impl InvalidationLog for SilentLog {
    fn follow(&self, _namespace: &str, _follower: Weak<dyn Follower>) {}

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(Self))
    }
}

#[async_trait]
impl Replay for SilentLog {
    async fn end(&self) -> Result<Bytes> {
        std::future::pending().await
    }

    async fn since(&self, _namespace: &str, _place: &Bytes) -> Result<Option<(Vec<Notice>, Bytes)>> {
        std::future::pending().await
    }
}

/// Lets time pass on the manual clock and on tokio's clock.
pub(crate) async fn pass(hand: &ManualClock, time: Duration) {
    tokio::time::advance(time).await;
    hand.advance(time);
}
