//! What the lookup and the load of a flight give.

use std::{sync::Arc, time::Duration};

use futures_util::future::{BoxFuture, Shared};

use super::fences::Fences;
use crate::{
    Entry, Error, Fence, Result, Source, Timestamp, Token,
    flight::{Flights, Ticket},
    near::TenantKey,
};

/// The flights of a cache.
pub(crate) type CacheFlights<K, V> = Flights<TenantKey<K>, SharedLookup<V>, Loaded<V>>;

/// A caller's place on a flight of this cache.
pub(crate) type CacheTicket<K, V> = Ticket<TenantKey<K>, SharedLookup<V>, Loaded<V>>;

/// A load's result, as every caller gets it.
pub(crate) type Loaded<V> = Result<(Arc<Entry<V>>, Source)>;

/// One key's lookup, which all readers of the key may await.
pub(crate) enum SharedLookup<V> {
    /// A lookup of its own.
    Alone(Shared<BoxFuture<'static, LookupOutcome<V>>>),
    /// Its part of a lookup for many keys.
    Grouped { group: Shared<BoxFuture<'static, Arc<[LookupOutcome<V>]>>>, index: usize },
}

/// What a lookup found for one key.
pub(crate) enum LookupOutcome<V> {
    /// An entry, negative ones included.
    Found(Arc<Entry<V>>, Source),
    /// Nothing fresh.
    Missed(Missed<V>),
    /// The store could not be asked, or its record not be read.
    Failed(Error, Option<Arc<Entry<V>>>),
}

/// What a lookup that found nothing brings to the load stage.
pub(crate) struct Missed<V> {
    /// What the cache tiers gave to fill over.
    pub(crate) fences: Fences,
    /// What was proposed for the leases: a fence with another token is of another one's lease.
    pub(crate) token: Token,
    /// The farthest tier was only read: led by a plain read, the lookup took no lease there.
    pub(crate) unleased: bool,
    /// From when on the proof of a copy has to be to answer: for the lookup; then, for who leads the load.
    pub(crate) oldest: Timestamp,
    /// Before the first tier was asked: so old is the proof that there is nothing.
    pub(crate) began: Timestamp,
    /// What the lookup spent of the farthest tier's budget.
    pub(crate) spent: Duration,
    /// A tier has an entry that this load is to replace.
    pub(crate) renews: bool,
    /// Whether all copies are to be replaced, fresh ones too.
    pub(crate) anew: bool,
    /// What the store showed.
    pub(crate) store: Option<Fence>,
    /// A stale entry met on the way.
    pub(crate) stale: Option<Arc<Entry<V>>>,
}

impl<V> LookupOutcome<V> {
    /// Whether no load can be of use any more.
    pub(crate) fn is_answer(&self) -> bool {
        !matches!(self, Self::Missed(_))
    }
}

impl<V> Clone for LookupOutcome<V> {
    fn clone(&self) -> Self {
        match self {
            Self::Found(entry, source) => Self::Found(Arc::clone(entry), *source),
            Self::Missed(missed) => Self::Missed(missed.clone()),
            Self::Failed(error, stale) => Self::Failed(error.clone(), stale.clone()),
        }
    }
}

impl<V> Clone for Missed<V> {
    fn clone(&self) -> Self {
        Self {
            fences: self.fences.clone(),
            token: self.token,
            unleased: self.unleased,
            oldest: self.oldest,
            began: self.began,
            spent: self.spent,
            renews: self.renews,
            anew: self.anew,
            store: self.store,
            stale: self.stale.clone(),
        }
    }
}

/// What the near tier has of a key that it could not answer for.
pub(super) type Seen<V> = Option<Arc<Entry<V>>>;
