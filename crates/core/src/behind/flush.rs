//! One flush: the store first, then the cache tiers, and the dirty index last.

use std::{sync::Arc, time::Duration};

use terrace_tier::{
    Op, Order, Reply, Stored, Term,
    defence::{Defence, enabled},
    unexpected,
};
use tokio::time::Instant;

use super::{
    Behind,
    index::{DirtyWrite, Progress},
    store_of,
};
use crate::{
    AdmitContext, Copies, Deadlines, Error, ErrorKind, Event, Result,
    chain::{Chain, FULL_BUDGET, TierSlot},
};

/// What the store answered to the writes of one flush.
#[derive(Default)]
struct Answers {
    /// The store has these writes.
    confirmed: Vec<DirtyWrite>,
    /// The store has newer records of these keys.
    gave_way: Vec<(DirtyWrite, Option<Stored>)>,
    /// The store refuses these writes, each by itself.
    refused: Vec<(DirtyWrite, Error)>,
    /// The store did not answer these writes.
    failed: Vec<DirtyWrite>,
    failure: Option<Error>,
}

impl Behind {
    /// Flushes writes, and settles those that the store has.
    ///
    /// # Errors
    /// The error after which the flusher pauses.
    pub(super) async fn flush_batch(&self, batch: Vec<DirtyWrite>) -> Result<()> {
        let Some(term) = self.term() else { return Ok(()) };
        let mut failure = None;
        for writes in by_chain(batch) {
            failure = self.flush_chain(term, writes).await.err().or(failure);
        }
        failure.map_or(Ok(()), Err)
    }

    /// Flushes writes of one tenant. A batch that the store refuses is halved until single writes remain.
    async fn flush_chain(&self, term: Term, writes: Vec<DirtyWrite>) -> Result<()> {
        let Some(chain) = writes.first().map(|write| Arc::clone(&write.chain)) else { return Ok(()) };
        let store = store_of(&chain)?;
        let (mut parts, mut failure) = (vec![writes], None);
        while let Some(mut writes) = parts.pop() {
            let (sent, began) = (writes.len(), Instant::now());
            let batch = writes.iter().map(|write| (write.key.clone(), self.write_op(write, term)));
            let replies = store.call_many(FULL_BUDGET, batch.collect()).await;
            if self.term() != Some(term) && enabled(Defence::AnswerTerm) {
                // What an earlier term has asked says nothing of the entries of this one.
                return Err(terrace_tier::front_lost());
            }
            let answers = Answers::of(&writes, replies);
            if answers.refused.len() == sent && sent > 1 {
                parts.push(writes.split_off(sent / 2));
                parts.push(writes);
                continue;
            }
            failure = self.take_answers(&chain, term, answers, began).await.err().or(failure);
            if failure.is_some() {
                break;
            }
        }
        failure.map_or(Ok(()), Err)
    }

    fn write_op(&self, write: &DirtyWrite, term: Term) -> Op {
        Op::Put {
            order: Order::Behind { version: write.version, term },
            deadlines: write.deadlines,
            body: write.body.clone(),
            tombstone_ttl: self.context.removed,
        }
    }

    async fn take_answers(&self, chain: &Chain, term: Term, answers: Answers, began: Instant) -> Result<()> {
        let Answers { confirmed, gave_way, refused, failed, failure } = answers;
        if let Some(error) = failure.as_ref().filter(|error| error.kind() == ErrorKind::FrontLost) {
            self.lose(term, error);
            return Err(error.clone());
        }
        if !enabled(Defence::LeavesLast) {
            self.settle(&confirmed);
        }
        for slot in chain.followers() {
            self.follow(slot, &confirmed, &gave_way).await;
        }
        self.settle(&confirmed);
        if !confirmed.is_empty() {
            self.tell_flushed(confirmed.len(), began.elapsed());
        }
        for (write, _newer) in gave_way {
            self.give_way(&write);
        }
        for (write, error) in refused {
            self.refused(&write, error);
        }
        for write in failed {
            self.index.lock().wait_again(&write.key.digest, write.version, false);
        }
        self.changed.notify_waiters();
        match failure {
            Some(error) => {
                self.context.monitor.tell(&Event::FlushFailed { error: &error });
                Err(error)
            }
            None => Ok(()),
        }
    }

    pub(super) fn settle(&self, writes: &[DirtyWrite]) {
        let mut index = self.index.lock();
        for write in writes {
            index.settle(&write.key.digest, write.version);
            self.journal.as_ref().inspect(|journal| journal.settled(write));
        }
    }

    fn tell_flushed(&self, writes: usize, elapsed: Duration) {
        self.context.monitor.tell(&Event::Flushed { writes, elapsed });
    }

    /// The store has a newer record of the key, which the copies of this process do not show.
    fn give_way(&self, write: &DirtyWrite) {
        self.settle(std::slice::from_ref(write));
        self.drop_near(write);
        self.context.monitor.tell(&Event::GaveWay);
    }

