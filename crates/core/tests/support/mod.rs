//! What the tests of the chain share: small stacks over in-memory tiers.
#![allow(dead_code, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "tests; the lint looks for the attribute on each function")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use terrace_conformance::Fake;
use terrace_core::{BoxError, Builder, Cache, ManualClock};
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
    ) -> impl Future<Output = Result<u64, BoxError>> + Send + 'static + use<> {
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
    ) -> impl Future<Output = Result<u64, BoxError>> + Send + 'static + use<> {
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
    ) -> impl Future<Output = Result<u64, BoxError>> + Send + 'static + use<> {
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
