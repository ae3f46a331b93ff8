//! terrace beside other caches and beside the raw clients, in one program.
//!
//! A *row* is one kind of work, such as a put to Redis. All its *sides* (a peer and how it is used) take short
//! turns in each round, in an order that changes from round to round, so that a disturbance of the machine
//! meets all of them. A figure is the median of the rounds, and a ratio is the median of the ratios to the raw
//! client or engine in the same rounds.
//!
//! [`work`] has one trait for each kind of work, [`peers`] one file for each peer, [`rows`] one file for
//! each row.

pub mod data;
pub mod measure;
pub mod peer;
pub mod peers;
pub mod report;
pub mod rows;
pub mod work;

/// The error of a row or of a peer.
pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// The result of a row or of a peer's operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
