//! The defences of a near tier that follows a log (rules 3, 5, 9 and 10).

use terrace_conformance::parts::Hooks;
use terrace_core::policy::Coalesce;
use terrace_tier::defence::Defence;

use super::{LOGGED, Off, Switch, core, rules::only_what_changed, script};
use crate::{Act, LoaderPace, Plan, Stack, Trouble, Way, parts::Parts};

pub(super) fn switches() -> Vec<Switch> {
    let mut all = of_entries();
    all.extend(of_servers());
    all.extend(of_loads());
    all
}

fn of_entries() -> Vec<Switch> {
    use Act::{Get, Invalidate, Put};
    vec![
        core("a notice drops the key's copy in near", "8", Defence::Notice, || {
            script(LOGGED, &[(10, 0, Put(0)), (20, 1, Get(0)), (30, 0, Put(0)), (60, 1, Get(0))], &[])
        }),
        core("a notice detaches the key's flight", "3", Defence::NoticeDetaches, || {
            let steps = [(10, 0, Put(0)), (20, 1, Get(0)), (24, 0, Put(0)), (200, 1, Get(0))];
            script(LOGGED, &steps, &[(21, Trouble::Slow(1, 0, Way::Back, 30, 1))])
        }),
        core("a put under way is notified of a newer one", "3", Defence::Notified, || {
            // Both processes follow the log by then: a copy from before the last gap ends with every notice.
            let steps = [(110, 1, Put(0)), (116, 0, Put(0)), (160, 1, Get(0))];
            let stack = Stack { store: true, ..LOGGED };
            script(stack, &steps, &[(112, Trouble::Slow(1, 0, Way::There, 30, 1))])
        }),
        core("near distrusts a log without a heartbeat", "5", Defence::Distrust, || {
            let steps = [(10, 0, Put(0)), (20, 1, Get(0)), (40, 0, Put(0)), (1_300, 1, Get(0))];
            script(LOGGED, &steps, &[(30, Trouble::CutLog(1, 0, 5_000))])
        }),
        core("a copy that no heartbeat covers has its own end", "5", Defence::OwnEnd, || {
            let steps = [(10, 0, Put(0)), (20, 1, Get(0)), (40, 0, Put(0)), (1_300, 1, Get(0))];
            script(LOGGED, &steps, &[(0, Trouble::CutLog(1, 0, 100))])
        }),
        core("a copy that was read before a gap has its own end", "9", Defence::BeforeGap, || {
            // The follower joins the log behind the second put, and gets a heartbeat with the next entry.
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
            script(LOGGED, &steps, &[(30, Trouble::CutLog(1, 0, 100)), (50, Trouble::Trim(0))])
        }),
        core("a heartbeat is dated by its request", "10", Defence::Dating, || {
            // A response from before the pause is read after it.
            let steps = [(10, 0, Put(0)), (20, 1, Get(0)), (300, 0, Put(0)), (1_600, 1, Get(0))];
            script(LOGGED, &steps, &[(100, Trouble::Pause(1, 1_500))])
        }),
    ]
}

fn of_servers() -> Vec<Switch> {
    use Act::{Clear, Forget, Get, Load, Put};
    vec![
        Switch {
            name: "a tier forgets the epoch that it knows before it reports a clear",
            rule: "9",
            plan: || {
                // The reader knows the epoch, and reads the other key by it after the report.
                let steps = [
                    (10, 1, Load(0, LoaderPace::Early(0))),
                    (30, 0, Clear),
                    (40, 1, Get(0)),
                    (300, 1, Get(0)),
                ];
                script(LOGGED, &steps, &[])
            },
            off: Off::Parts(Parts { forgets: false, ..Parts::TRUE }),
        },
        Switch {
            name: "an issued version is above those of cells that are gone",
            rule: "7",
            plan: || {
                // The other process would keep its copy of the first put as the newer one.
                let steps = [(10, 0, Put(0)), (20, 1, Get(0)), (40, 0, Put(0)), (60, 1, Get(0))];
                script(LOGGED, &steps, &[(30, Trouble::ClockBehind(0, 1_000)), (31, Trouble::Evict(0, 0))])
            },
            off: Off::Rules(|| Hooks { issues_above: false, ..Hooks::TRUE }),
        },
        Switch {
            name: "a change that changes no cell is logged too",
            rule: "5",
            plan: || {
                // The writer has read the new value before its put reaches the tier.
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
            off: Off::Rules(|| Hooks { reported: only_what_changed, ..Hooks::TRUE }),
        },
    ]
}

fn of_loads() -> Vec<Switch> {
    use Act::{Get, Load, Put};
    vec![
        core("near keeps a load only after its fill was taken", "3", Defence::Accepted, || {
            slow_load(1, LOGGED)
        }),
        core("a load that no fill confirms is as old as its request", "10", Defence::Unconfirmed, || {
            // The loader's process cannot reach the authority when the load begins, and gets no heartbeat before.
            let steps = [(50, 1, Load(0, LoaderPace::Early(1_400))), (150, 0, Put(0)), (1_700, 1, Get(0))];
            let stack = Stack { stampede: Coalesce::Lease, ..LOGGED };
            script(stack, &steps, &[(0, Trouble::Cut(1, 0, Way::There, 300))])
        }),
        core("the authority confirms a load that it is not to keep", "3", Defence::Confirm, || Plan {
            seed: 6,
            ..slow_load(1, Stack { picky: true, ..LOGGED })
        }),
    ]
}

/// A process without heartbeats loads the second or third key, while the other process changes it.
fn slow_load(key: u64, stack: Stack) -> Plan {
    use Act::{Get, Load, Put};
    let (owner, loader) = ((key % 2) as usize, 1 - (key % 2) as usize);
    let steps =
        [(20, loader, Load(key, LoaderPace::Early(250))), (30, owner, Put(key)), (1_200, loader, Get(key))];
    let plan = script(stack, &steps, &[(0, Trouble::CutLog(loader, 0, 5_000))]);
    Plan { keys: 3, ..plan }
}
