//! The testbed against real servers.

#![expect(clippy::unwrap_used, reason = "a helper that fails is a failed test")]

mod lifetime;
mod postgres;
mod proxy;
mod redis_server;
mod shared;
