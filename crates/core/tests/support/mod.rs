//! What the tests of the chain share: small stacks over in-memory tiers.
#![allow(dead_code, unused_imports, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests; the lint looks for the attribute on each function")]

mod policies;

pub(crate) use policies::{Lives, OnError, Share, Stale};

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

/// A near tier alone.
pub(crate) fn local() -> Stack {
    builder().build().unwrap()
}

/// A builder with a near tier.
pub(crate) fn builder() -> Builder<String, u64, Near> {
    Builder::new("tests".to_owned(), Memory::entries(1_000))
}

/// A builder without one.
pub(crate) fn without_near() -> Builder<String, u64, Near> {
    Builder::new("tests".to_owned(), Memory::off())
}

/// A fake tier on a clock that is turned by hand.
pub(crate) fn fake(name: &str, hand: &ManualClock) -> Fake {
    Fake::with_clock(name, hand.into())
}

/// Counts the loads and gives a value after a while.
#[derive(Clone, Default)]
pub(crate) struct Loader(Arc<AtomicUsize>);

impl Loader {
    pub(crate) fn runs(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// Gives `value` after `pause`.
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

    /// Panics after `pause`.
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

    /// Fails after `pause`.
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

/// A store whose log can be relayed, and is not: tests are the relay.
#[derive(Clone)]
pub(crate) struct Truth(pub(crate) Fake);

impl Backend for Truth {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn open(&self, space: &Namespace) -> Result<Arc<dyn Tier>> {
        self.0.open(space)
    }

    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        Some(Arc::new(Unread))
    }
}

/// A log that answers no relay.
struct Unread;

impl InvalidationLog for Unread {
    fn follow(&self, _namespace: &str, _follower: Weak<dyn Follower>) {}

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(Self))
    }
}

#[async_trait]
impl Replay for Unread {
    async fn end(&self) -> Result<Bytes> {
        std::future::pending().await
    }

    async fn since(&self, _namespace: &str, _place: &Bytes) -> Result<Option<(Vec<Notice>, Bytes)>> {
        std::future::pending().await
    }
}

/// Time on both clocks.
pub(crate) async fn pass(hand: &ManualClock, time: Duration) {
    tokio::time::advance(time).await;
    hand.advance(time);
}