    /// Makes a dead letter of a write that the store refuses.
    pub(super) fn bury(&self, write: &DirtyWrite, error: Error) {
        if self.index.lock().bury(&write.key.digest, write.version, error.clone()) {
            self.journal.as_ref().inspect(|journal| journal.dead(write, &error));
            self.context.warnings.failed(&error);
            self.context.monitor.tell(&Event::DeadLetter { error: &error });
        }
        self.changed.notify_waiters();
    }

    /// Changes the copies in one cache tier. A change that the tier does not confirm becomes a debt.
    async fn follow(
        &self,
        slot: &TierSlot,
        confirmed: &[DirtyWrite],
        gave_way: &[(DirtyWrite, Option<Stored>)],
    ) {
        let mut changes: Vec<(&DirtyWrite, Op)> =
            confirmed.iter().map(|write| (write, self.follow_op(slot, write))).collect();
        changes.extend(gave_way.iter().map(|(write, _)| (write, self.drop_op(None))));
        let (puts, drops): (Vec<_>, Vec<_>) =
            changes.into_iter().partition(|(_, op)| matches!(op, Op::Put { .. }));
        for group in [puts, drops] {
            let batch = group.iter().map(|(write, op)| (write.key.clone(), op.clone())).collect();
            let replies = slot.call_many(FULL_BUDGET, batch).await;
            for ((write, _), mut reply) in group.into_iter().zip(replies) {
                if matches!(&reply, Err(error) if error.kind() == ErrorKind::TooLarge) {
                    reply = slot.call(FULL_BUDGET, &write.key, self.drop_op(None)).await;
                }
                if reply.is_err() {
                    slot.owe(&write.key);
                }
            }
        }
    }

    fn follow_op(&self, slot: &TierSlot, write: &DirtyWrite) -> Op {
        let policies = &self.context.policies;
        let size_bytes = write.body.as_ref().map(bytes::Bytes::len);
        let (namespace, tier) = (&*self.context.monitor.namespace, slot.shared.name);
        let context = AdmitContext { namespace, tier, size_bytes };
        let admits = || policies.admission.as_ref().is_none_or(|admission| admission.admits(&context));
        match write.copies {
            Some(copies) if write.body.is_some() && policies.copies == Copies::Replace && admits() => {
                Op::Put {
                    order: Order::Follow(write.version),
                    deadlines: self.copy_deadlines(copies, slot.shared.ttl),
                    body: write.body.clone(),
                    tombstone_ttl: self.context.tombstone,
                }
            }
            _ => self.drop_op(Some(write.version)),
        }
    }

    fn copy_deadlines(&self, copies: Deadlines, ttl: Option<Duration>) -> Deadlines {
        let cap = |ttl| self.context.policies.expiry.cap(ttl, fastrand::f64());
        ttl.map_or(copies, |ttl| copies.capped(self.context.clock.now(), cap(ttl)))
    }

    fn drop_op(&self, version: Option<crate::Version>) -> Op {
        Op::Invalidate { version, tombstone_ttl: self.context.tombstone }
    }
}

impl Answers {
    fn of(writes: &[DirtyWrite], replies: Vec<Result<Reply>>) -> Self {
        let mut answers = Self::default();
        for (write, reply) in writes.iter().zip(replies) {
            let write = write.clone();
            match reply {
                Ok(Reply::Kept(_)) => answers.confirmed.push(write),
                Ok(Reply::Refused(newer)) => answers.gave_way.push((write, newer)),
                Ok(Reply::TooOld) => answers.refused.push((write, too_old())),
                Ok(reply) => answers.refused.push((write, unexpected(&reply))),
                Err(error) if error.is_transient() || error.kind() == ErrorKind::FrontLost => {
                    answers.failed.push(write);
                    // A lost front outweighs what can be tried again.
                    if answers.failure.as_ref().is_none_or(|known| known.kind() != ErrorKind::FrontLost) {
                        answers.failure = Some(error);
                    }
                }
                Err(error) => answers.refused.push((write, error)),
            }
        }
        answers
    }
}

/// The store refuses for good what its tombstones may not cover any more.
fn too_old() -> Error {
    let message = "the write waited so long that the tombstone of a later removal may be gone";
    Error::new(ErrorKind::Unsupported, message)
        .with_cure("look at the record, and retry or discard the dead letter")
}

fn by_chain(batch: Vec<DirtyWrite>) -> Vec<Vec<DirtyWrite>> {
    let mut groups: Vec<Vec<DirtyWrite>> = Vec::new();
    for write in batch {
        let same = |group: &&mut Vec<DirtyWrite>| group[0].chain.tenant == write.chain.tenant;
        match groups.iter_mut().find(same) {
            Some(group) => group.push(write),
            None => groups.push(vec![write]),
        }
    }
    groups
}

impl Progress {
    pub(super) fn cause(&self) -> Option<&Error> {
        match self {
            Self::Dead(cause) => Some(cause),
            Self::Waiting | Self::Flushing => None,
        }
    }
}
