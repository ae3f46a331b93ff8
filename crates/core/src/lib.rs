//! The contracts and the chain of terrace: cache, routes, flights, entries, keys, codecs, clock.

mod cache;
mod chain;
pub mod codec;
mod entry;
mod event;
mod flight;
pub mod key;
pub mod near;
pub mod policy;
mod relay;
mod stats;
mod wire;

pub use cache::{Builder, Cache, LoadContext, Many, MissingKeys, Tenants, TierConfig, TierSettings};
pub use codec::{Codec, Compression, DecodeError};
pub use entry::{Cached, Item, Served, Source};
pub use event::{Event, Observer};
pub use key::{BorrowedKey, Digest};
pub use near::NoNear;
pub use stats::{Stats, TierStats};
// The part of the tier contract that applications use, too.
pub use terrace_tier::{Backend, BoxError, Clock, Error, ErrorKind, Level, ManualClock, Result, Version};

use entry::Entry;
use near::Near;
use policy::{
    Admission, AdmitContext, Coalesce, Copies, Expiry, Freshness, Lifetime, OnStale, StaleHit, Stampede,
    WriteContext, WritePlan, WritePolicy,
};
use terrace_tier::{
    Condition, Deadlines, Fence, Follower, Invalidation, InvalidationLog, KeyName, LeaseWaiter, Namespace,
    Notice, Op, Order, Publication, Replay, Reply, Role, Stored, Tier, TierKey, Timestamp, Token, Watermark,
    defence,
};
