//! Bad input of any kind gives a typed error or a counted miss. Nothing else is lost, and no secret is
//! printed.
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
