//! Whole caches in simulated processes over simulated servers, on virtual time.
//!
//! A run follows a [`Plan`]: several processes, each with a cache of the same stack, share tiers
//! that are [`Fake`](terrace_conformance::Fake)s behind a network that delays, reorders and loses
//! messages. Processes are paused and die in the middle of a call; servers refuse, evict, forget and
//! go back in time. A run writes a [history], which the checkers judge.
//!
//! The same plan always gives the same history: one thread steps everything, a millisecond of
//! virtual time at a time. Each process has a runtime of its own, so that a paused process misses
//! time and a dead process loses its tasks.
//!
//! [`switches`] leave out one defence of the cache at a time. That takes a build with
//! `--cfg terrace_simulation`; all other runs work in every build.
//!
//! ```
//! use terrace_simulation::{Plan, simulate};
//!
//! let run = simulate(&Plan::of_seed(7))?;
//! assert!(run.violations.is_empty(), "{:?}", run.violations);
//! # Ok::<_, terrace_core::Error>(())
//! ```

mod encoding;
pub mod history;
mod judge;
mod limits;
mod message;
mod network;
mod parts;
mod plan;
mod process;
mod recorder;
mod server;
mod switches;
mod witness;
mod world;

use terrace_core::Result;

pub use encoding::value_of;
pub use plan::{Act, Fault, Limits, LoaderPace, Plan, Stack, Staleness, Step, Trouble, Way, Weather, shrink};
pub use recorder::Counts;
pub use switches::{Switch, switches};

use crate::{
    history::{History, Key, Linear, Violation},
    parts::Parts,
};

/// What a run did, and what is wrong with it.
#[derive(Debug)]
pub struct Run {
    /// All that happened.
    pub history: History,
    /// What was counted beside it.
    pub counts: Counts,
    /// Promises that were broken.
    pub violations: Vec<Violation>,
    /// How many keys were checked as one linearizable register each.
    pub keys: usize,
    /// The keys among them whose order was too hard to decide.
    pub undecided: Vec<Key>,
}

/// Carries out a plan and judges its history.
///
/// # Errors
/// Where the plan's stack cannot be built.
///
/// # Cost
/// A few tens of milliseconds for a plan of a virtual second.
pub fn simulate(plan: &Plan) -> Result<Run> {
    run_in(plan, Parts::TRUE)
}

fn run_in(plan: &Plan, parts: Parts) -> Result<Run> {
    let (history, tally) = world::World::new(plan, parts).run()?;
    let Linear { mut violations, keys, undecided } = judge::judge(&plan.stack, &history);
    violations.extend(limits::limits(plan, &tally));
    let counts = tally.counts;
    Ok(Run { history, counts, violations, keys, undecided })
}
