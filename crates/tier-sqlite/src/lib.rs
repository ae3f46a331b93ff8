//! The embedded SQLite tier of terrace: the same contract as a server's, in one process, without
//! one.
//!
//! [`Sqlite`] is the handle; its place in a cache's chain says which role it has. Every operation
//! runs [`terrace_tier::transition`] itself, inside a transaction: concurrent ones share it.

mod clean;
mod error;
mod file;
mod shared;
mod space;
mod sqlite;
mod terms;
mod tier;

pub use sqlite::Sqlite;
