//! The states in which one key of a tier may be, as its replies have shown them.

use bytes::Bytes;
use terrace_tier::{Cell, Change, Epoch, Moment, Op, Reply, Role, Timestamp, transition};

use crate::suite::shortened;

/// The present epoch; a cell of another epoch is dead.
const ALIVE: Epoch = Epoch::from_u64(1);
const CLEARED: Epoch = Epoch::from_u64(2);

/// All states that explain the replies so far. There may be more than one where a cache tier may have
/// forgotten a dead cell, or where a call failed and may have been applied.
pub(crate) struct Model {
    role: Role,
    states: Vec<Option<Cell>>,
}

pub(crate) enum Verdict {
    Agrees,
    /// The replies that the model expected.
    Disagrees(String),
}

impl Model {
    pub(crate) fn new(role: Role) -> Self {
        Self { role, states: vec![None] }
    }

    /// Keeps the states in which `op` is answered by `reply`.
    pub(crate) fn apply(&mut self, op: &Op, reply: &Reply, now: Timestamp) -> Verdict {
        self.forget_dead(now);
        let (mut next, mut expected) = (Vec::new(), Vec::new());
        for state in &self.states {
            let (after, answer) = self.step(state.as_ref(), op, now, issued(reply));
            if self.agree(&answer, reply) {
                next.push(after);
            } else {
                expected.push(answer);
            }
        }
        if next.is_empty() {
            return Verdict::Disagrees(shortened(&expected));
        }
        self.states = next;
        Verdict::Agrees
    }

    /// The operation may have been carried out or not. It must issue no version.
    pub(crate) fn may_have_applied(&mut self, op: &Op, now: Timestamp) {
        let after: Vec<_> = self.states.iter().map(|state| self.step(state.as_ref(), op, now, 0).0).collect();
        self.states.extend(after);
        self.states.dedup();
    }

    /// Whether a read before or after `op` may find `body`; `None` stands for a miss.
    pub(crate) fn explains(&self, op: &Op, body: Option<&Option<Bytes>>, now: Timestamp) -> bool {
        self.states.iter().any(|state| {
            let (after, _) = self.step(state.as_ref(), op, now, 0);
            [state.clone(), after].iter().any(|state| {
                let (_, reply) = self.step(state.as_ref(), &Op::Get, now, 0);
                match (&reply, body) {
                    (Reply::Hit(stored), Some(body)) => stored.body == *body,
                    (Reply::Miss(_), None) => true,
                    _ => false,
                }
            })
        })
    }

    /// The namespace was cleared; if not `surely`, it may have been.
    pub(crate) fn clear(&mut self, surely: bool) {
        let dead = |cell: &Cell| Some(Cell { epoch: CLEARED, ..cell.clone() });
        let cleared: Vec<_> = self.states.iter().flatten().map(dead).chain([None]).collect();
        if surely {
            self.states = cleared;
        } else {
            self.states.extend(cleared);
        }
        self.states.dedup();
    }

    /// The cell was evicted.
    pub(crate) fn evict(&mut self) {
        self.states = vec![None];
    }

    fn step(&self, state: Option<&Cell>, op: &Op, now: Timestamp, micros: u64) -> (Option<Cell>, Reply) {
        let moment = Moment::new(self.role, now, micros, ALIVE);
        let (change, reply) = transition(state, op, &moment);
        let after = match change {
            Change::Keep => state.cloned(),
            Change::Write(cell) => Some(cell),
        };
        (after, reply)
    }

    /// A cache tier may leave the winner out of a refusal.
    fn agree(&self, expected: &Reply, found: &Reply) -> bool {
        expected == found
            || self.role == Role::Cache
                && matches!((expected, found), (Reply::Refused(Some(_)), Reply::Refused(None)))
    }

    fn forget_dead(&mut self, now: Timestamp) {
        let dead = |cell: &Cell| cell.epoch != ALIVE || cell.deadlines.is_expired(now);
        if self.role == Role::Cache && !self.states.contains(&None) && self.states.iter().flatten().any(dead)
        {
            self.states.push(None);
        }
    }
}

/// The version in the reply. The model takes it as its clock, so that it issues the same version if
/// that version lies above the key's floor.
fn issued(reply: &Reply) -> u64 {
    match reply {
        Reply::Miss(fence) => fence.version.as_u64(),
        Reply::Kept(version) | Reply::Done { version, .. } => version.as_u64(),
        _ => 0,
    }
}
