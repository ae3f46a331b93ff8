//! What the Redis tier does when server, network or data go wrong.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod data;
mod load;
mod log;
mod outage;
mod publish;
mod refused;
