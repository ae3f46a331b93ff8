//! What a cache tells its observers.

use std::time::Duration;

use crate::Error;

/// Something that happened in a cache. Keys and values are never part of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A tier answered a read; `near` is the near tier's name.
    Hit {
        /// The tier.
        tier: &'a str,
    },
    /// A tier had nothing fresh for a read.
    Miss {
        /// The tier.
        tier: &'a str,
    },
    /// A copy within its life was read past: that it was as new as the truth could not be proven as the
    /// level asks.
    Unproven {
        /// The tier.
        tier: &'a str,
    },
    /// A stale entry was served.
    StaleServed,
    /// A caller shared another's trip or load.
    Coalesced,
    /// A loader ended.
    Loaded {
        /// How long it took.
        elapsed: Duration,
        /// Whether it gave a value or an absence, and no error or panic.
        ok: bool,
    },
    /// A load waited for one that another process ran, or seemed to run.
    Waited {
        /// The tier by whose lease.
        tier: &'a str,
        /// How long it waited.
        elapsed: Duration,
    },
    /// A tier took a fill.
    Filled {
        /// The tier.
        tier: &'a str,
    },
    /// A tier refused a fill, because something newer had happened to the key.
    FillRefused {
        /// The tier.
        tier: &'a str,
    },
    /// Stored bytes could not be read as this cache's value: a miss.
    Undecodable {
        /// The tier.
        tier: &'a str,
        /// Why.
        error: &'a Error,
    },
    /// A tier failed an operation.
    Failed {
        /// The tier.
        tier: &'a str,
        /// The error.
        error: &'a Error,
    },
    /// A tier is lost: reads go past it until it is back. Told once.
    Lost {
        /// The tier.
        tier: &'a str,
        /// The error that told so.
        error: &'a Error,
    },
    /// A lost tier answers again. Told once.
    Back {
        /// The tier.
        tier: &'a str,
    },
    /// A value was put, or put on condition.
    Put,
    /// A key was invalidated or removed, or a namespace cleared.
    Dropped,
    /// A fill was left out, because too many were under way.
    FillSkipped,
}

/// Hears what happens in a cache: for metrics and logs of an application's own.
///
/// Called inline, on near hits too: it must be quick and must not block.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use terrace_core::{Event, Observer};
///
/// #[derive(Default)]
/// struct Loads(AtomicU64);
///
/// impl Observer for Loads {
///     fn observe(&self, _namespace: &str, event: &Event<'_>) {
///         if let Event::Loaded { .. } = event {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Something happened in the cache of `namespace`.
    fn observe(&self, namespace: &str, event: &Event<'_>);
}
