//! The shapes of the stacks that the machine builds around a tier.

use std::{fmt, time::Duration};

use proptest::prelude::*;
use terrace_tier::Role;

use super::step::Act;
use crate::Fake;

/// The shape of a stack, and the number of processes over it.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) processes: usize,
    pub(super) near: bool,
    /// The number of fakes before the tier under test. The log of the first one reports every change
    /// within the write.
    pub(super) nearer: usize,
    /// The role of the tier under test; `None` where the stack leaves it out.
    pub(super) role: Option<Role>,
    /// The number of fakes behind these, before the store.
    pub(super) farther: usize,
    pub(super) store: bool,
    /// Whether the stack is on a manual clock.
    pub(super) timed: bool,
    /// How long other processes may go on reading copies that one has cleared.
    pub(super) clear_lag: Duration,
}

/// What the machine finds out of a tier before it builds stacks around it.
#[derive(Clone, Copy)]
pub(super) struct Probed {
    /// Whether the tier is on a manual clock.
    pub(super) timed: bool,
    /// Whether the tier has a log, which reports changes some time after them.
    pub(super) logged: bool,
    /// How long another handle of the tier may read what one has cleared.
    pub(super) notified_within: Duration,
}

impl Shape {
    /// Shapes around a tier in a role, for one process or several.
    pub(super) fn any(role: Option<Role>, alone: bool, probed: Probed) -> BoxedStrategy<Self> {
        let Probed { timed, logged, notified_within } = probed;
        let clear_lag = if alone { Duration::ZERO } else { notified_within.max(Fake::CLEAR_LAG) };
        let processes = if alone { 1usize..=1 } else { 2..=3 };
        let parts = (processes, any::<bool>(), 0usize..=1, 0usize..=1, any::<bool>());
        let shape = move |(processes, near, nearer, farther, store)| {
            let (nearer, farther) = if role.is_some() { (nearer, farther) } else { (0, 0) };
            let store = role == Some(Role::Store) || store && role.is_some();
            // Without a log, a near copy outlives the changes of other processes. With a late log, even the
            // report of an own change keeps a load under way out of the near tier.
            let near_is_exact = nearer > 0 || alone && (store || !logged);
            Self {
                processes,
                near: role.is_none() || near && near_is_exact,
                nearer,
                role,
                farther,
                store,
                timed,
                clear_lag,
            }
        };
        parts.prop_map(shape).boxed()
    }

    /// The number of cache tiers.
    pub(super) fn tiers(&self) -> usize {
        self.nearer + usize::from(self.role == Some(Role::Cache)) + self.farther
    }

    /// Whether the cache tier of this index, counted from near to far, is the tier under test.
    pub(super) fn is_subject(&self, tier: usize) -> bool {
        self.role == Some(Role::Cache) && tier == self.nearer
    }

    /// Whether the map determines the result of an act in this stack.
    pub(super) fn permits(&self, act: &Act) -> bool {
        let alone = self.processes == 1;
        match act {
            // Without a store, no log reports a refresh to other processes.
            Act::Refresh(..) => alone || self.store,
            Act::Restart => !alone,
            Act::Beat | Act::Lose => self.nearer > 0,
            // Without a store, a value that the farthest tier forgets is lost.
            Act::Evict(tier, _) => *tier < self.tiers() && (self.store || tier + 1 < self.tiers()),
            // The invalidation that a tier did not confirm is pending in one process alone.
            Act::Down(tier) | Act::Up(tier) => alone && self.store && *tier < self.tiers(),
            Act::Hang(tier) => alone && self.store && self.timed && *tier < self.tiers(),
            Act::Advance(_) => self.timed,
            _ => true,
        }
    }

    /// The lifetime of a value: short on a manual clock, otherwise longer than the test.
    pub(super) fn lifetime(&self, millis: u16) -> Duration {
        if self.timed {
            Duration::from_millis(millis.into())
        } else {
            Duration::from_secs(3_600 + u64::from(millis))
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        if self.near {
            parts.push("near");
        }
        for tier in 0..self.tiers() {
            parts.push(if self.is_subject(tier) { "the tier" } else { "a fake tier" });
        }
        match self.role {
            Some(Role::Store) => parts.push("the store under test"),
            _ if self.store => parts.push("a fake store"),
            _ => {}
        }
        write!(f, "{} process(es) with {}", self.processes, parts.join(", "))
    }
}
