//! The Postgres tier of terrace: store of record, or expiring cache tier, over sqlx.
//!
//! [`Postgres`] is the handle; its place in a cache's chain says which role it has. Every
//! operation is one statement that does what [`terrace_tier::transition`] says, under the row
//! lock; versions are issued there. Concurrent single reads share round trips.
//!
//! The library makes its own schema (`terrace`), with the first call or by [`Postgres::prepare`]. In it,
//! for operators:
//!
//! - the view `stats`: what each namespace keeps;
//! - `SELECT terrace.cleanup_old_cache_entries(days)`: deletes old copies, never records, and tells
//!   how many; `CALL terrace.cleanup_old_cache_entries_in_batches(days)` commits in between;
//! - the view `index_usage`;
//! - `SELECT terrace.forget_terms(namespace)`: lets a namespace be used on other terms.
//!
//! And for every other client of the database:
//!
//! - `SELECT terrace.invalidate(namespace, tenant, key)`: says, in the transaction that changes the
//!   origin of a cached value, that copies of it are old. The key as the cache encodes it:
//!   `terrace.key(42)`, `terrace.key('ann')`, `terrace.key(terrace.key(7), terrace.key('ann'))` for
//!   a tuple; NULL for all keys.
//! - `SELECT terrace.watch('public.users', namespace, '{id}')`: from now on triggers say so for every
//!   change of that table, whoever makes it. The role that calls it owns the table and may create
//!   functions in the library's schema; those who change the table need no right there.
//!   `terrace.unwatch('public.users', namespace)` ends it.

mod clean;
mod error;
mod followers;
mod held;
mod invalidate;
mod leases;
mod log;
mod number;
mod once;
mod outbox;
mod pool;
mod postgres;
mod prepared;
mod read;
mod replay;
mod rows;
mod setup;
mod shared;
mod space;
mod statements;
mod tenant;
mod tier;
mod waits;
mod write;

pub use invalidate::Pending;
pub use postgres::{Postgres, PostgresBuilder};
