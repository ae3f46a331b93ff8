//! The front decides a write and acknowledges it.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use terrace_tier::{Deadlines, Op, Reply, Stored, Term, TierKey, Token, Version, unexpected};
use tokio::time::Instant;

use super::{
    Behind,
    index::{DirtyWrite, Found},
    space::Space,
    store_of,
};
use crate::{
    Error, ErrorKind, Event, Result,
    chain::{Chain, FULL_BUDGET},
};

/// How often a conditional write reads the record before it gives way to other writers of the key.
const ROUNDS: usize = 8;

/// A write that the front is to acknowledge.
pub(crate) struct FrontWrite {
    pub(crate) key: TierKey,
    /// The envelope, or `None` for a removal.
    pub(crate) body: Option<Bytes>,
    /// The deadlines of the record.
    pub(crate) deadlines: Deadlines,
    /// The deadlines of the copies, or `None` where the copies are to be dropped.
    pub(crate) copies: Option<Deadlines>,
    pub(crate) condition: FrontCondition,
}

/// The condition on which the front takes a write.
#[derive(Clone, Copy)]
pub(crate) enum FrontCondition {
    Always,
    /// There is no value.
    Absent,
    /// There is a value of this version.
    Version(Version),
    /// There is no value, and no write has come since a read that found none, at this version.
    SeenAbsent(Version),
}

/// What the front answers to a write.
pub(crate) enum FrontOutcome {
    /// It has acknowledged the write.
    Kept {
        version: Version,
        /// Whether the front had a live value of the key.
        existed: bool,
    },
    /// The condition does not hold. The record that won comes with it, if there is one.
    Refused(Option<Stored>),
}

/// What the front knows of a key: its live value, or the version at which there is none.
enum Known {
    Value(Stored),
    Absent(Version),
}

impl Behind {
    /// Acknowledges writes of distinct keys: one outcome for each, in order.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), [`ErrorKind::Backlog`] where the backlog is full, [`ErrorKind::Busy`] where
    /// other writers of a conditional write's key were faster too often, and the store's error where a condition
    /// needs the record.
    ///
    /// # Cost
    /// No round trip once the front is open. A condition on a key that is not dirty reads the record.
    pub(crate) async fn write(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        writes: Vec<FrontWrite>,
    ) -> Vec<Result<FrontOutcome>> {
        let opened = async {
            self.check_open()?;
            self.keep_flushing();
            self.open(chain).await
        };
        if let Err(error) = opened.await {
            return writes.iter().map(|_| Err(error.clone())).collect();
        }
        let term = self.term();
        join_all(writes.into_iter().map(|write| self.write_one(chain, term, write))).await
    }

    async fn write_one(
        &self,
        chain: &Arc<Chain>,
        term: Option<Term>,
        write: FrontWrite,
    ) -> Result<FrontOutcome> {
        let FrontWrite { key, body, deadlines, copies, condition } = write;
        let digest = key.digest;
        let chain = Arc::clone(chain);
        let mut write = DirtyWrite { key, chain, version: Version::NONE, deadlines, copies, body };
        let space = self.space(write.bytes()).await?;
        let existed = match self.decide(&write, condition).await? {
            Ok((version, existed)) => {
                write.version = version;
                existed
            }
            Err(winner) => return Ok(FrontOutcome::Refused(winner)),
        };
        let version = write.version;
        if let Some(journal) = &self.journal
            && let Err(error) = journal.keep(&write).await
        {
            self.index.lock().give_up(&digest);
            self.changed.notify_waiters();
            return Err(error);
        }
        self.acknowledge(write, term)?;
        if let Space::UntilFlushed(_permit) = space {
            self.until_flushed(&digest, version).await?;
        }
        Ok(FrontOutcome::Kept { version, existed })
    }

    /// Acknowledges a write that has its version, unless the hold has run out or the front was lost meanwhile.
    fn acknowledge(&self, write: DirtyWrite, term: Option<Term>) -> Result<()> {
        let (coalesced, waiting) = {
            let mut index = self.index.lock();
            if self.term() != term {
                index.give_up(&write.key.digest);
                self.journal.as_ref().inspect(|journal| journal.settled(&write));
                return Err(terrace_tier::front_lost());
            }
            if !self.may_acknowledge() {
                index.give_up(&write.key.digest);
                let message = "the front's hold of the namespace has run out, since the store did not answer";
                return Err(Error::new(ErrorKind::Unavailable, message).with_cure(
                    "check the store; a front in memory outlives its absence by 10 s, one in a file longer",
                ));
            }
            (index.acknowledge(write, Instant::now()), index.waiting())
        };
        if coalesced {
            self.context.monitor.tell(&Event::WriteCoalesced);
        }
        if waiting == 1 || waiting >= self.plan.batch {
            self.wake.notify_one();
        }
        self.changed.notify_waiters();
        Ok(())
    }

