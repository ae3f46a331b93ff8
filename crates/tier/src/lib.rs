//! The contract between terrace and its shared cache tiers.
//!
//! Authors of tiers depend on this crate; it knows nothing of caches, policies or codecs. A tier keeps
//! one [`Cell`] for each key and does to it what [`transition`] says: that is the whole contract, and
//! `terrace-conformance` checks it. [`Swapping`] makes a tier out of get and compare-and-swap, which is
//! the way to begin; [`Tier`] and [`Backend`] are the traits themselves.
//!
//! - [`cell`](Cell), [`Op`], [`Reply`], [`transition`]: what a tier keeps, and what operations do to it.
//! - [`Backend`], [`Tier`], [`Namespace`]: how a cache reaches a tier.
//! - [`InvalidationLog`]: how a process learns of the changes that other processes make.
//! - [`lease`]: how a process waits for a load of another process.
//! - [`Publish`], [`Watermark`]: how a relay drops copies and proves the rest.
//! - [`Batcher`]: lets concurrent calls share round trips.

mod batcher;
mod cell;
#[doc(hidden)]
pub mod defence;
mod error;
mod key;
pub mod lease;
mod log;
mod namespace;
mod publish;
mod swap;
mod tier;
mod time;
mod watermark;

pub use batcher::{BatchCall, BatchLimits, Batcher};
pub use cell::{
    Cell, Change, Condition, Epoch, Fence, HEADER_LEN, Moment, Op, Order, Reply, Role, State, Stored, Token,
    Version, transition,
};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use key::{KeyDigest, KeyName, Scope, TierKey, key_digest};
pub use lease::LeaseWaiter;
pub use log::{Follower, InvalidationLog, Notice, Replay, SentAt};
pub use namespace::{Namespace, NamespaceGuard, NamespaceRegistry};
pub use publish::{Invalidation, Publication, Publish};
pub use swap::{Swap, Swapping};
pub use tier::{Backend, Level, Tier, unexpected};
pub use time::{Clock, Deadlines, ManualClock, Timestamp};
pub use watermark::Watermark;
