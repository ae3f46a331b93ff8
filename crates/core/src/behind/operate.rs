//! The methods that operate a cache with write-behind: flush, backlog, dead letters and its end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use terrace_tier::{
    Term, Version,
    defence::{Defence, enabled},
};
use tokio::time::{Instant, timeout};

use super::{Behind, DeadLetters};
use crate::{Cache, Error, ErrorKind, Key, Result, Value, near::Near};

/// What the front of a cache with write-behind has acknowledged and the store does not have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BacklogStats {
    /// The number of dirty keys, the dead letters included.
    pub keys: usize,
    /// Their bytes, as the cap of the backlog counts them.
    pub bytes: usize,
    /// The age of the oldest dirty write that is no dead letter.
    pub oldest: Option<Duration>,
    /// The number of dead letters.
    pub dead: usize,
    /// The term of the front's last opening. `None` before its first write, and after its loss.
    pub term: Option<Term>,
}

impl Behind {
    pub(crate) fn backlog(&self) -> BacklogStats {
        let term = self.term();
        let index = self.index.lock();
        let oldest = index.oldest().map(|dirty| Instant::now().duration_since(dirty.since));
        BacklogStats { keys: index.keys(), bytes: index.bytes(), oldest, dead: index.dead(), term }
    }

    /// Waits until everything that was acknowledged before the call is in the store.
    async fn flush(&self) -> Result<()> {
        let (term, barrier) = (self.term(), self.index.lock().high());
        let _hurry = Hurry::new(self);
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if term != self.term() && enabled(Defence::FlushTerm) {
                return Err(terrace_tier::front_lost());
            }
            if !self.is_dirty_up_to(barrier)? {
                return Ok(());
            }
            changed.await;
        }
    }

    fn is_dirty_up_to(&self, barrier: Version) -> Result<bool> {
        let index = self.index.lock();
        let (mut is_dirty, mut dead) = (false, 0);
        for dirty in index.all().filter(|dirty| dirty.oldest <= barrier) {
            match dirty.progress.cause() {
                Some(_) => dead += 1,
                None => is_dirty = true,
            }
        }
        if dead > 0 && !is_dirty {
            let message = format!("the store refuses {dead} writes, which are dead letters");
            return Err(Error::new(ErrorKind::Partial, message)
                .with_cure("look at `dead_letters`, and retry or discard them"));
        }
        Ok(is_dirty)
    }
}

/// Flushes do not wait for the delay while this value lives.
struct Hurry<'a>(&'a Behind);

impl<'a> Hurry<'a> {
    fn new(behind: &'a Behind) -> Self {
        behind.hurry.fetch_add(1, Ordering::AcqRel);
        behind.wake.notify_one();
        Self(behind)
    }
}

impl Drop for Hurry<'_> {
    fn drop(&mut self) {
        self.0.hurry.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// Waits until the store has everything that this process acknowledged before the call. In a cache without
    /// write-behind that is so at once.
    ///
    /// The call waits as long as the store does not answer: bound it by [`timeout`](tokio::time::timeout).
    ///
    /// # Errors
    /// [`ErrorKind::FrontLost`](crate::ErrorKind::FrontLost) where another front was opened meanwhile, and
    /// [`ErrorKind::Partial`](crate::ErrorKind::Partial) where some of the writes are dead letters.
    ///
    /// # Cost
    /// The round trips of the flushes, which do not wait for the delay meanwhile.
    pub async fn flush(&self) -> Result<()> {
        let Some(behind) = &self.inner.behind else { return Ok(()) };
        behind.keep_flushing();
        behind.flush().await.map_err(|error| error.in_cache(self.namespace()).during("flush"))
    }

    /// What is dirty now. It is empty in a cache without write-behind.
    pub fn backlog(&self) -> BacklogStats {
        self.inner.behind.as_ref().map(|behind| behind.backlog()).unwrap_or_default()
    }

    /// The writes that the store refuses for good.
    pub fn dead_letters(&self) -> DeadLetters<'_, K, V, N> {
        DeadLetters { cache: self, behind: self.inner.behind.as_ref().map(Arc::clone) }
    }

    /// Takes no more writes, flushes what is dirty for at most `time`, and ends the cache as
    /// [`close`](Cache::close) does. The result says what is left: a front in memory loses it, and a front in a
    /// file flushes it after its next start. A front with nothing left gives the namespace back.
    ///
    /// Call it when the process gets SIGTERM. No signal handler is installed.
    pub async fn close_within(&self, time: Duration) -> BacklogStats {
        let left = self.end_front(time).await;
        self.end().await;
        left
    }

    /// Takes no more writes, and flushes what is dirty for at most `time`. The result is what is left.
    pub(crate) async fn end_front(&self, time: Duration) -> BacklogStats {
        let Some(behind) = &self.inner.behind else { return BacklogStats::default() };
        let until = Instant::now() + time;
        behind.closing.store(true, Ordering::Release);
        behind.keep_flushing();
        if behind.backlog().keys > 0 {
            // What a journal has restored is flushed in a term, which no write may have opened yet.
            let _ = timeout(time, behind.open(&self.chain)).await;
        }
        // Writes that were begun before are acknowledged or refused first.
        let _ = timeout(time, self.inner.tasks.settled()).await;
        let _ = tokio::time::timeout_at(until, behind.flush()).await;
        let left = behind.backlog();
        if left.keys == 0 {
            let release = behind.release(&self.chain);
            let _ = tokio::time::timeout_at(until.max(Instant::now() + Duration::from_millis(100)), release)
                .await;
        }
        if let Some(journal) = &behind.journal {
            journal.journal.close().await;
        }
        left
    }

    /// Opens the front of this process, even where another front holds the namespace: after its process has gone
    /// for good, and for a journal that the store does not know any more. The other front is fenced. Dead letters
    /// of an earlier loss become ordinary writes again, which replace only older records.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) without write-behind, and the store's errors.
    ///
    /// # Cost
    /// One round trip to the store, which reads the versions of all records of the namespace.
    pub async fn take_over(&self) -> Result<()> {
        let name = |error: Error| error.in_cache(self.namespace()).during("take_over");
        let Some(behind) = &self.inner.behind else {
            return Err(name(Error::new(ErrorKind::Unsupported, "the cache has no write-behind")));
        };
        behind.keep_flushing();
        behind.open_by_force(&self.chain).await.map_err(name)?;
        let lost: Vec<_> = {
            let index = behind.index.lock();
            let is_lost = |cause: &Error| cause.kind() == ErrorKind::FrontLost;
            let dead = index.all().filter(|dirty| dirty.progress.cause().is_some_and(is_lost));
            dead.map(|dirty| dirty.write.key.digest).collect()
        };
        lost.iter().for_each(|digest| _ = behind.revive(digest));
        Ok(())
    }
}
