//! The cases of the suite, one subject a file. [`list`](super::list) puts them into groups.

pub(super) mod batch;
pub(super) mod callers;
pub(super) mod clear;
pub(super) mod copies;
pub(super) mod evict;
pub(super) mod fronts;
pub(super) mod histories;
pub(super) mod lease_waiter;
pub(super) mod leases;
pub(super) mod lifetime;
pub(super) mod log;
pub(super) mod processes;
pub(super) mod races;
pub(super) mod reads;
pub(super) mod shapes;
pub(super) mod store;
