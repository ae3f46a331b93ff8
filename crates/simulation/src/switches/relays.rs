//! What proves copies: the levels `Bounded` and `Strong`, relays and their watermarks (rules 10 to 14).

use std::time::Duration;

use terrace_conformance::parts::Hooks;
use terrace_tier::{Level, defence::Defence};

use super::{COPY, LOGGED, Off, STORED, Switch, core, script};
use crate::{
    Act, LoaderPace, Plan, Stack, Step, Trouble, Way, Weather,
    parts::{Links, Parts, Returns},
};

const BOUND: Duration = Duration::from_millis(200);

/// Copies that a relay's watermark proves: it advances every 20 ms, and the first process is the relay.
const PROVEN: Stack = Stack { level: Level::Bounded(BOUND), log: true, outbox: true, ..STORED };

pub(super) fn switches() -> Vec<Switch> {
    let mut all = of_levels();
    all.extend(of_relays());
    all.extend(of_returns());
    all
}

fn of_levels() -> Vec<Switch> {
    use Act::{Forget, Get, Load, Put, Remove};
    vec![
        core("a tier's copy answers only while it is proven", "13", Defence::Proof, || unrelayed(PROVEN)),
        core("near trusts the watermark, not the log alone", "13", Defence::Watermarks, || {
            unrelayed(Stack { near: true, ..PROVEN })
        }),
        core("a joined answer is proven for the joiner's own call", "14", Defence::InTime, || {
            let plan = unrelayed(Stack { near: true, ..PROVEN });
            let step = |at, act, level| Step { at, slot: 1, act, level };
            let joined =
                [step(689, Forget(0), None), step(690, Get(0), Some(Level::Fenced)), step(691, Get(0), None)];
            Plan {
                steps: plan.steps.iter().filter(|step| step.at < 600).copied().chain(joined).collect(),
                ..plan
            }
        }),
        core("a watermark proves the moment of the advance before it", "12", Defence::LastButOne, late_mark),
        core("a watermark that is reported twice is no advance", "12", Defence::Again, || Plan {
            weather: Weather { twice: 1_000, ..Weather::FAIR },
            ..late_mark()
        }),
        core("a copy that its age proves lives from its request on", "13", Defence::FromQuestion, || {
            let life = Duration::from_millis(300);
            let stack = Stack { level: Level::Bounded(life), life, ..COPY };
            let steps = [(0, 1, Load(0, LoaderPace::Early(100))), (10, 0, Put(0)), (390, 1, Get(0))];
            script(stack, &steps, &[(5, Trouble::Cut(0, 0, Way::There, 500))])
        }),
        core("at Strong a caller that shared a load reads its record", "14", Defence::ReadAgain, || {
            let steps = [
                (0, 1, Load(0, LoaderPace::Early(30))),
                (38, 0, Remove(0)),
                (42, 1, Load(0, LoaderPace::Early(30))),
                (100, 1, Get(0)),
            ];
            let stack = Stack { level: Level::Strong, tiers: 0, ..STORED };
            script(stack, &steps, &[(34, Trouble::Slow(1, 0, Way::Back, 30, 3))])
        }),
    ]
}

fn of_relays() -> Vec<Switch> {
    let of_return = |name, off| Switch { name, rule: "12", plan: went_back, off };
    vec![
        Switch {
            name: "a relay's watermark advances with its drops, in one step",
            rule: "12",
            plan: || {
                let [read, again] = [(350, 1, Act::Get(0)), (900, 1, Act::Get(0))];
                // Between the drop and the watermark the server goes back to before the drop.
                let faults = [
                    (400, Trouble::CutLog(0, 0, 100)),
                    (400, Trouble::CutLog(1, 0, 100)),
                    (428, Trouble::Save(0)),
                    (428, Trouble::Foreign(0)),
                    (433, Trouble::Slow(0, 0, Way::There, 10, 10)),
                    (438, Trouble::GoBack(0)),
                ];
                script(PROVEN, &[(300, 0, Act::Put(0)), read, again], &faults)
            },
            off: Off::Parts(Parts { links: Links::Torn, ..Parts::TRUE }),
        },
        of_return("a relay's step over another watermark is refused", {
            Off::Rules(|| Hooks { refuses: false, ..Hooks::TRUE })
        }),
        of_return("the watermark goes back with the copies", {
            Off::Parts(Parts { returns: Returns::WithoutWatermark, ..Parts::TRUE })
        }),
        core("a relay that finds no watermark drops all copies", "12", Defence::Begin, || {
            lost(Trouble::LoseWatermark(0))
        }),
        core("a relay that missed changes drops all copies", "12", Defence::Missed, || {
            lost(Trouble::Trim(1))
        }),
        core("too many changes for a step are a clear", "12", Defence::TooMany, || {
            let keys = 2_001;
            let plan = lost(Trouble::Foreign(0));
            let foreign = (1..keys).map(|key| super::Fault { at: 420, what: Trouble::Foreign(key) });
            Plan { keys, faults: plan.faults.iter().copied().chain(foreign).collect(), ..plan }
        }),
    ]
}

fn of_returns() -> Vec<Switch> {
    use Act::{Get, Put};
    vec![Switch {
        name: "a server that went back is found, and its copies are dead",
        rule: "9",
        plan: || {
            let steps = [(10, 0, Put(0)), (60, 0, Put(0)), (200, 1, Get(0))];
            script(LOGGED, &steps, &[(40, Trouble::Save(0)), (100, Trouble::GoBack(0))])
        },
        off: Off::Parts(Parts { returns: Returns::Believed, ..Parts::TRUE }),
    }]
}

/// The relay dies, and another program deletes the record: no notice comes before the read.
fn unrelayed(stack: Stack) -> Plan {
    let steps = [(300, 0, Act::Put(0)), (350, 1, Act::Get(0)), (690, 1, Act::Get(0))];
    script(stack, &steps, &[(400, Trouble::Crash(0, 1_000)), (420, Trouble::Foreign(0))])
}

/// The record is deleted while the relay's step is on its way, and then no watermark advances.
fn late_mark() -> Plan {
    let mut steps = vec![(300, 0, Act::Put(0)), (350, 1, Act::Get(0))];
    // The log has other changes, and so its heartbeats are close to each other.
    steps.extend((50..58).map(|tens| (10 * tens, 1, Act::Invalidate(1))));
    steps.push((700, 1, Act::Get(0)));
    let faults = [
        (400, Trouble::Slow(0, 0, Way::There, 150, 100)),
        (430, Trouble::Foreign(0)),
        (500, Trouble::Crash(0, 1_000)),
    ];
    Plan { keys: 2, ..script(Stack { near: true, ..PROVEN }, &steps, &faults) }
}

/// Another program deletes a record at the moment of a fault.
fn lost(what: Trouble) -> Plan {
    let steps = [(300, 0, Act::Put(0)), (350, 1, Act::Get(0)), (900, 1, Act::Get(0))];
    script(PROVEN, &steps, &[(420, Trouble::Foreign(0)), (420, what)])
}

/// The server goes back to before a drop, while no process is connected to its log.
fn went_back() -> Plan {
    let steps = [(300, 0, Act::Put(0)), (350, 1, Act::Get(0)), (900, 1, Act::Get(0))];
    let faults = [
        (400, Trouble::CutLog(0, 0, 100)),
        (400, Trouble::CutLog(1, 0, 100)),
        (410, Trouble::Save(0)),
        (420, Trouble::Foreign(0)),
        (470, Trouble::GoBack(0)),
    ];
    script(PROVEN, &steps, &faults)
}
