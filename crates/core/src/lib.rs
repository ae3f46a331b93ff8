//! The contracts and the chain of terrace: cache, routes, flights, entries, keys, codecs, clock.

mod cache;
mod cell;
mod chain;
mod clock;
pub mod codec;
mod entry;
mod error;
mod event;
mod flight;
mod gate;
pub mod key;
mod log;
mod mark;
pub mod near;
pub mod policy;
mod publish;
mod relay;
mod spaces;
mod stats;
mod swap;
#[doc(hidden)]
pub mod switch;
mod sync;
mod tier;
mod time;
mod transition;
mod version;
pub mod waiting;
mod wire;

pub use cache::{Builder, Cache, Loading, Many, Missing, Placed, Tenants, TierSettings};
pub use cell::{Cell, HEADER_LEN, State};
pub use clock::{Clock, ManualClock};
pub use codec::{Codec, Compression, Undecoded};
pub use entry::{Cached, Entry, Item, Served, Source};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use event::{Event, Observer};
pub use gate::{Gate, GateLimits, Trip};
pub use key::{Digest, EncodedKey, KeyName, Lookup, TierKey};
pub use log::{Follower, InvalidationLog, Notice, Replay, Sent};
pub use mark::Mark;
pub use near::{Near, NoNear};
pub use policy::{
    Admission, Coalesce, Copies, Expiry, Freshness, Keeping, Lifetime, OnStale, StaleHit, Stampede,
    WritePlan, WritePolicy, Writing,
};
pub use publish::{Dropped, Publication, Publish};
pub use spaces::{Claim, Spaces};
pub use stats::{Stats, TierStats};
pub use swap::{Swap, Swapping};
pub use tier::{Backend, Level, Space, Tier, unexpected};
pub use time::{Deadlines, Timestamp};
pub use transition::{Change, Condition, Fence, Moment, Op, Order, Reply, Role, Stored, transition};
pub use version::{Epoch, Token, Version};
pub use waiting::Waits;
