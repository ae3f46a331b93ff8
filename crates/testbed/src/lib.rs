//! Private servers for tests: `redis-server` and `postgres` on free loopback
//! ports with data folders of their own, and a TCP proxy that makes faults.
//!
//! - [`shared_redis`] and [`shared_postgres`] give the URL of a server that all
//!   tests of a run share.
//! - [`Redis`] and [`Postgres`] are private servers, for a test that kills,
//!   stops or restarts one.
//! - [`Proxy`] stands before a server and cuts, stalls, refuses, delays or
//!   splits its traffic.
//!
//! Nothing here depends on a server that happens to be running, and a server
//! program that is not installed is an error that says what to install. Every
//! server ends with its handle, and also when the test process is killed: a
//! watchdog process waits for that.
//!
//! Servers start and stop on threads of their own, with the machine's clock, so
//! all of it can be used in a test that runs on virtual time.

mod error;
mod find;
mod name;
mod port;
mod postgres;
mod processes;
mod programs;
mod proxy;
mod ready;
mod redis;
mod server;
mod shared;
mod watchdog;

pub use error::{Error, Result};
pub use name::unique_name;
pub use postgres::{Postgres, PostgresOptions};
pub use proxy::{Proxy, Stall};
pub use redis::{Redis, RedisOptions};
pub use shared::{SharedSet, shared_postgres, shared_redis};
