//! Each defence is left out once, in an interleaving that breaks a promise without it.

use std::time::Duration;

use terrace_core::{
    Cell, Change, Level, Moment, Op, Order, Reply, Result, Role, State, Token,
    switch::{self, Defence},
    transition,
};

use super::{Act, Fault, Pace, Plan, Run, Stack, Staleness, Step, Trouble, Way, Weather, run_in, simulate};
use crate::fake::Hooks;

/// A defence, and the interleaving in which its absence shows.
pub struct Switch {
    /// What is switched off.
    pub name: &'static str,
    /// The rule that it belongs to, by its number in the design: see `docs/testing.md`.
    pub rule: &'static str,
    plan: fn() -> Plan,
    off: Off,
}

/// How it is switched off.
enum Off {
    /// The servers do something else than the transition says.
    Rules(fn() -> Hooks),
    /// A link answers drops that failed as if they had not.
    Lies,
    /// The chain leaves it out.
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

    /// Runs it without: a violation is expected.
    ///
    /// # Errors
    /// As [`simulate`].
    pub fn off(&self) -> Result<Run> {
        let plan = (self.plan)();
        match self.off {
            Off::Rules(rules) => run_in(&plan, rules, false),
            Off::Lies => run_in(&plan, Hooks::default, true),
            Off::Core(defence) => switch::without(defence, || simulate(&plan)),
        }
    }
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
    alone: false,
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
    }
}

const fn rules(transition: fn(Option<&Cell>, &Op, &Moment) -> (Change, Reply)) -> Hooks {
    Hooks { transition, ..Hooks::TRUE }
}

/// All switches.
pub fn switches() -> Vec<Switch> {
    let mut all = of_the_chain();
    all.extend(of_the_log());
    all.extend(of_refreshes());
    all
}

#[allow(clippy::too_many_lines, reason = "a list, of which each entry is read alone")]
fn of_the_chain() -> Vec<Switch> {
    use Act::{Clear, Get, Invalidate, Load, Put};
    let switch = |name, rule, off, plan| Switch { name, rule, plan, off };
    vec![
        switch("absence rejects a fill", "1", Off::Rules(|| rules(accept_on_absence)), || {
            let steps = [(0, 1, Load(0, Pace::Early(30))), (10, 0, Invalidate(0)), (50, 0, Get(0))];
            script(COPY, &steps, &[(20, Trouble::Evict(0, 0))])
        }),
        switch("a fill shows a living token", "1", Off::Rules(|| rules(ignore_tokens)), || {
            script(COPY, &[(0, 1, Load(0, Pace::Early(30))), (10, 0, Invalidate(0)), (50, 0, Get(0))], &[])
        }),
        switch("a lease is taken before looking further", "1", Off::Rules(|| rules(lease_late)), || {
            let steps = [(0, 0, Put(0)), (20, 1, Get(0)), (26, 0, Invalidate(0)), (60, 0, Get(0))];
            script(TWO, &steps, &[(23, Trouble::Slow(1, 0, Way::There, 20, 5))])
        }),
        switch("a store creates only what it showed absent", "2", Off::Rules(|| rules(create_over)), || {
            let stack = Stack { tiers: 0, alone: true, ..STORED };
            script(stack, &[(0, 0, Load(0, Pace::Early(30))), (10, 1, Put(0)), (50, 1, Get(0))], &[])
        }),
        switch("near keeps nothing that a write overtook", "3", Off::Core(Defence::Generation), overtaken),
        switch("a write detaches the flight", "3", Off::Core(Defence::Detach), overtaken),
        switch("of two writes at once near keeps neither", "3", Off::Core(Defence::WriteOrder), || {
            let steps = [(0, 0, Put(0)), (6, 0, Put(0)), (30, 0, Get(0))];
            let slow = [(2, Trouble::Slow(0, 0, Way::There, 20, 1))];
            script(Stack { near: true, ..STORED }, &steps, &slow)
        }),
        switch("a 'no row' answers no caller with a loader", "4", Off::Core(Defence::NoRow), || {
            let stack = Stack { negative: Duration::from_secs(10), ..STORED };
            script(stack, &[(0, 1, Get(0)), (20, 0, Load(0, Pace::Late(5)))], &[])
        }),
        switch("writes go from far to near", "5", Off::Core(Defence::FarToNear), || {
            let steps = [(0, 0, Put(0)), (20, 0, Invalidate(0)), (21, 1, Get(0)), (50, 0, Get(0))];
            script(TWO, &steps, &[(22, Trouble::Slow(0, 1, Way::There, 10, 1))])
        }),
        switch("a follower replaces only what is older", "6", Off::Rules(|| rules(follow_always)), || {
            late_follow(&[])
        }),
        switch("a late follower leaves a tombstone", "6", Off::Rules(|| rules(follow_on_absence)), || {
            late_follow(&[(20, Trouble::Evict(0, 0))])
        }),
        switch("what was not confirmed is read past", "7", Off::Lies, || {
            let steps = [(0, 0, Put(0)), (12, 0, Invalidate(0)), (80, 0, Get(0))];
            script(COPY, &steps, &[(10, Trouble::Cut(0, 0, Way::There, 60))])
        }),
        switch("what a farther tier missed is owed nearer too", "7", Off::Core(Defence::NearerOwed), || {
            let steps = [(0, 0, Put(0)), (12, 0, Invalidate(0)), (70, 1, Get(0)), (600, 0, Get(0))];
            script(TWO, &steps, &[(10, Trouble::Cut(0, 1, Way::There, 60))])
        }),
        switch("an invalidation kills leases", "8", Off::Rules(|| rules(spare_leases)), || {
            script(COPY, &[(0, 1, Load(0, Pace::Early(30))), (10, 0, Invalidate(0)), (50, 0, Get(0))], &[])
        }),
        switch(
            "a clear makes a new epoch",
            "1",
            Off::Rules(|| Hooks { clear: |_, _| {}, ..Hooks::TRUE }),
            || {
                // The origin has changed, and its writer could tell nobody.
                let steps = [(0, 0, Put(0)), (10, 0, Put(0)), (70, 1, Clear), (80, 1, Get(0))];
                script(COPY, &steps, &[(10, Trouble::Cut(0, 0, Way::There, 60))])
            },
        ),
        switch("deadlines are decided at the write", "1", Off::Rules(|| rules(live_on)), || {
            let stack = Stack { life: Duration::from_millis(100), ..COPY };
            script(stack, &[(0, 0, Put(0)), (90, 1, Get(0)), (150, 1, Get(0))], &[])
        }),
    ]
}

