//! A cache reports these events to its observers.

use std::time::Duration;

use crate::Error;

/// An event in a cache. Events never contain keys or values.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A tier answered a read. The near tier has the name `near`.
    Hit {
        /// The name of the tier.
        tier: &'a str,
    },
    /// A tier had no fresh entry for a read. A call that failed is no miss: [`Event::Failed`] reports it.
    Miss {
        /// The name of the tier.
        tier: &'a str,
    },
    /// A read passed over a copy within its life, because nothing proved the copy as new as the level
    /// demands.
    Unproven {
        /// The name of the tier.
        tier: &'a str,
    },
    /// A caller was served a stale entry.
    StaleServed,
    /// A caller shared another caller's lookup or load.
    Coalesced,
    /// A loader ended.
    Loaded {
        /// How long the loader ran.
        elapsed: Duration,
        /// Whether the loader gave a value or an absence, and neither an error nor a panic.
        ok: bool,
    },
    /// A load waited for a load that another process ran, or seemed to run.
    Waited {
        /// The name of the tier whose lease the load waited for.
        tier: &'a str,
        /// How long the load waited.
        elapsed: Duration,
    },
    /// A load was not started, because too many loads were under way.
    LoadRefused,
    /// A caller got a stale value, because the load of the key took longer than the soft timeout. The load
    /// goes on.
    SoftTimeout,
    /// A tier took the copy that a fill sent to it.
    Filled {
        /// The name of the tier.
        tier: &'a str,
    },
    /// A tier refused a fill, because another write or fill of the key came first.
    FillRefused {
        /// The name of the tier.
        tier: &'a str,
    },
    /// Stored bytes could not be read as a value of this cache. A read of undecodable bytes counts as a
    /// miss.
    Undecodable {
        /// The name of the tier.
        tier: &'a str,
        /// Why the bytes could not be read.
        error: &'a Error,
    },
    /// A loaded value could not be encoded, or is larger than the codec's limit. Its callers got it, and no
    /// shared tier keeps it: each read of its key loads it again.
    Unencodable {
        /// Why the value could not be encoded.
        error: &'a Error,
    },
    /// A tier failed an operation.
    Failed {
        /// The name of the tier.
        tier: &'a str,
        /// The error of the operation.
        error: &'a Error,
    },
    /// A tier is lost: reads pass over the tier until it answers again. Each loss of a tier is reported
    /// once.
    Lost {
        /// The name of the tier.
        tier: &'a str,
        /// The error that showed the loss.
        error: &'a Error,
    },
    /// A lost tier answers again. Each return of a tier is reported once.
    Back {
        /// The name of the tier.
        tier: &'a str,
    },
    /// The authority took a value that was put, with or without a condition. A put that failed, or whose
    /// condition did not hold, is not reported.
    Put,
    /// Every tier has dropped a key that was invalidated or removed, or a namespace that was cleared. A call
    /// that a tier did not confirm is not reported.
    Dropped,
    /// A fill was skipped, because too many fills were under way.
    FillSkipped,
    /// The write-behind front of this process was opened.
    FrontOpened,
    /// Another write-behind front was opened. What this one had not written became dead letters.
    FrontLost {
        /// The number of writes that became dead letters.
        writes: usize,
    },
    /// A write took the place of one that was not flushed.
    WriteCoalesced,
    /// The store has taken a batch of dirty writes.
    Flushed {
        /// The number of writes.
        writes: usize,
        /// How long the flush took.
        elapsed: Duration,
    },
    /// A flush failed, and is tried again.
    FlushFailed {
        /// The error of the store.
        error: &'a Error,
    },
    /// A dirty write found a newer record in the store, which stays.
    GaveWay,
    /// The store refuses a dirty write for good.
    DeadLetter {
        /// Why the store refuses it.
        error: &'a Error,
    },
    /// A write found the write-behind backlog full.
    BacklogFull {
        /// How long the write waited.
        blocked: Duration,
        /// Whether the write was taken.
        taken: bool,
    },
}

/// Receives the events of a cache, for the metrics and logs of an application.
///
/// # Cost
/// The cache calls the observer inline, on near hits too, so an observer must be quick and must not
/// block.
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
    /// Receives one event of the cache of `namespace`.
    fn observe(&self, namespace: &str, event: &Event<'_>);
}
