//! The events that a cache reports to its observers.

use std::time::Duration;

use crate::Error;

/// Something that happened in a cache. It never contains keys or values.
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
    /// A read passed over a copy within its life, because nothing proved it as new as the level asks.
    Unproven {
        /// The tier.
        tier: &'a str,
    },
    /// A stale entry was served.
    StaleServed,
    /// A caller shared another caller's lookup or load.
    Coalesced,
    /// A loader ended.
    Loaded {
        /// How long it took.
        elapsed: Duration,
        /// Whether it gave a value or an absence, and no error or panic.
        ok: bool,
    },
    /// A load waited for a load that another process ran, or seemed to run.
    Waited {
        /// The tier whose lease it waited for.
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
    /// A tier is lost: reads pass over it until it is back. Reported once.
    Lost {
        /// The tier.
        tier: &'a str,
        /// The error that showed it.
        error: &'a Error,
    },
    /// A lost tier answers again. Reported once.
    Back {
        /// The tier.
        tier: &'a str,
    },
    /// A value was put, with or without a condition.
    Put,
    /// A key was invalidated or removed, or a namespace cleared.
    Dropped,
    /// A fill was skipped, because too many fills were under way.
    FillSkipped,
}

/// Receives the events of a cache: for an application's own metrics and logs.
///
/// # Cost
/// The cache calls it inline, on near hits too, so it must be quick and must not block.
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