/// The defences of a near tier that follows a log.
fn of_the_log() -> Vec<Switch> {
    use Act::{Forget, Get, Invalidate, Put};
    let core = |name, rule, defence, plan| Switch { name, rule, plan, off: Off::Core(defence) };
    vec![
        core("what the log tells of leaves near", "trust", Defence::Notice, || {
            script(LOGGED, &[(10, 0, Put(0)), (20, 1, Get(0)), (30, 0, Put(0)), (60, 1, Get(0))], &[])
        }),
        core("what the log tells of detaches the flight", "3", Defence::Hear, || {
            let steps = [(10, 0, Put(0)), (20, 1, Get(0)), (24, 0, Put(0)), (200, 1, Get(0))];
            script(LOGGED, &steps, &[(21, Trouble::Slow(1, 0, Way::Back, 30, 1))])
        }),
        core("a put under way hears of a newer one", "3", Defence::Told, || {
            let steps = [(10, 1, Put(0)), (16, 0, Put(0)), (60, 1, Get(0))];
            let stack = Stack { store: true, ..LOGGED };
            script(stack, &steps, &[(12, Trouble::Slow(1, 0, Way::There, 30, 1))])
        }),
        core("a log that is not heard ends the trust in near", "5", Defence::Distrust, || {
            let steps = [(10, 0, Put(0)), (20, 1, Get(0)), (40, 0, Put(0)), (1_300, 1, Get(0))];
            script(LOGGED, &steps, &[(30, Trouble::Deafen(1, 0, 5_000))])
        }),
        core("what was kept unheard lives on its own", "5", Defence::OwnEnd, || {
            let steps = [(10, 0, Put(0)), (20, 1, Get(0)), (40, 0, Put(0)), (1_300, 1, Get(0))];
            script(LOGGED, &steps, &[(0, Trouble::Deafen(1, 0, 100))])
        }),
        core("what was read before a gap lives on its own", "9", Defence::BeforeGap, || {
            // The log is joined behind the second put, and heard by what comes next.
            let steps = [
                (10, 0, Put(0)),
                (20, 1, Get(0)),
                (24, 0, Put(0)),
                (35, 0, Invalidate(1)),
                (1_300, 1, Get(0)),
            ];
            let late = (0, Trouble::Slow(1, 0, Way::There, 27, 1));
            let plan = script(LOGGED, &steps, &[late, (21, Trouble::Slow(1, 0, Way::Back, 38, 1))]);
            Plan { keys: 2, ..plan }
        }),
        core("a gap in the log empties near", "9", Defence::Gap, || {
            let steps = [(10, 0, Put(0)), (20, 1, Get(0)), (40, 0, Put(0)), (1_500, 1, Get(0))];
            script(LOGGED, &steps, &[(30, Trouble::Deafen(1, 0, 100)), (50, Trouble::Trim(0))])
        }),
        core("the log is dated by its question", "10", Defence::Dating, || {
            // What was answered before the pause is read after it.
            let steps = [(10, 0, Put(0)), (20, 1, Get(0)), (300, 0, Put(0)), (1_600, 1, Get(0))];
            script(LOGGED, &steps, &[(100, Trouble::Pause(1, 1_500))])
        }),
        Switch {
            name: "a change that changes no cell is logged too",
            rule: "5",
            plan: || {
                // The writer itself has read the new value before its put comes to the tier.
                let steps = [
                    (0, 0, Put(0)),
                    (210, 1, Get(0)),
                    (220, 0, Put(0)),
                    (223, 0, Forget(0)),
                    (224, 0, Get(0)),
                    (1_400, 1, Get(0)),
                ];
                let faults = [(222, Trouble::Slow(0, 0, Way::There, 20, 1)), (223, Trouble::Evict(0, 0))];
                script(Stack { store: true, ..LOGGED }, &steps, &faults)
            },
            off: Off::Rules(|| Hooks { told: only_what_changed, ..Hooks::TRUE }),
        },
        core("near keeps only a load whose fill was taken", "3", Defence::Accepted, || slow_load(1, LOGGED)),
        core("the authority is asked about what it does not keep", "3", Defence::Confirm, || Plan {
            seed: 7,
            ..slow_load(1, Stack { picky: true, ..LOGGED })
        }),
    ]
}

