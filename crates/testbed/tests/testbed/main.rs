//! Tests of the testbed against real servers.

#![expect(clippy::unwrap_used, reason = "a failed helper fails the test")]

mod lifetime;
mod pooler;
mod postgres;
mod proxy;
mod redis_server;
mod sentinel;
mod shared;
