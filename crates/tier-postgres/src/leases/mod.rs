//! Leases at the server: how a process waits for a load of another process.

pub(crate) mod backend;
mod waiter;
