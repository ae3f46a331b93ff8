//! The Redis tier with faults of the server, the network and the data.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod attempts;
mod bench;
mod data;
mod ends;
mod load;
mod log;
mod outage;
mod publish;
mod refused;
mod servers;
mod shared_calls;
mod sweeps;
