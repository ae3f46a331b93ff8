//! The read route serves reads that the near tier could not answer. This file is the place to start
//! reading its code.
//!
//! A read of one key goes through the files of this folder in this order:
//!
//! 1. [`one`]: the read joins the flight of its key ([`join`]), or begins a flight.
//! 2. [`lookup`]: the flight's lookup asks each tier, near to far. [`reply`] judges the replies of the
//!    tiers.
//! 3. [`outcome`]: one function decides what the lookup's outcome means for a caller: an answer, another
//!    lookup, or a load.
//! 4. [`load`]: one caller leads the load, and the other callers of the flight follow it. [`run`] runs
//!    the load in a task of its own. Before the loader starts, [`wait`] waits for a load of another
//!    process.
//! 5. [`accept`]: the loaded value becomes an entry, or in a cache with a store a record ([`create`]).
//! 6. [`fill`]: copies go into the tiers that missed, far to near. Before that, `fill/share.rs` adds
//!    what other versions of the program keep for the key.
//!
//! [`many`] and [`lookup_many`] take the same steps for batches, with one round trip to each tier.
//! [`strong`] reads at level `Strong`, past all copies. This file holds the types that the steps pass to
//! each other.

mod accept;
mod create;
mod fill;
mod join;
mod load;
mod lookup;
mod lookup_many;
mod many;
mod one;
mod outcome;
mod reply;
mod run;
mod strong;
mod wait;

use std::{
    fmt,
    num::NonZero,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use futures_util::future::{BoxFuture, Shared};
use terrace_tier::{Fence, TierKey, Timestamp, Token, Version, runtime::current_runtime_id};
use tokio::runtime::Id;

use fill::TierLease;

use crate::{
    Cached, Error, Key, Result, Source,
    cache::UNUSED_KEY,
    chain::Chain,
    flight::{Flights, LeaderGuard, Ticket},
    near::{Entry, TenantKey},
};

/// The flights of a cache.
pub(crate) type CacheFlights<K, V> = Flights<TenantKey<K>, FlightLookup<V>, LoadResult<V>>;

/// A caller's ticket for a flight of this cache.
pub(crate) type CacheTicket<K, V> = Ticket<TenantKey<K>, FlightLookup<V>, LoadResult<V>>;

/// A load's result, as every caller gets it.
pub(crate) type LoadResult<V> = Result<(Arc<Entry<V>>, Source)>;

/// A caller's answer for one key.
pub(crate) type Answer<V> = Result<Option<Cached<V>>>;

/// The entry of the near tier that cannot answer a read, if the tier holds one for the key.
pub(crate) type NearMiss<V> = Option<Arc<Entry<V>>>;

/// A stale entry, and the part of the cache that holds it.
pub(crate) struct StaleCopy<V> {
    pub(crate) entry: Arc<Entry<V>>,
    pub(crate) from: Source,
}

impl<V> StaleCopy<V> {
    /// The copy, or `None` for a negative entry, which is never served as stale.
    pub(super) fn of(entry: Arc<Entry<V>>, from: Source) -> Option<Self> {
        entry.value().is_some().then_some(Self { entry, from })
    }
}

impl<V> Clone for StaleCopy<V> {
    fn clone(&self) -> Self {
        Self { entry: Arc::clone(&self.entry), from: self.from }
    }
}

impl<V> fmt::Debug for StaleCopy<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StaleCopy").field("from", &self.from).finish_non_exhaustive()
    }
}

/// The lookup of a flight, and where it runs: its readers poll it, each in the runtime of its call.
pub(crate) struct FlightLookup<V> {
    pub(crate) lookup: SharedLookup<V>,
    /// The runtime of the caller that began the flight.
    pub(crate) runtime: Option<Id>,
    /// Whether callers of several runtimes poll the lookup. It then ends early when one of these ends.
    pub(crate) is_spread: AtomicBool,
}