/// The owner of the key reaches this server no more.
fn cut(server: usize) -> Trouble {
    Trouble::Cut(0, server, Way::There, 500)
}

/// What takes the place of copies that a refresh has outdated. The origin has changed, and its writer
/// could tell nobody.
fn of_refreshes() -> Vec<Switch> {
    use Act::{Get, Put, Refresh};
    let core = |name, rule, defence, plan| Switch { name, rule, plan, off: Off::Core(defence) };
    vec![
        core("a refused fill replaces what is older", "2", Defence::Outdate, || {
            let steps = [
                (0, 0, Put(0)),
                (12, 0, Put(0)),
                (20, 1, Get(0)),
                (25, 1, Refresh(0, Pace::Late(0))),
                (100, 1, Get(0)),
            ];
            // The copy that was found before comes to the nearer tier first, over the same lease.
            let slow = (24, Trouble::Slow(1, 0, Way::There, 6, 1));
            let plan = script(TWO, &steps, &[(10, cut(0)), (10, cut(1)), (18, Trouble::Evict(0, 0)), slow]);
            Plan { calm_from: Some(25), ..plan }
        }),
        core("what a tier is not to keep leaves nothing older", "7", Defence::DropReplaced, || {
            let steps = [
                (0, 0, Put(0)),
                (5, 1, Get(0)),
                (12, 0, Put(0)),
                (25, 1, Refresh(0, Pace::Late(0))),
                (100, 1, Get(0)),
            ];
            let plan = script(Stack { picky: true, ..STORED }, &steps, &[(10, cut(0))]);
            Plan { seed: 9, calm_from: Some(25), ..plan }
        }),
    ]
}

/// A process that hears nothing loads the second or third key, which the other changes meanwhile.
fn slow_load(key: u64, stack: Stack) -> Plan {
    use Act::{Get, Load, Put};
    let (owner, loader) = ((key % 2) as usize, 1 - (key % 2) as usize);
    let steps = [(20, loader, Load(key, Pace::Early(250))), (30, owner, Put(key)), (1_200, loader, Get(key))];
    let plan = script(stack, &steps, &[(0, Trouble::Deafen(loader, 0, 5_000))]);
    Plan { keys: 3, ..plan }
}

/// Followers are told of what changed a cell alone.
fn only_what_changed(op: &Op, reply: &Reply) -> Option<Option<terrace_core::Version>> {
    match reply {
        Reply::Refused(_) | Reply::Done { existed: false, .. } => None,
        _ => (Hooks::TRUE.told)(op, reply),
    }
}

