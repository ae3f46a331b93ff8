//! The Postgres tier of terrace: store of record or expiring cache tier, over sqlx.
//!
//! [`Postgres`] is the handle of a server, and its place in a cache's chain decides its role. Each
//! operation is one statement, which does what [`terrace_tier::transition`] says under the lock of the
//! row and issues the versions there. Concurrent single reads share statements, and so do concurrent single
//! writes: see [`Postgres`].
//!
//! The first call makes the library's schema (`terrace`); so do [`Postgres::prepare`] and the script of
//! [`Postgres::schema_sql`].
//!
//! # For operators
//!
//! - The view `stats` shows what each namespace holds.
//! - `SELECT terrace.cleanup_old_cache_entries(days)` deletes old copies, never records, and returns the
//!   number of deleted rows. `CALL terrace.cleanup_old_cache_entries_in_batches(days)` commits in between.
//! - The view `index_usage` shows how often each index was used.
//! - `SELECT terrace.forget_terms(namespace)` lets a namespace be used with other options.
//! - `SELECT terrace.grant_use_to(role)` gives an application's role what it needs: USAGE on the schema, and
//!   EXECUTE on the functions that the library calls. They run as the owner. With SELECT, which is granted
//!   too unless the second argument is false, reads cost the server four tenths less.
//!
//! # For other clients of the database
//!
//! - `SELECT terrace.invalidate(namespace, tenant, key)` invalidates the copies of a key. Call it in the
//!   transaction that changes the origin of the value; the role needs EXECUTE on it. The key has the cache's encoding:
//!   `terrace.key(42)`, `terrace.key('ann')`, and for a tuple
//!   `terrace.key(terrace.key(7), terrace.key('ann'))`. NULL stands for all keys.
//! - `SELECT terrace.watch('public.users', namespace, '{id}')` adds triggers to a table, which invalidate
//!   the keys of its changed rows, whichever client changes them. The caller's role must own the table
//!   and may create functions in the library's schema. Roles that change the table need no right there.
//!   `terrace.unwatch('public.users', namespace)` removes the triggers.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod clean;
mod connection;
mod counters;
mod doctor;
mod error;
mod front;
mod handle;
mod leases;
mod log;
mod namespace;
mod read;
mod sql;
mod tier;
mod write;

pub use handle::{Postgres, PostgresBuilder};
pub use log::invalidate::PendingInvalidation;
