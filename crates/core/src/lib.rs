//! This crate is the engine of terrace: the cache with its routes, flights, entries, keys and codecs.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod behind;
mod bounds;
mod cache;
mod chain;
pub mod codec;
mod entry;
mod event;
mod fencing;
mod flight;
mod freshness;
pub mod key;
mod latency;
pub mod near;
mod overload;
mod panics;
pub mod policy;
mod read;
mod recorder;
mod relay;
mod stats;
mod typed_codec;
mod write;

pub use behind::{BacklogStats, DeadLetter, DeadLetters};
pub use bounds::{Key, Value};
pub use cache::{
    Builder, Cache, LoadContext, Many, MissingKeys, StatsSource, Tenants, TierConfig, TierSettings,
};
pub use codec::{Codec, Compression, DecodeError};
pub use entry::{Cached, Item, Served, Source};
pub use event::{Event, Observer};
pub use freshness::ExpectedChange;
pub use key::{BorrowedKey, Digest};
pub use latency::{LATENCY_BOUNDS, Latencies};
pub use near::NoNear;
pub use recorder::{Recorded, Recorder};
pub use stats::{ClassStats, Stats, TierStats};
// Applications use these parts of the tier contract, too.
pub use terrace_tier::{Backend, BoxError, Clock, Error, ErrorKind, Level, ManualClock, Result, Version};

use policy::{
    Admission, AdmitContext, Coalesce, Copies, Expiry, Freshness, OnStale, StaleHit, WriteContext, WritePlan,
};
use terrace_tier::{
    Condition, Deadlines, Fence, Follower, Invalidation, Namespace, Notice, Op, Order, Publication, Replay,
    Reply, Role, Stored, Tier, TierKey, Timestamp, Token, Watermark, defence,
};
