//! What keeps a cache from overrunning an origin that is slow, fails or hangs.
//!
//! [`loader`] runs the loaders within a limit, [`limit`] is such a limit with its short queue, and
//! [`back_off`] says when a key whose load has failed is tried again.

mod back_off;
mod limit;
mod loader;

pub(crate) use back_off::BackOff;
pub(crate) use limit::{Limit, Permit};
pub(crate) use loader::{DEFAULT_MAX_LOADS, EnclosingLoads, LoadLimit, is_reentrant, is_renewal};
