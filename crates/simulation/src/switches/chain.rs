//! Fills and writes (rules 1 to 8).

use std::time::Duration;

use terrace_conformance::parts::Hooks;
use terrace_core::policy::Coalesce;
use terrace_tier::defence::Defence;

use super::{COPY, Off, STORED, Switch, TWO, rules::*, script};
use crate::{
    Act, LoaderPace, Plan, Stack, Trouble, Way,
    parts::{Links, Parts},
};

#[allow(clippy::too_many_lines, reason = "a list, of which each entry is read alone")]
pub(super) fn switches() -> Vec<Switch> {
    use Act::{Clear, Get, Invalidate, Load, Put, Remove};
    let switch = |name, rule, off, plan| Switch { name, rule, plan, off };
    vec![
        switch("absence rejects a fill", "1", Off::Rules(|| rules(accept_on_absence)), || {
            let steps = [(0, 1, Load(0, LoaderPace::Early(30))), (10, 0, Invalidate(0)), (50, 0, Get(0))];
            script(COPY, &steps, &[(20, Trouble::Evict(0, 0))])
        }),
        switch("a fill shows a living token", "1", Off::Rules(|| rules(ignore_tokens)), || {
            script(
                COPY,
                &[(0, 1, Load(0, LoaderPace::Early(30))), (10, 0, Invalidate(0)), (50, 0, Get(0))],
                &[],
            )
        }),
        switch("a lease is taken before looking further", "1", Off::Rules(|| rules(lease_late)), || {
            let steps = [(0, 0, Put(0)), (20, 1, Get(0)), (26, 0, Invalidate(0)), (60, 0, Get(0))];
            script(TWO, &steps, &[(23, Trouble::Slow(1, 0, Way::There, 20, 5))])
        }),
        switch(
            "a store creates a record only where it showed none",
            "2",
            Off::Rules(|| rules(create_over)),
            || {
                let stack = Stack { tiers: 0, stampede: Coalesce::Nobody, ..STORED };
                script(
                    stack,
                    &[(0, 0, Load(0, LoaderPace::Early(30))), (10, 1, Put(0)), (50, 1, Get(0))],
                    &[],
                )
            },
        ),
        switch(
            "a load that lost to another creator gives the winner's record",
            "2",
            Off::Core(Defence::Winner),
            || {
                let steps = [(0, 0, Load(0, LoaderPace::Early(30))), (10, 1, Put(0)), (50, 0, Get(0))];
                script(Stack { near: true, tiers: 0, ..STORED }, &steps, &[])
            },
        ),
        switch("a load that lost to a removal is kept nowhere", "2", Off::Core(Defence::Uncached), || {
            let steps = [(0, 0, Load(0, LoaderPace::Early(30))), (10, 1, Remove(0)), (50, 0, Get(0))];
            script(Stack { near: true, tiers: 0, ..STORED }, &steps, &[])
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
            script(stack, &[(0, 1, Get(0)), (20, 0, Load(0, LoaderPace::Late(5)))], &[])
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
        switch(
            "a tier that did not confirm a drop is not read",
            "7",
            Off::Parts(Parts { links: Links::Lying, ..Parts::TRUE }),
            || {
                let steps = [(0, 0, Put(0)), (12, 0, Invalidate(0)), (80, 0, Get(0))];
                script(COPY, &steps, &[(10, Trouble::Cut(0, 0, Way::There, 60))])
            },
        ),
        switch(
            "a value that is too large for a tier leaves nothing older there",
            "7",
            Off::Core(Defence::Oversize),
            || {
                // The third value is too large for the tier.
                let steps =
                    [(0, 0, Put(0)), (10, 0, Get(0)), (20, 0, Put(0)), (40, 0, Put(0)), (80, 0, Get(0))];
                script(Stack { fussy: true, ..STORED }, &steps, &[])
            },
        ),
        switch(
            "a copy above the version that a cache tier issued to a put is dropped",
            "7",
            Off::Core(Defence::LowerVersion),
            || {
                let steps = [(0, 0, Load(0, LoaderPace::Early(5))), (40, 0, Put(0)), (80, 0, Get(0))];
                script(TWO, &steps, &[(30, Trouble::ClockBehind(1, 3_000)), (31, Trouble::Flush(1))])
            },
        ),
        switch(
            "a drop that a farther tier missed is owed to nearer tiers too",
            "7",
            Off::Core(Defence::NearerOwed),
            || {
                let steps = [(0, 0, Put(0)), (12, 0, Invalidate(0)), (70, 1, Get(0)), (600, 0, Get(0))];
                script(TWO, &steps, &[(10, Trouble::Cut(0, 1, Way::There, 60))])
            },
        ),
        switch("an invalidation kills leases", "8", Off::Rules(|| rules(spare_leases)), || {
            script(
                COPY,
                &[(0, 1, Load(0, LoaderPace::Early(30))), (10, 0, Invalidate(0)), (50, 0, Get(0))],
                &[],
            )
        }),
        switch(
            "a clear makes a new epoch",
            "1",
            Off::Rules(|| Hooks { clear: |_, _| {}, ..Hooks::TRUE }),
            || {
                // The origin has changed, and its writer reached no server.
                let steps = [(0, 0, Put(0)), (10, 0, Put(0)), (70, 1, Clear), (80, 1, Get(0))];
                script(COPY, &steps, &[(10, Trouble::Cut(0, 0, Way::There, 60))])
            },
        ),
        switch("deadlines are decided at the write", "1", Off::Rules(|| rules(live_on)), || {
            let stack = Stack { life: Duration::from_millis(100), ..COPY };
            script(stack, &[(0, 0, Put(0)), (90, 1, Get(0)), (150, 1, Get(0))], &[])
        }),
        switch(
            "a copy whose life ended before a call does not answer it",
            "1",
            Off::Core(Defence::OverWhenAsked),
            || {
                // The flight lasts until the copy is kept, which takes longer than the value lives.
                let stack = Stack { near: true, life: Duration::from_millis(12), ..COPY };
                let steps = [(0, 0, Load(0, LoaderPace::Late(5))), (35, 0, Get(0))];
                script(stack, &steps, &[(6, Trouble::Slow(0, 0, Way::There, 40, 20))])
            },
        ),
    ]
}

/// The answer to a read of the second process comes after a put of the first one and its own
/// invalidation.
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
