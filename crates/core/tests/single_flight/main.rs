//! One lookup and one load for each key, whatever happens to the callers.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a panic in a helper fails the test")]

mod failures;
mod left;
mod panics;
mod reentrant;
mod results;
mod shared;
#[path = "../support/mod.rs"]
mod support;
