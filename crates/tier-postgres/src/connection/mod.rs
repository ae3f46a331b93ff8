//! Connections to the server, the library's schema behind them, and what the tiers of a handle share.

pub(crate) mod address;
mod backoff;
pub(crate) mod dial;
pub(crate) mod once;
mod own_pool;
pub(crate) mod pool;
mod prepare;
mod reuse;
mod setup;
pub(crate) mod shared;
pub(crate) mod timeout;
