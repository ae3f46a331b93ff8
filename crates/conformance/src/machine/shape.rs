//! The stacks that the machine builds around a tier.

use std::{fmt, time::Duration};

use proptest::prelude::*;
use terrace_tier::Role;

use super::step::Act;

/// A stack, and how many processes have it.
#[derive(Clone, Debug)]
pub(super) struct Shape {
    pub(super) processes: usize,
    pub(super) near: bool,
    /// Fakes before the tier under test, whose log tells all of every change within the write.
    pub(super) nearer: usize,
    /// What the tier under test is; `None` where it is left out.
    pub(super) seat: Option<Role>,
    /// Fakes between it, or the nearer ones, and the store.
    pub(super) farther: usize,
    pub(super) store: bool,
    /// Time is turned by hand.
    pub(super) timed: bool,
}

impl Shape {
    /// Stacks around a tier in a role; of one process or of several. `logged` where the tier tells of
    /// changes, a while after them.
    pub(super) fn any(seat: Option<Role>, alone: bool, timed: bool, logged: bool) -> BoxedStrategy<Self> {
        let processes = if alone { 1usize..=1 } else { 2..=3 };
        let parts = (processes, any::<bool>(), 0usize..=1, 0usize..=1, any::<bool>());
        let shape = move |(processes, near, nearer, farther, store)| {
            let (nearer, farther) = if seat.is_some() { (nearer, farther) } else { (0, 0) };
            let store = seat == Some(Role::Store) || store && seat.is_some();
            // A copy near that hears of no change of others lives to its end; where one is heard of late,
            // even of one's own, a load that is under way is kept nowhere.
            let near_is_exact = nearer > 0 || alone && (store || !logged);
            Self {
                processes,
                near: seat.is_none() || near && near_is_exact,
                nearer,
                seat,
                farther,
                store,
                timed,
            }
        };
        parts.prop_map(shape).boxed()
    }

    /// How many cache tiers there are.
    pub(super) fn tiers(&self) -> usize {
        self.nearer + usize::from(self.seat == Some(Role::Cache)) + self.farther
    }

    /// Whether this place among the cache tiers, from near to far, is the tier under test.
    pub(super) fn is_subject(&self, tier: usize) -> bool {
        self.seat == Some(Role::Cache) && tier == self.nearer
    }

    /// Whether the map says what comes of an act in this stack.
    pub(super) fn permits(&self, act: &Act) -> bool {
        let alone = self.processes == 1;
        match act {
            // Without a store it is no change that others are told of.
            Act::Refresh(..) => alone || self.store,
            Act::Restart => !alone,
            Act::Beat | Act::Lose => self.nearer > 0,
            // Without a store nobody else has what the farthest tier forgets.
            Act::Evict(tier, _) => *tier < self.tiers() && (self.store || tier + 1 < self.tiers()),
            // What a tier did not confirm is a debt of one process alone.
            Act::Down(tier) | Act::Up(tier) => alone && self.store && *tier < self.tiers(),
            Act::Hang(tier) => alone && self.store && self.timed && *tier < self.tiers(),
            Act::Advance(_) => self.timed,
            _ => true,
        }
    }

    /// A life that is given: over soon where time is turned by hand, else not within the test.
    pub(super) fn life(&self, millis: u16) -> Duration {
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
        match self.seat {
            Some(Role::Store) => parts.push("the store under test"),
            _ if self.store => parts.push("a fake store"),
            _ => {}
        }
        write!(f, "{} process(es) with {}", self.processes, parts.join(", "))
    }
}
