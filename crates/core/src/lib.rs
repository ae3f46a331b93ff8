//! The contracts and the chain of terrace: cache, routes, flights, entries, keys, codecs, clock.

mod error;
mod time;
mod version;

pub use error::{BoxError, Error, ErrorKind, Result};
pub use time::{Deadlines, Timestamp};
pub use version::{Epoch, Token, Version};
