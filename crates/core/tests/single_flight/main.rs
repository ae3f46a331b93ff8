//! One lookup and one load a key, whatever happens to the callers.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod failures;
mod left;
mod reentrant;
mod results;
mod shared;
#[path = "../support/mod.rs"]
mod support;
