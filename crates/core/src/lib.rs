//! The contracts and the chain of terrace: cache, routes, flights, entries, keys, codecs, clock.

mod cell;
pub mod codec;
mod error;
mod gate;
pub mod key;
mod spaces;
mod swap;
mod tier;
mod time;
mod transition;
mod version;

pub use cell::{Cell, HEADER_LEN, State};
pub use codec::{Codec, Compression, Undecoded};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use gate::{Gate, GateLimits, Trip};
pub use key::{Digest, EncodedKey, Lookup};
pub use spaces::{Claim, Spaces};
pub use swap::{Swap, Swapping};
pub use tier::{Backend, Level, Space, Tier, TierKey, unexpected};
pub use time::{Deadlines, Timestamp};
pub use transition::{Change, Condition, Fence, Moment, Op, Order, Reply, Role, Stored, transition};
pub use version::{Epoch, Token, Version};
