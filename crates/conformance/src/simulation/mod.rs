//! Whole caches in simulated processes over simulated servers, on virtual time.
//!
//! A run follows a [`Plan`]: several processes, each with a cache of the same stack, share tiers
//! that are [`Fake`](crate::Fake)s behind a network that delays, reorders and loses messages. Processes are
//! paused and die in the middle of what they do; servers refuse, evict, forget and go back in
//! time. What comes of it is a [history](crate::history), which the checkers judge.
//!
//! The same plan always gives the same history: one thread steps everything, a millisecond of
//! virtual time at a time, and each process has a runtime of its own, so that a paused one misses
//! time and a dead one loses its tasks.
//!
//! ```
//! use terrace_conformance::simulation::{Plan, simulate};
//!
//! let run = simulate(&Plan::of_seed(7))?;
//! assert!(run.violations.is_empty(), "{:?}", run.violations);
//! # Ok::<_, terrace_core::Error>(())
//! ```

mod call;
mod client;
mod follow;
mod leases;
mod log;
mod near;
mod network;
mod patience;
mod plan;
mod policies;
mod random;
mod recorder;
mod shrink;
mod switches;
mod wired;
mod witness;
mod world;

use std::time::Duration;

use terrace_core::{Level, Result};

pub use near::PlainNear;
pub use network::Way;
pub use plan::{Act, Fault, Limits, LoaderPace, Plan, Stack, Staleness, Step, Trouble, Weather};
pub use recorder::Counts;
pub use shrink::shrink;
pub use switches::{Switch, switches};
pub use witness::value_of;

use crate::{
    fake::Hooks,
    history::{History, Key, Linear, Violation, bounded, fenced, linear, lives},
};

/// What came of a run.
#[derive(Debug)]
pub struct Run {
    /// All that happened.
    pub history: History,
    /// What was counted beside it.
    pub counts: Counts,
    /// What was not to happen.
    pub violations: Vec<Violation>,
    /// How many keys were held to one linearizable register each.
    pub keys: usize,
    /// Those of them whose order was too hard to decide.
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

/// How the parts of a run work; switches put broken ones in.
#[derive(Clone, Copy)]
struct Parts {
    /// Those of the servers.
    rules: fn() -> Hooks,
    links: Links,
    returns: Returns,
}

/// What becomes of what a process asks of a server.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Links {
    /// It is asked.
    True,
    /// Drops that failed are answered as if they had not.
    Lying,
    /// A relay's step is made in two: the drops, then the mark.
    Torn,
}

/// What becomes of a server that goes back in time.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Returns {
    /// All that it keeps goes back, and who finds it out makes the copies dead.
    True,
    /// The relay's mark stays as it is.
    WithoutMark,
    /// Who finds it out says so, and believes the copies.
    Believed,
}

impl Parts {
    /// As they should.
    const TRUE: Self = Self { rules: Hooks::default, links: Links::True, returns: Returns::True };
}

fn run_in(plan: &Plan, parts: Parts) -> Result<Run> {
    let (history, tally) = world::World::new(plan, parts).run()?;
    let Linear { mut violations, keys, undecided } = judge(&plan.stack, &history);
    violations.extend(patience::patience(plan, &tally));
    let counts = tally.counts;
    Ok(Run { history, counts, violations, keys, undecided })
}

/// Clocks count in milliseconds, and an answer may be served in the one in which it ends.
const GRAIN: Duration = Duration::from_millis(2);

fn judge(stack: &Stack, history: &History) -> Linear {
    let mut violations = lives(history, stack.life + GRAIN, stack.stale);
    if stack.level != Level::Ttl {
        violations.extend(fenced(history));
    }
    if let Level::Bounded(bound) = stack.level {
        violations.extend(bounded(history, bound + GRAIN));
    }
    let mut judged = if stack.is_linear() { linear(history) } else { Linear::default() };
    judged.violations.extend(violations);
    judged
}
