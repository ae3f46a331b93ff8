//! Write-behind: the cache acknowledges a write once its *front* has it, and the store follows.
//!
//! The front is the cache's authority: it issues versions and decides conditions. It is one process. Its dirty
//! index is the queue of the flusher, which is the only way to the store. A store has one front for a namespace,
//! by a term that each write to the store carries ([`FrontStore`](terrace_tier::FrontStore)).
//!
//! The routes of the cache consult the front at five places: `write/put.rs`, `write/remove.rs`,
//! `write/expire.rs`, `read/lookup.rs` with its batch and level `Strong`, and `read/create.rs`. A cache without
//! write-behind compares one `Option` at each of them.

mod dead_letters;
mod file;
mod flush;
mod flusher;
mod index;
mod operate;
mod plan;
mod space;
mod term;
mod write;

pub use dead_letters::{DeadLetter, DeadLetters};
pub use file::FrontPlace;
pub use operate::BacklogStats;
pub use plan::{Backlog, BehindPlan, FullJitter, WhenFull};
pub(crate) use write::{FrontCondition, FrontOutcome, FrontWrite};

use std::{
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use terrace_tier::{
    Clock, Fence, Follower, Notice, Reply, Stored, TierKey, Token,
    defence::{Defence, enabled},
    runtime::BackgroundTask,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::Instant,
};

use crate::{
    Error, ErrorKind, Result,
    cache::Policies,
    chain::{Chain, Monitor, Warnings},
};
use file::FrontJournal;
use index::{DirtyIndex, Progress};
use term::FrontState;

/// The front of a cache with write-behind.
pub(crate) struct Behind {
    plan: BehindPlan,
    index: Mutex<DirtyIndex>,
    /// What keeps the dirty writes of a front in a file.
    journal: Option<FrontJournal>,
    /// The opening of the front. It is held across the calls of an opening, so that one runs at a time.
    opening: tokio::sync::Mutex<()>,
    state: Mutex<FrontState>,
    /// Something was written, settled or given up.
    changed: Notify,
    /// The flusher has something to do before the time for which it waits.
    wake: Arc<Notify>,
    flusher: BackgroundTask,
    /// The tiers through which the hold is prolonged.
    chain: Arc<Chain>,
    /// Writes beyond the cap that wait for their flush.
    synchronous: Semaphore,
    /// The callers that wait for flushes, which then do not wait for the delay.
    hurry: AtomicUsize,
    closing: AtomicBool,
    context: Context,
}

/// What the front takes from its cache.
pub(crate) struct Context {
    pub(crate) policies: Arc<Policies>,
    pub(crate) clock: Clock,
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) warnings: Warnings,
    /// The life of a tombstone in a cache tier.
    pub(crate) tombstone: Duration,
    /// The life of the tombstone of a removed record.
    pub(crate) removed: Duration,
    /// The near tier and the flights, which drop a key whose write gave way.
    pub(crate) near: OnceLock<Weak<dyn Follower>>,
}

impl Behind {
    /// The front of a cache whose tiers for a tenant `chain_of` gives. A front in a file gets back what the store
    /// did not have when its process ended.
    ///
    /// # Errors
    /// Those of the journal: [`ErrorKind::NamespaceInUse`] where another process has it,
    /// [`ErrorKind::Undecodable`] where acknowledged data is damaged.
    pub(crate) fn new(
        mut plan: BehindPlan,
        context: Context,
        chain_of: &dyn Fn(Option<&str>) -> Result<Arc<Chain>>,
    ) -> Result<Arc<Self>> {
        let place = std::mem::take(&mut plan.place);
        let mut index = DirtyIndex::default();
        let journal = place.open(&context.monitor.namespace, chain_of)?.map(|(journal, restored)| {
            index.raise(restored.high);
            for (write, dead) in restored.writes {
                let (digest, version) = (write.key.digest, write.version);
                index.restore(write, Instant::now());
                dead.map(|cause| index.bury(&digest, version, cause));
            }
            journal
        });
        Ok(Arc::new(Self {
            state: Mutex::new(FrontState::new(journal.as_ref().map(|journal| journal.id))),
            index: Mutex::new(index),
            journal,
            synchronous: Semaphore::new(plan.batch),
            plan,
            opening: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            wake: Arc::default(),
            chain: chain_of(None)?,
            flusher: BackgroundTask::default(),
            hurry: AtomicUsize::new(0),
            closing: AtomicBool::new(false),
            context,
        }))
    }

    pub(crate) fn attach(&self, near: Weak<dyn Follower>) {
        let _ = self.context.near.set(near);
    }

    /// What the front answers to a read of the key, as a store would: a record, or for a removed one a miss with
    /// the fence of a creation. `None` leaves the answer to the tiers.
    pub(crate) fn read(&self, key: &TierKey) -> Option<Reply> {
        let index = self.index.lock();
        let dirty = index.get(&key.digest)?;
        if let Progress::Dead(cause) = &dirty.progress
            && cause.kind() == ErrorKind::FrontLost
        {
            // Another front may have written the key since.
            return None;
        }
        let write = &dirty.write;
        if !enabled(Defence::DirtyFirst) {
            return None;
        }
        let is_over = write.deadlines.is_expired(self.context.clock.now());
        Some(match write.body.clone().filter(|_| !is_over) {
            Some(body) => Reply::Hit(Stored::new(write.version, write.deadlines, Some(body))),
            None => Reply::Miss(Fence { token: Token::NONE, version: write.version }),
        })
    }

    /// Drops the key from near, and detaches its flight.
    fn drop_near(&self, write: &index::DirtyWrite) {
        let (tenant, key) = (write.chain.tenant_name.clone(), write.key.bytes.clone());
        if let Some(near) = self.context.near.get().and_then(Weak::upgrade) {
            near.notice(&Notice::Key { tenant, key, version: None });
        }
    }

    fn check_open(&self) -> Result<()> {
        if self.closing.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the cache is being closed and takes no writes"));
        }
        Ok(())
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        let (keys, bytes) = (self.index.get_mut().keys(), self.index.get_mut().bytes());
        if keys > 0 && self.journal.is_none() {
            let (cache, tier) = (&*self.context.monitor.namespace, "write-behind");
            let cure = "call `close_within` before the cache is dropped";
            tracing::warn!(
                cache,
                tier,
                keys,
                bytes,
                cure,
                "a cache was dropped with writes that the store does not have"
            );
        }
    }
}

/// The store of a chain whose cache has write-behind.
fn store_of(chain: &Chain) -> Result<&crate::chain::TierSlot> {
    chain.store.as_ref().ok_or_else(|| Error::config("write-behind needs a store"))
}
