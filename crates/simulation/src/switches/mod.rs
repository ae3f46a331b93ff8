//! Each defence is left out once, in an interleaving that breaks a promise without it.

mod chain;
mod leases;
mod log;
mod refreshes;
mod relays;
mod rules;

use std::time::Duration;

use terrace_conformance::parts::Hooks;
use terrace_core::{Level, Result, policy::Coalesce};
use terrace_tier::defence::Defence;

use crate::{
    Act, Fault, Limits, Plan, Run, Stack, Staleness, Step, Trouble, Weather, parts::Parts, run_in, simulate,
};

/// A defence, and the interleaving in which its absence shows.
pub struct Switch {
    /// The defence, as a sentence.
    pub name: &'static str,
    /// The rule that it belongs to, by its number in the design: see `docs/consistency.md`.
    pub rule: &'static str,
    plan: fn() -> Plan,
    off: Off,
}

/// How the defence is switched off.
enum Off {
    /// The servers have other rules than the transition.
    Rules(fn() -> Hooks),
    /// A part of the run is a broken one.
    Parts(Parts),
    /// The cache leaves the defence out.
    Core(Defence),
}

impl Switch {
    /// Runs the interleaving with the defence: no violation is expected.
    ///
    /// # Errors
    /// As [`simulate`].
    pub fn on(&self) -> Result<Run> {
        simulate(&(self.plan)())
    }

    /// Runs it without the defence: a violation is expected.
    ///
    /// # Errors
    /// As [`simulate`]; [`ErrorKind::Unsupported`](terrace_core::ErrorKind::Unsupported) where the cache itself holds the defence, and this
    /// build is without `--cfg terrace_simulation`.
    pub fn off(&self) -> Result<Run> {
        let plan = (self.plan)();
        match self.off {
            Off::Rules(rules) => run_in(&plan, Parts { rules, ..Parts::TRUE }),
            Off::Parts(parts) => run_in(&plan, parts),
            Off::Core(defence) => simulate_without(defence, &plan),
        }
    }
}

#[cfg(terrace_simulation)]
fn simulate_without(defence: Defence, plan: &Plan) -> Result<Run> {
    terrace_tier::defence::without(defence, || simulate(plan))
}

#[cfg(not(terrace_simulation))]
fn simulate_without(defence: Defence, _plan: &Plan) -> Result<Run> {
    let message = format!("a build without `--cfg terrace_simulation` cannot leave out {defence:?}");
    Err(terrace_core::Error::new(terrace_core::ErrorKind::Unsupported, message))
}

const COPY: Stack = Stack {
    level: Level::Fenced,
    near: false,
    tiers: 1,
    store: false,
    log: false,
    outbox: false,
    fussy: false,
    picky: false,
    stampede: Coalesce::Local,
    life: Duration::from_secs(60),
    near_life: None,
    negative: Duration::ZERO,
    stale: Duration::ZERO,
    freshness: Staleness { while_revalidate: false, if_error: false },
};
const LOGGED: Stack = Stack { near: true, log: true, ..COPY };
const TWO: Stack = Stack { tiers: 2, ..COPY };
const STORED: Stack = Stack { store: true, ..COPY };

/// Two processes and one key, which the first one owns; every message takes a millisecond.
fn script(stack: Stack, steps: &[(u64, usize, Act)], faults: &[(u64, Trouble)]) -> Plan {
    let length = steps.iter().map(|step| step.0).max().unwrap_or_default() + 100;
    Plan {
        seed: 1,
        stack,
        processes: 2,
        keys: 1,
        length,
        weather: Weather::FAIR,
        steps: steps.iter().map(|&(at, slot, act)| Step { at, slot, act, level: None }).collect(),
        faults: faults.iter().map(|&(at, what)| Fault { at, what }).collect(),
        calm_from: None,
        limits: Limits::default(),
    }
}

/// A switch of a defence within the cache.
fn core(name: &'static str, rule: &'static str, defence: Defence, plan: fn() -> Plan) -> Switch {
    Switch { name, rule, plan, off: Off::Core(defence) }
}

/// All switches.
pub fn switches() -> Vec<Switch> {
    [chain::switches(), log::switches(), refreshes::switches(), relays::switches(), leases::switches()]
        .into_iter()
        .flatten()
        .collect()
}
