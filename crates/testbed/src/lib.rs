//! Private servers for tests: `redis-server` and `postgres` on free loopback ports with data folders
//! of their own, and a TCP proxy that makes faults.
//!
//! - [`shared_redis`] and [`shared_postgres`] return the URL of a server that all tests of a run share.
//! - [`Redis`] and [`Postgres`] are private servers, for a test that kills, stops or restarts one. A [`Sentinel`]
//!   watches a [`Redis`] and its replicas.
//! - [`Prometheus`] scrapes the program under test, and [`promtool`] checks what it offers.
//! - [`Proxy`] stands between a client and a server and cuts, stalls, refuses, delays or splits the
//!   traffic.
//!
//! Nothing here depends on a server that happens to be running. If a server program is not installed,
//! the error says what to install. Every server ends when its handle is dropped. A watchdog process
//! ends it when the test process is killed.
//!
//! Servers start and stop on threads of their own, with the machine's clock, so a test on virtual
//! time can use them.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod error;
mod name;
mod pooler;
mod port;
mod postgres;
mod probe;
mod programs;
mod prometheus;
mod proxy;
mod redis;
mod sentinel;
mod server;
mod shared;
mod unprivileged;
mod version;

pub use error::{Error, Result};
pub use name::unique_name;
pub use pooler::{PgBouncer, PgBouncerKind};
pub use port::free_port;
pub use postgres::{Postgres, PostgresKind, PostgresOptions};
pub use programs::promtool;
pub use prometheus::{Prometheus, PrometheusKind, PrometheusOptions};
pub use proxy::{Proxy, Stall};
pub use redis::{Redis, RedisKind, RedisOptions};
pub use sentinel::{Sentinel, SentinelKind, SentinelOptions};
pub use server::{PrivateServer, ServerKind, ServerOptions, SetUpStep};
pub use shared::{SharedSet, shared_postgres, shared_postgres_superuser, shared_redis};
