//! Transitions that each leave out a rule.

use std::time::Duration;

use terrace_conformance::parts::Hooks;
use terrace_tier::{
    Cell, Change, Condition, Moment, Op, Order, Reply, Role, State, Timestamp, Token, Version, transition,
};

pub(super) const fn rules(transition: fn(Option<&Cell>, &Op, &Moment) -> (Change, Reply)) -> Hooks {
    Hooks { transition, ..Hooks::TRUE }
}

/// Followers are notified only of operations that changed a cell.
pub(super) fn only_what_changed(op: &Op, reply: &Reply) -> Option<Option<Version>> {
    match reply {
        Reply::Refused(_) | Reply::Done { existed: false, .. } => None,
        _ => (Hooks::TRUE.reported)(op, reply),
    }
}

/// Accepts a fill as if its lease were valid.
fn filled_over(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    let Op::Fill { version, deadlines, body, .. } = op.clone() else { return transition(cell, op, moment) };
    let put = Op::Put { order: Order::Unfenced(version), deadlines, body, tombstone_ttl: Duration::ZERO };
    transition(cell, &put, moment)
}

pub(super) fn accept_on_absence(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    if cell.is_none() { filled_over(cell, op, moment) } else { transition(cell, op, moment) }
}

pub(super) fn ignore_tokens(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    let invalidated = cell.is_some_and(|cell| cell.state == State::Tombstone);
    if invalidated { filled_over(cell, op, moment) } else { transition(cell, op, moment) }
}

/// A lookup takes no lease; the fill is accepted as if it had one.
pub(super) fn lease_late(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    let token = Token::from_u64(7);
    match op {
        Op::Lease { ttl, over, replaces, .. } => {
            let lease = Op::Lease { token, ttl: *ttl, over: *over, replaces: *replaces };
            let (_, reply) = transition(cell, &lease, moment);
            (Change::Keep, reply)
        }
        Op::Fill { .. } => filled_over(cell, op, moment),
        _ => transition(cell, op, moment),
    }
}

pub(super) fn create_over(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    if moment.role == Role::Cache {
        return transition(cell, op, moment);
    }
    let Op::Fill { deadlines, body, .. } = op.clone() else { return transition(cell, op, moment) };
    let order = Order::Author(Condition::Always);
    transition(cell, &Op::Put { order, deadlines, body, tombstone_ttl: Duration::ZERO }, moment)
}

/// Accepts a follower's put whatever its version is.
fn unordered(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    match op.clone() {
        Op::Put { order: Order::Follow(version), deadlines, body, tombstone_ttl } => transition(
            cell,
            &Op::Put { order: Order::Unfenced(version), deadlines, body, tombstone_ttl },
            moment,
        ),
        op => transition(cell, &op, moment),
    }
}

pub(super) fn follow_always(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    if cell.is_some() { unordered(cell, op, moment) } else { transition(cell, op, moment) }
}

pub(super) fn follow_on_absence(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    if cell.is_none() { unordered(cell, op, moment) } else { transition(cell, op, moment) }
}

pub(super) fn spare_leases(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    let (change, reply) = transition(cell, op, moment);
    let leased = cell.is_some_and(|cell| cell.state == State::Lease);
    let spared = leased && matches!(op, Op::Invalidate { version: None, .. });
    (if spared { Change::Keep } else { change }, reply)
}

/// A value lives a minute longer than its deadlines say.
pub(super) fn live_on(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    match transition(cell, op, moment) {
        (Change::Write(mut cell), reply) if cell.state == State::Value => {
            let longer = |at: Timestamp| at.after(Duration::from_secs(60));
            cell.deadlines.fresh_until = longer(cell.deadlines.fresh_until);
            cell.deadlines.stale_until = longer(cell.deadlines.stale_until);
            cell.deadlines.expires_at = longer(cell.deadlines.expires_at);
            (Change::Write(cell), reply)
        }
        same => same,
    }
}
