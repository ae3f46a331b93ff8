//! The invalidation log: what it reports to its followers, and how a relay's step appears in it.

mod follower;
pub(in crate::suite) mod publish;
pub(in crate::suite) mod reports;
