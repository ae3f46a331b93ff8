//! A process: its callers, its cache's tiers and policies, and the log that it follows.

pub(crate) mod client;
pub(crate) mod follow;
pub(crate) mod leases;
pub(crate) mod policies;
pub(crate) mod tier;
