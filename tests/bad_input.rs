//! Input that should not be: each gets a typed error or a counted miss, loses nothing else, and
//! prints no secret.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

#[path = "bad_input/bytes.rs"]
mod bytes;
#[path = "bad_input/keys.rs"]
mod keys;
#[path = "bad_input/lives.rs"]
mod lives;
#[path = "bad_input/servers.rs"]
mod servers;
#[path = "bad_input/stacks.rs"]
mod stacks;
#[path = "bad_input/values.rs"]
mod values;