/// The answer to a read of the second process comes after another's put and its own invalidation.
fn overtaken() -> Plan {
    use Act::{Get, Invalidate, Put};
    let steps = [
        (0, 0, Put(0)),
        (10, 1, Get(0)),
        (14, 0, Put(0)),
        (20, 1, Invalidate(0)),
        (25, 1, Get(0)),
        (60, 1, Get(0)),
    ];
    script(Stack { near: true, ..COPY }, &steps, &[(11, Trouble::Slow(1, 0, Way::Back, 20, 1))])
}

/// The first put reaches the store first and the cache tier last.
fn late_follow(faults: &[(u64, Trouble)]) -> Plan {
    let steps = [(0, 0, Act::Put(0)), (6, 1, Act::Put(0)), (12, 1, Act::Get(0)), (50, 1, Act::Get(0))];
    let mut all = vec![(2, Trouble::Slow(0, 0, Way::There, 30, 1))];
    all.extend_from_slice(faults);
    script(STORED, &steps, &all)
}

/// A fill as if its lease lived.
fn filled_over(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    let Op::Fill { version, deadlines, body, .. } = op.clone() else { return transition(cell, op, moment) };
    let put = Op::Put { order: Order::Open(version), deadlines, body, tombstone_ttl: Duration::ZERO };
    transition(cell, &put, moment)
}

fn accept_on_absence(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    if cell.is_none() { filled_over(cell, op, moment) } else { transition(cell, op, moment) }
}

fn ignore_tokens(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    let invalidated = cell.is_some_and(|cell| cell.state == State::Tombstone);
    if invalidated { filled_over(cell, op, moment) } else { transition(cell, op, moment) }
}

/// A lookup only looks, and the lease is taken with the fill.
fn lease_late(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    let token = Token::from_u64(7);
    match op {
        Op::Lease { ttl, over, instead, .. } => {
            let lease = Op::Lease { token, ttl: *ttl, over: *over, instead: *instead };
            let (_, reply) = transition(cell, &lease, moment);
            (Change::Keep, reply)
        }
        Op::Fill { .. } => filled_over(cell, op, moment),
        _ => transition(cell, op, moment),
    }
}

fn create_over(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    if moment.role == Role::Cache {
        return transition(cell, op, moment);
    }
    let Op::Fill { deadlines, body, .. } = op.clone() else { return transition(cell, op, moment) };
    let order = Order::Author(terrace_core::Condition::Always);
    transition(cell, &Op::Put { order, deadlines, body, tombstone_ttl: Duration::ZERO }, moment)
}

/// A follower's put as if nothing had an order.
fn unordered(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    match op.clone() {
        Op::Put { order: Order::Follow(version), deadlines, body, tombstone_ttl } => {
            transition(cell, &Op::Put { order: Order::Open(version), deadlines, body, tombstone_ttl }, moment)
        }
        op => transition(cell, &op, moment),
    }
}

fn follow_always(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    if cell.is_some() { unordered(cell, op, moment) } else { transition(cell, op, moment) }
}

fn follow_on_absence(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    if cell.is_none() { unordered(cell, op, moment) } else { transition(cell, op, moment) }
}

fn spare_leases(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    let (change, reply) = transition(cell, op, moment);
    let leased = cell.is_some_and(|cell| cell.state == State::Lease);
    let spared = leased && matches!(op, Op::Invalidate { version: None, .. });
    (if spared { Change::Keep } else { change }, reply)
}

/// What is kept lives a minute longer than it was given.
fn live_on(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    match transition(cell, op, moment) {
        (Change::Write(mut cell), reply) if cell.state == State::Value => {
            let longer = |at: terrace_core::Timestamp| at.after(Duration::from_secs(60));
            cell.deadlines.fresh_until = longer(cell.deadlines.fresh_until);
            cell.deadlines.stale_until = longer(cell.deadlines.stale_until);
            cell.deadlines.expires_at = longer(cell.deadlines.expires_at);
            (Change::Write(cell), reply)
        }
        same => same,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn every_defence_is_missed_where_it_is_switched_off() {
        let mut missing = Vec::new();
        for switch in switches() {
            let on = switch.on().unwrap();
            assert!(on.violations.is_empty(), "{} is on: {}", switch.name, on.violations[0]);
            if switch.off().unwrap().violations.is_empty() {
                missing.push(switch.name);
            }
        }
        assert!(missing.is_empty(), "nobody misses: {missing:?}");
    }
}
