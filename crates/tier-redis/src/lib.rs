//! The Redis tier of terrace: a fenced cache tier over one multiplexed connection.
//!
//! - [`Redis`] is the handle of one server. Caches open their tiers through it.
//! - A hit is a plain GET, and concurrent hits share an MGET. Every change of a key runs as a Lua
//!   script, one file for each operation. The scripts implement
//!   [`transition`](terrace_tier::transition).
//! - The script that changes a key also appends the change to the invalidation log, a Redis stream.
//! - Every script checks the epoch of the namespace, which `clear` changes. A read checks it against
//!   a value that is at most 100 ms old.
//!
//! The crate needs Redis 6.2 or later, Valkey, or a server that speaks their protocol and runs Lua scripts.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod builder;
mod connection;
mod counters;
mod doctor;
mod error;
mod findings;
mod handle;
mod leases;
mod log;
mod namespace;
mod options;
mod publish;
mod read;
mod renewal;
mod scripts;
mod tier;
mod write;

pub use builder::RedisBuilder;
pub use handle::Redis;
