//! The contract between terrace and its shared cache tiers.
//!
//! This crate is for authors of tiers. It knows nothing of caches, policies or codecs.
//!
//! # The contract
//!
//! A tier keeps one [`Cell`] for each key. Each operation ([`Op`]) changes the cell as the pure function
//! [`transition`] says, in one atomic step, and answers with a [`Reply`]. The suite in
//! `terrace-conformance` checks this: `tier_suite!(mine)` runs it against a tier.
//!
//! # How to begin
//!
//! A server that can get a value and compare-and-swap it needs the trait [`Swap`] alone: four methods over
//! keys and bytes. [`Swapping`] makes a complete, fenced [`Backend`] of it. The example in the docs of
//! [`Swap`] is a whole tier.
//!
//! A tier of its own kind implements [`Backend`] and [`Tier`]: it does in one round trip what `Swapping`
//! does in two, as the tiers for Redis, Postgres and SQLite do. Everything else is optional.
//!
//! # The parts
//!
//! | part | what it is for | needed |
//! |---|---|---|
//! | [`Backend`], [`Tier`], [`Namespace`] | how a cache opens and calls a tier | yes |
//! | [`Cell`], [`Op`], [`Reply`], [`transition`] | what a tier keeps, and what operations do to it | yes |
//! | [`Swap`], [`Swapping`] | a tier out of get and compare-and-swap | the short way |
//! | [`NamespaceRegistry`] | refuses two caches that use one namespace in different roles or levels | yes, but `Swapping` has it |
//! | [`Batcher`], [`SendWatch`] | lets concurrent calls share round trips; tells whether a write was sent | no |
//! | [`InvalidationLog`], [`Follower`] | reports the changes of other processes, so that near copies end | no |
//! | [`lease`] | lets a process wait for a load of another process | no |
//! | [`FrontStore`] | lets a cache acknowledge writes before the store has them (write-behind) | no |
//! | [`runtime`] | keeps sockets and tasks apart for each runtime that uses a handle | no |
//! | [`Counters`] | sums that all processes share | no |
//! | [`Publish`], [`Watermark`], [`Replay`] | lets a relay drop copies and prove that the rest are current | no |
//!
//! # How the contract grows
//!
//! A new operation, cell state, order, reply, notice or setting is added as a variant or field of a
//! `#[non_exhaustive]` type, so that tiers of older versions still compile. A tier answers an [`Op`] or
//! [`Order`] that it does not know with [`ErrorKind::Unsupported`] (see [`Op::unsupported`]). The fields of
//! a variant never change: a tier that ignored a new field would do the wrong thing silently. The types
//! whose fields are fixed say so in their docs.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod batcher;
mod cell;
mod counters;
mod credentials;
#[doc(hidden)]
pub mod defence;
mod error;
mod finding;
mod front;
mod key;
pub mod lease;
mod level;
mod log;
mod namespace;
mod publish;
pub mod runtime;
mod swap;
mod tier;
mod time;
mod watermark;

pub use batcher::{BatchCall, BatchLimits, Batcher, SendMark, SendWatch};
pub use cell::{
    Cell, Change, Condition, Epoch, Fence, HEADER_LEN, Moment, Op, Order, Reply, Role, State, Stored, Token,
    Version, transition,
};
pub use counters::{Counters, MAX_COUNTERS, OTHER_COUNTER};
pub use credentials::{Credentials, CredentialsProvider, Secrets};
pub use error::{BoxError, Error, ErrorKind, Result};
pub use finding::{Finding, FindingTopic, FindingWatcher};
pub use front::{
    FrontClaim, FrontRow, FrontStore, FrontTerm, Term, direct_write_refused, front_lost, held_by_another,
    replaced_front,
};
pub use key::{KeyDigest, KeyName, Scope, TierKey, key_digest};
pub use lease::LeaseWaiter;
pub use level::Level;
pub use log::{Follower, InvalidationLog, Notice, NumberedChanges, Replay, SentAt};
pub use namespace::{Namespace, NamespaceGuard, NamespaceRegistry};
pub use publish::{Invalidation, Publication, Publish};
pub use swap::{Swap, Swapping};
pub use tier::{Backend, Tier, unexpected};
pub use time::{Clock, Deadlines, ManualClock, Timestamp};
pub use watermark::Watermark;
