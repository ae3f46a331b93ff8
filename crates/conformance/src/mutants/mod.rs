//! The suite catches each broken tier by the case that names its fault.

mod callers;
mod logs;
mod machine;
mod parts;
mod rules;

use bytes::Bytes;
use terrace_tier::{
    Backend, Cell, Change, Clock, Condition, Deadlines, Error, Fence, Moment, Namespace, Op, Order, Reply,
    Result, Role, State, Tier, TierKey, Timestamp, Token, Version, transition,
};

use crate::{
    Fake,
    fake::{Data, Hooks},
    suite::{CACHE, Case, EVICT, Failure, LOG, PROCESSES, PUBLISH, STORE, STORE_LOG, Subject, oracle},
};

type Rule = fn(Option<&Cell>, &Op, &Moment) -> (Change, Reply);

fn subject(hooks: Hooks) -> Subject {
    let hand = Clock::manual();
    let fake = Fake::with_hooks("broken", hand.clock(), hooks);
    let evicting = fake.clone();
    Subject::new(fake.clone())
        .second(fake.another_handle())
        .notified_within(Fake::CLEAR_LAG)
        .manual_clock(&hand)
        .evict(move |namespace, key| {
            evicting.evict(&namespace.name, &key.bytes);
            Box::pin(async {})
        })
}

fn rule(transition: Rule) -> Hooks {
    // The server's own order of versions would hide a transition that issues one twice.
    Hooks { transition, issues_above: false, ..Hooks::default() }
}

/// Runs the case on the broken tier. The case must find the fault, and not through an error of the tier.
async fn caught(cases: &[Case], name: &str, subject: Subject) {
    let case = cases.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case {name}"));
    let broken = case.run(subject).await.expect_err(name);
    assert!(matches!(broken.cases[..], [(_, Failure::Broken { .. })]), "{broken}");
}

/// Checks that the case and some random history find a broken rule.
async fn rule_caught(cases: &[Case], name: &str, broken: Rule) {
    caught(cases, name, subject(rule(broken))).await;
    let role = cases[0].role;
    for seed in 0..200 {
        if oracle(subject(rule(broken)), role, seed, 200).await.is_err() {
            return;
        }
    }
    panic!("no random history found the fault of {name}");
}

fn edited(cell: Option<&Cell>, change: impl FnOnce(&mut Cell)) -> Option<Cell> {
    cell.cloned().map(|mut cell| {
        change(&mut cell);
        cell
    })
}

fn edit_written(outcome: (Change, Reply), change: impl FnOnce(&mut Cell)) -> (Change, Reply) {
    match outcome {
        (Change::Write(mut cell), reply) => {
            change(&mut cell);
            (Change::Write(cell), reply)
        }
        kept => kept,
    }
}

fn with_order(op: &Op, change: impl FnOnce(Order) -> Order) -> Op {
    match op.clone() {
        Op::Put { order, deadlines, body, tombstone_ttl } => {
            Op::Put { order: change(order), deadlines, body, tombstone_ttl }
        }
        other => other,
    }
}