    /// Issues the version of a write whose condition holds, and says whether there was a value. The inner error is
    /// the record that won.
    async fn decide(
        &self,
        write: &DirtyWrite,
        condition: FrontCondition,
    ) -> Result<Result<(Version, bool), Option<Stored>>> {
        let digest = &write.key.digest;
        if matches!(condition, FrontCondition::Always) {
            let mut index = self.index.lock();
            let found = index.pin(digest);
            index.unpin(digest);
            let existed = matches!(self.known(found), Some(Known::Value(_)));
            return Ok(Ok((index.issue(digest, self.context.clock.micros()), existed)));
        }
        for _ in 0..ROUNDS {
            let pin = Pin::new(self, digest);
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            let (is_pending, changes, known) = {
                let found = self.index.lock().pinned(digest);
                (found.is_pending, found.changes, self.known(found))
            };
            if is_pending {
                changed.await;
                continue;
            }
            let known = match known {
                Some(known) => known,
                None => self.ask_store(write).await?,
            };
            let mut index = self.index.lock();
            let found = index.pinned(digest);
            if found.changes == changes && !found.is_pending {
                let decided = match holds(&known, condition) {
                    true => {
                        let existed = matches!(known, Known::Value(_));
                        Ok((index.issue(digest, self.context.clock.micros()), existed))
                    }
                    false => Err(known.winner()),
                };
                drop(index);
                drop(pin);
                return Ok(decided);
            }
        }
        Err(Error::new(ErrorKind::Busy, "other writers of the key were faster too often; try again"))
    }

    fn known(&self, found: Found) -> Option<Known> {
        let write = found.write?;
        let is_over = write.deadlines.is_expired(self.context.clock.now());
        Some(match write.body.filter(|_| !is_over) {
            Some(body) => Known::Value(Stored::new(write.version, write.deadlines, Some(body))),
            None => Known::Absent(write.version),
        })
    }

    async fn ask_store(&self, write: &DirtyWrite) -> Result<Known> {
        let store = store_of(&write.chain)?;
        // A store gives no lease, but the version at which it has no record.
        let (token, ttl) = (Token::random(), self.context.tombstone);
        let read = Op::Lease { token, ttl, over: None, replaces: Token::NONE };
        match store.call(FULL_BUDGET, &write.key, read).await? {
            Reply::Hit(stored) if stored.body.is_some() => Ok(Known::Value(stored)),
            Reply::Hit(stored) => Ok(Known::Absent(stored.version)),
            Reply::Miss(fence) => Ok(Known::Absent(fence.version)),
            reply => Err(unexpected(&reply).at_tier(store.shared.name)),
        }
    }

    /// The record as a read of the front or the store finds it: for writes that keep its value.
    pub(crate) async fn record(&self, chain: &Arc<Chain>, key: &TierKey) -> Result<Option<Stored>> {
        let found = {
            let mut index = self.index.lock();
            let found = index.pin(&key.digest);
            index.unpin(&key.digest);
            found
        };
        let known = match self.known(found) {
            Some(known) => known,
            None => {
                let (version, copies, body) = (Version::NONE, None, None);
                let deadlines = Deadlines::forever(self.context.clock.now());
                let (key, chain) = (key.clone(), Arc::clone(chain));
                self.ask_store(&DirtyWrite { key, chain, version, deadlines, copies, body }).await?
            }
        };
        Ok(match known {
            Known::Value(stored) => Some(stored),
            Known::Absent(_) => None,
        })
    }
}

fn holds(known: &Known, condition: FrontCondition) -> bool {
    match (condition, known) {
        (FrontCondition::Always, _) | (FrontCondition::Absent, Known::Absent(_)) => true,
        (FrontCondition::Version(seen), Known::Value(stored)) => stored.version == seen,
        (FrontCondition::SeenAbsent(seen), Known::Absent(version)) => *version == seen,
        _ => false,
    }
}

impl Known {
    fn winner(self) -> Option<Stored> {
        match self {
            Self::Value(stored) => Some(stored),
            Self::Absent(_) => None,
        }
    }
}

/// Keeps the slot of a key in the index, so that the writes that come meanwhile are counted.
struct Pin<'a> {
    behind: &'a Behind,
    digest: [u8; 16],
}

impl<'a> Pin<'a> {
    fn new(behind: &'a Behind, digest: &[u8; 16]) -> Self {
        behind.index.lock().pin(digest);
        Self { behind, digest: *digest }
    }
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        self.behind.index.lock().unpin(&self.digest);
    }
}
