//! Whole caches in several processes on real servers, under faults: what they did is recorded,
//! and judged by the checkers that judge the simulation.
//!
//! A round follows a [`plan`]. Its [`workers`] are this program again, as processes that are
//! killed and stopped; its [`servers`] are killed, stopped, emptied and set back, and their
//! traffic is cut, stalled and split. Each process writes down what it does on one common clock;
//! a trigger in Postgres writes the truth down. [`judge`](mod@judge) reads all of it.

mod audit;
mod judge;
mod merge;
mod plan;
mod record;
mod round;
mod rounds;
mod servers;
mod worker;
mod workers;

use std::{io, path::PathBuf};

pub(crate) use judge::{Judged, judge};
#[cfg(test)]
pub(crate) use plan::{Demand, Stack};
pub(crate) use record::Recording;
#[cfg(test)]
pub(crate) use rounds::Row;
pub(crate) use rounds::{Real, Until, run};
pub(crate) use worker::{ARGUMENT, run as work};

/// Where this program is, to run it again.
fn this_program() -> io::Result<PathBuf> {
    std::env::current_exe()
}
