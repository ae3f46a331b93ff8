//! The embedded SQLite tier of terrace: the same contract as a server's tier, for one process and
//! without a server.
//!
//! [`Sqlite`] is the handle; its position in a cache's chain decides which role it has. Every
//! operation runs [`terrace_tier::transition`] inside a transaction, and concurrent operations share
//! transactions.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod clean;
mod connection;
mod counters;
mod error;
mod front;
mod handle;
mod namespace;
mod options;
mod read;
mod shared;
mod tier;
mod timer;
mod write;

pub use handle::Sqlite;
