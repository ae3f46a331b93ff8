//! Waiting for another process's lease: it saves loads, and every wait ends (rule 14).

use std::time::Duration;

use terrace_core::policy::Coalesce;
use terrace_tier::{Cell, Change, Moment, Op, Reply, Token, defence::Defence, transition};

use super::{COPY, Off, Switch, TWO, core, rules::rules, script};
use crate::{Act, Limits, LoaderPace, Plan, Stack, Trouble, Way};

const SHARED: Stack = Stack { stampede: Coalesce::Lease, ..COPY };

pub(super) fn switches() -> Vec<Switch> {
    use Act::Get;
    vec![
        core("a holder shows signs of life", "14", Defence::KeepAlives, || {
            let steps = [(0, 1, load(2_000)), (10, 0, load(10))];
            Plan { limits: loads(1), ..patient(SHARED, &steps, &[]) }
        }),
        core("a silent holder counts as gone", "14", Defence::Silence, || {
            let steps = [(0, 1, load(50)), (10, 0, load(10))];
            Plan { limits: call(2_100), ..patient(SHARED, &steps, &[(20, Trouble::Crash(1, 5_000))]) }
        }),
        core("a load that failed gives its lease back", "14", Defence::Release, || {
            let steps = [(0, 1, fails(50)), (10, 0, load(10))];
            Plan { limits: call(300), ..patient(SHARED, &steps, &[]) }
        }),
        core("after three holders the rest load at once", "14", Defence::Turns, || Plan {
            limits: call(1_400),
            ..herd(6, fails(300))
        }),
        core("a wait ends with the load's deadline", "14", Defence::WaitEnds, || Plan {
            limits: call(5_300),
            ..herd(4, Act::Load(0, LoaderPace::Late(10_000)))
        }),
        core("a wait ends at a server that hangs", "14", Defence::CallTimeout, || {
            let steps = [(0, 1, load(2_400)), (10, 0, load(10))];
            let faults = [(15, Trouble::Crash(1, 5_000)), (20, Trouble::Cut(0, 0, Way::There, 5_000))];
            Plan { limits: call(1_500), ..patient(SHARED, &steps, &faults) }
        }),
        core("a poll finds the end of a lease that was not announced", "14", Defence::Polls, || {
            let steps = [(0, 1, load(150)), (10, 0, load(10))];
            let cut = (145, Trouble::Cut(0, 0, Way::Back, 25));
            Plan { limits: call(800), ..patient(SHARED, &steps, &[cut]) }
        }),
        core("no process waits for the lease of a plain read", "14", Defence::OfLoader, || {
            let stack = Stack { stampede: Coalesce::Lease, ..TWO };
            Plan { limits: call(300), ..patient(stack, &[(0, 1, Get(0)), (10, 0, load(10))], &[]) }
        }),
        core("a refresh's flight waits for no other process", "14", Defence::RefreshLoads, || {
            // The second process loads the value from before the change, which reaches no server. The
            // third process refreshes; its other caller comes as the lookup's response arrives, joins the
            // flight and leads its load.
            let steps = [
                (0, 1, load(100)),
                (50, 0, Act::Put(0)),
                (60, 2, Act::Refresh(0, LoaderPace::Early(20))),
                (62, 2, load(20)),
            ];
            let cut = (40, Trouble::Cut(0, 0, Way::There, 1_000));
            Plan { processes: 3, ..patient(SHARED, &steps, &[cut]) }
        }),
        Switch {
            name: "one process takes a dead holder's place",
            rule: "14",
            plan: || {
                let plan = herd(4, load(50));
                let faults = vec![super::Fault { at: 20, what: Trouble::Crash(0, 5_000) }];
                Plan { limits: loads(2), faults, ..plan }
            },
            off: Off::Rules(|| rules(in_nobodys_place)),
        },
    ]
}

/// The run is so long that no fault ends while calls still wait.
fn patient(stack: Stack, steps: &[(u64, usize, Act)], faults: &[(u64, Trouble)]) -> Plan {
    Plan { length: 6_000, ..script(stack, steps, faults) }
}

/// This many processes miss one key, one after the other.
fn herd(processes: usize, act: Act) -> Plan {
    let steps: Vec<_> = (0..processes).map(|slot| (slot as u64, slot, act)).collect();
    Plan { processes, ..patient(SHARED, &steps, &[]) }
}

const fn load(millis: u64) -> Act {
    Act::Load(0, LoaderPace::Early(millis))
}

const fn fails(millis: u64) -> Act {
    Act::Load(0, LoaderPace::Fails(millis))
}

fn loads(most: u64) -> Limits {
    Limits { loads: Some(most), call: None }
}

fn call(millis: u64) -> Limits {
    Limits { loads: None, call: Some(Duration::from_millis(millis)) }
}

/// A process that names a dead holder gets the lease only as any other process does.
fn in_nobodys_place(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    match *op {
        Op::Lease { token, ttl, over, .. } => {
            transition(cell, &Op::Lease { token, ttl, over, replaces: Token::NONE }, moment)
        }
        _ => transition(cell, op, moment),
    }
}
