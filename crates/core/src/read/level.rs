//! What a handle's level asks of an answer.

use std::{hash::Hash, sync::Arc};

use super::{
    Cache,
    grounds::ProofSource,
    inner::Inner,
    looked::{CacheTicket, LookupOutcome},
    proof::{ANY, NONE, ReadBound},
    reading::ReadMode,
};
use crate::{
    Deadlines, Entry, Error, ErrorKind, Level, Near, OnStale, Result, Stored, Timestamp,
    defence::{Defence, enabled},
};

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    /// This cache with another level for the reads that are made through the handle: stricter, or less
    /// strict. Writes are the same at all levels.
    ///
    /// | built at | `Ttl` | `Fenced` | `Bounded(d)` | `Strong` |
    /// |---|---|---|---|---|
    /// | `Ttl` | as built | error | error | error |
    /// | `Fenced` | any copy within its life | as built | the store | the store |
    /// | `Bounded` | any copy within its life | what was heard of within a second | what is proven within `d` | the store |
    /// | `Strong` | any copy within its life | what was heard of within a second | the store | as built |
    ///
    /// # Errors
    /// None here. Where the table says error, and where it says the store and there is none, reads are
    /// [`ErrorKind::Unsupported`]: there is no truth to ask.
    ///
    /// # Cost
    /// Two counts of references, no trip. A near hit costs a few comparisons more than at the level
    /// that the cache was built at.
    ///
    /// ```
    /// # use terrace_core::{Cache, Level, NoNear, Result};
    /// # async fn example(accounts: &Cache<u64, i64, NoNear>) -> Result<()> {
    /// let shown = accounts.get(&7).await?; // as the cache was built
    /// let exact = accounts.with(Level::Strong).get(&7).await?; // as the store has it now
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with(&self, level: Level) -> Self {
        Self::at_level(Arc::clone(&self.inner), Arc::clone(&self.chain), level)
    }

    /// From when on the proof of a copy must be that answers a call made now.
    pub(super) fn oldest(&self) -> Timestamp {
        self.reading.oldest(&self.inner.clock)
    }

    /// What a call made now asks of others' answers.
    pub(super) fn asked(&self) -> ReadBound {
        ReadBound { at: self.inner.clock.now(), oldest: self.oldest() }
    }

    /// Whether reads can be answered at this level, by a cache that is not closed.
    pub(super) fn check_readable(&self) -> Result<()> {
        self.inner.check_open()?;
        match self.reading {
            ReadMode::Refused => Err(Error::new(
                ErrorKind::Unsupported,
                "this level asks the truth, and the cache has no store to ask",
            )),
            _ => Ok(()),
        }
    }

    /// Whether near may answer with this entry: for handles whose level is not the one that near was
    /// built for.
    #[cold]
    pub(super) fn trusts(&self, entry: &Entry<V>, now: Timestamp) -> bool {
        entry.is_fresh(now)
            && match self.reading {
                ReadMode::Life => true,
                ReadMode::Heard(within) | ReadMode::Proven(within) => {
                    self.inner.trust.proves(entry, now, within)
                }
                ReadMode::Truth | ReadMode::Refused => false,
            }
    }

    /// Whether an entry that another caller's trip or load brought may answer a call.
    pub(super) fn suffices(&self, entry: &Entry<V>, asked: ReadBound) -> bool {
        let servable = || {
            let allowed = || self.inner.on_stale(&entry.deadlines(), true) != OnStale::Miss;
            asked.oldest != NONE && entry.value().is_some() && allowed()
        };
        if was_over(&entry.deadlines(), asked.at) {
            return servable();
        }
        let stale = || !entry.is_fresh(self.inner.clock.now()) && servable();
        entry.proven_at() >= asked.oldest || !enabled(Defence::InTime) || stale()
    }

    /// Whether a lookup that this caller joined is none for it: what it found was not proven when the
    /// call was made, or it saw too long before that the store has no such record, or before a load that
    /// has made one. Whoever goes on to a load learns from that whether there is one.
    pub(super) fn came_late(
        &self,
        ticket: &CacheTicket<K, V>,
        looked: &LookupOutcome<V>,
        asked: ReadBound,
    ) -> bool {
        ticket.joined()
            && enabled(Defence::InTime)
            && match looked {
                LookupOutcome::Found(entry, _) => !self.suffices(entry, asked),
                LookupOutcome::Missed(missed) => {
                    let says_so = self.chain.store.is_some() && !ticket.intent().loads();
                    says_so && (missed.began < asked.oldest || self.was_loaded_before(ticket, asked))
                }
                LookupOutcome::Failed(..) => false,
            }
    }

    /// Whether the flight's load gave something that is no answer to this call any more.
    fn was_loaded_before(&self, ticket: &CacheTicket<K, V>, asked: ReadBound) -> bool {
        matches!(ticket.flight().load.result(), Some(Ok((entry, _))) if !self.suffices(&entry, asked))
    }
}

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// When a copy of a cache tier was as new as the truth, as far as this cache must know.
    pub(super) fn proof_of(&self, stored: &Stored, began: Timestamp) -> Timestamp {
        let now = self.clock.now();
        match &self.grounds {
            ProofSource::None => began,
            ProofSource::Watermarks(marks) => {
                let moved = stored.watermark.and_then(|version| marks.moved_at(version, now));
                moved.unwrap_or(ANY)
            }
            // Another host's clock may be ahead.
            ProofSource::Age if stored.deadlines.written <= now => stored.deadlines.written,
            ProofSource::Age | ProofSource::Log | ProofSource::ReadTime => ANY,
        }
    }

    /// When a load that began at `began` and has just given a value was as new as the truth: where
    /// proof is asked for, what the origin said may be as old as its question.
    pub(super) fn proof_of_load(&self, began: Timestamp) -> Timestamp {
        match self.grounds {
            ProofSource::None => self.clock.now(),
            _ => began,
        }
    }
}

/// Whether a life had ended before a call was made. A flight is there until what it brought is kept, and
/// its process may stand still meanwhile; what was made since the call was made for it, however short
/// its life.
fn was_over(deadlines: &Deadlines, asked_at: Timestamp) -> bool {
    deadlines.fresh_until <= asked_at && deadlines.written < asked_at && enabled(Defence::OverWhenAsked)
}