/// One key's lookup, which all readers of the key may await.
pub(crate) enum SharedLookup<V> {
    /// A lookup of this key alone.
    Single(Shared<BoxFuture<'static, LookupOutcome<V>>>),
    /// This key's part of a lookup for many keys.
    Grouped { group: Shared<BoxFuture<'static, Arc<[LookupOutcome<V>]>>>, index: usize },
    /// A lookup in a cache that has only a near tier: there is nobody to ask.
    Nowhere(NothingAsked),
}

/// What the load stage needs to know of a lookup in a cache that has only a near tier.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NothingAsked {
    pub(crate) oldest_proof: Timestamp,
    pub(crate) began: Timestamp,
    pub(crate) refreshes: bool,
    pub(crate) is_pausing: bool,
}

/// What a lookup found for one key.
pub(crate) enum LookupOutcome<V> {
    /// The lookup found an entry, which may be negative.
    Found(Arc<Entry<V>>, Source),
    /// No tier has a fresh entry.
    Missed(Miss<V>),
    /// The store did not answer, or its record could not be read. The second field is a stale entry, if
    /// the lookup found one.
    Failed(Error, Option<StaleCopy<V>>),
}

/// What a lookup that found nothing hands to the load stage.
#[derive(Debug)]
pub(crate) struct Miss<V> {
    /// The key, as the tiers know it.
    pub(crate) key: TierKey,
    /// The fences that the cache tiers gave.
    pub(crate) fences: Fences,
    /// The token that the lookup proposed. A fence with another token belongs to another load.
    pub(crate) token: Token,
    /// Whether the lookup took no lease in the farthest cache tier, since a plain read began the lookup.
    pub(crate) unleased: bool,
    /// The oldest proof that the lookup accepted. In the load stage, the oldest proof that the leader
    /// accepts.
    pub(crate) oldest_proof: Timestamp,
    /// The time before the first request to a tier. The proof that no tier has a value dates from this
    /// moment.
    pub(crate) began: Timestamp,
    /// The time that the lookup spent of the farthest cache tier's budget.
    pub(crate) spent: Duration,
    /// Whether a tier has an entry that the load is to replace.
    pub(crate) renews: bool,
    /// Whether a tier has an entry of another value type, which the load is to leave in its cell.
    pub(crate) shares: bool,
    /// Whether a `refresh` began the flight. The load of a refresh asks the origin itself and replaces
    /// fresh copies, too.
    pub(crate) refreshes: bool,
    /// The fence that the store gave, in a cache with a store.
    pub(crate) store: Option<Fence>,
    /// A stale entry that the lookup met.
    pub(crate) stale: Option<StaleCopy<V>>,
    /// The length of that entry's envelope, if the entry came from a tier.
    pub(crate) stale_bytes: Option<NonZero<usize>>,
    /// Whether the key's last try failed, and its next one is still to be waited for.
    pub(crate) is_pausing: bool,
}

/// What a tier's hit means for a lookup.
pub(crate) enum HitVerdict<V> {
    /// The hit answers the lookup.
    Answer(Arc<Entry<V>>),
    /// The hit does not answer the lookup. A load that replaces the entry takes a lease in spite of the
    /// entry of this version.
    Replace(Version),
    /// The hit counts as a miss. If a newer version of the program wrote the entry, this process must
    /// not replace it.
    Miss,
}

/// One key of a load that this caller leads.
pub(crate) struct PendingLoad<K: Key, V> {
    pub(crate) index: usize,
    /// The lease that other processes wait for. The field stands before the leader's guard, so a drop
    /// gives the lease back before the guard reports a panic to the followers.
    pub(crate) lease: Option<TierLease>,
    pub(crate) ticket: CacheTicket<K, V>,
    pub(crate) leader: LeaderGuard<LoadResult<V>>,
    pub(crate) miss: Miss<V>,
    /// The time before the loader was started.
    pub(crate) began: Timestamp,
}

/// The fences that the cache tiers gave to one lookup, by the index of the tier in the chain. The first
/// fence allocates the memory, so a lookup that hits the first tier allocates nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fences(Vec<Option<Fence>>);

impl Fences {
    /// The fence of the tier at this index, or `None` where the tier gave no fence.
    pub(crate) fn get(&self, index: usize) -> Option<Fence> {
        self.0.get(index).copied().flatten()
    }

    pub(crate) fn set(&mut self, index: usize, fence: Option<Fence>) {
        if self.0.len() <= index {
            self.0.resize(index + 1, None);
        }
        self.0[index] = fence;
    }

    /// Whether any tier may be filled.
    pub(crate) fn any(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }

    /// Adds a debt for the key to each cache tier that gave no fence, because no fill can replace the
    /// tier's copy.
    pub(crate) fn owe_others(&self, chain: &Chain, key: &TierKey) {
        let slots = chain.tiers.iter().enumerate().filter(|&(index, _)| self.get(index).is_none());
        slots.for_each(|(_, slot)| slot.owe(key));
    }
}

impl<V> FlightLookup<V> {
    pub(crate) fn new(lookup: SharedLookup<V>) -> Self {
        Self { lookup, runtime: current_runtime_id(), is_spread: AtomicBool::new(false) }
    }
}

impl<V> Miss<V> {
    /// The miss of a lookup in a cache that has only a near tier.
    pub(super) fn of_no_tier(asked: NothingAsked) -> Self {
        let NothingAsked { oldest_proof, began, refreshes, is_pausing } = asked;
        Self {
            key: UNUSED_KEY,
            fences: Fences::default(),
            token: Token::NONE,
            unleased: false,
            oldest_proof,
            began,
            spent: Duration::ZERO,
            renews: false,
            shares: false,
            refreshes,
            store: None,
            stale: None,
            stale_bytes: None,
            is_pausing,
        }
    }
}

impl<V> Clone for LookupOutcome<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Found(entry, source) => Self::Found(Arc::clone(entry), *source),
            Self::Missed(miss) => Self::Missed(miss.clone()),
            Self::Failed(error, stale) => Self::Failed(error.clone(), stale.clone()),
        }
    }
}

impl<V> Clone for Miss<V> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), fences: self.fences.clone(), stale: self.stale.clone(), ..*self }
    }
}
