//! The Redis tier with faults of the server, the network and the data.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bench;
mod data;
mod load;
mod log;
mod outage;
mod publish;
mod refused;
mod servers;
