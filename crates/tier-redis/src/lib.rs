//! The Redis tier of terrace: fenced cache tier over one multiplexed connection.
//!
//! - [`Redis`] is the handle of one server; caches open their tiers on it.
//! - A hit is a plain GET; concurrent ones share an MGET. What changes a key is a script, one file
//!   for each operation, which does what [`transition`](terrace_tier::transition) says.
//! - Every change is told in a stream beside the cells, the invalidation log, by the same script.
//! - Epochs (what `clear` changes) are checked by every script, and by reads at most 100 ms apart.
//!
//! Needs Redis 6.2 or later, or a server that speaks its protocol (RESP3, Lua).

mod address;
mod batch;
mod fault;
mod handle;
mod heard;
mod idle;
mod layout;
mod leases;
mod link;
mod listener;
mod live;
mod log;
mod publish;
mod reads;
mod reclaim;
mod script;
mod send;
mod space;
mod terms;
mod tier;
mod waits;
mod write;

pub use handle::{Redis, RedisBuilder};
