//! A lookup asks the remote tiers from near to far, and keeps the value that it found in the nearer
//! tiers.

use std::{
    num::NonZero,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use terrace_tier::{
    Fence, Op, Reply, Stored, Timestamp, Token, Version,
    runtime::{current_runtime, current_runtime_id},
};
use tokio::time::{Instant, timeout};

use super::{
    CacheTicket, Fences, HitVerdict, LoadResult, LookupOutcome, Miss, NothingAsked, SharedLookup,
    fill::TierCopy,
};
use crate::{
    Error, ErrorKind, Event, Key, Result, Source, Value,
    cache::{Inner, NEAR, UNUSED_KEY},
    chain::{Chain, FULL_BUDGET, TierSlot},
    flight::{FlightId, Intent},
    near::{Near, TenantKey},
    panics::guarded,
};

/// The key and the id of a flight whose lookup runs.
pub(super) struct FlightKey<K> {
    pub(super) key: Arc<TenantKey<K>>,
    pub(super) id: FlightId,
    /// The token of a lease whose holder has gone, and that this lookup replaces. [`Token::NONE`]
    /// replaces no lease.
    pub(super) replaces: Token,
}

/// One pass through the remote tiers, for one key or for many at once.
pub(super) struct LookupPass<'a, K, V, N> {
    pub(super) inner: &'a Arc<Inner<K, V, N>>,
    pub(super) chain: &'a Arc<Chain>,
    pub(super) intent: Intent,
    /// The oldest proof that the lookup accepts from a copy.
    pub(super) oldest_proof: Timestamp,
}

/// The state of one key's lookup while it asks the tiers.
pub(super) struct KeyLookup<'f, K, V> {
    /// The flight of the lookup, or `None` for a lookup without a flight.
    flight: Option<&'f FlightKey<K>>,
    pub(super) miss: Miss<V>,
    /// The entry that a tier gave, or the error of the key's encoding or of the store.
    pub(super) found: Option<LoadResult<V>>,
    /// The value for the nearer tiers, which missed.
    pub(super) copy: Option<Stored>,
}

/// How long a caller waits for a lookup that began in another runtime, which may have stopped.
const OTHER_RUNTIMES_LOOKUP: Duration = Duration::from_secs(1);

/// Waits for the outcome of a flight's lookup. `None` says that the lookup has ended with a runtime, or that
/// another runtime has stopped: the flight has been detached, and the caller looks up again.
pub(super) async fn lookup_of<K: Key, V: Value>(ticket: &CacheTicket<K, V>) -> Option<LookupOutcome<V>> {
    let lookup = &ticket.flight().lookup;
    if ticket.joined() && lookup.runtime != current_runtime_id() && current_runtime().is_ok() {
        lookup.is_spread.store(true, Ordering::Release);
        // Boxed, so that the other callers do not pay for the timer's stack size.
        let shared = Box::pin(timeout(OTHER_RUNTIMES_LOOKUP, shared_lookup_of(ticket)));
        if let Ok(outcome @ (LookupOutcome::Found(..) | LookupOutcome::Missed(_))) = shared.await {
            return Some(outcome);
        }
    } else {
        match shared_lookup_of(ticket).await {
            LookupOutcome::Failed(..) if lookup.is_spread.load(Ordering::Acquire) => {}
            outcome => return Some(outcome),
        }
    }
    ticket.detach();
    None
}

async fn shared_lookup_of<K: Key, V: Value>(ticket: &CacheTicket<K, V>) -> LookupOutcome<V> {
    let (group, index) = match &ticket.flight().lookup.lookup {
        SharedLookup::Single(lookup) => return lookup.clone().await,
        SharedLookup::Grouped { group, index } => (group.clone(), *index),
        SharedLookup::Nowhere(asked) => return LookupOutcome::Missed(Miss::of_no_tier(*asked)),
    };
    match group.await.get(index) {
        Some(outcome) => outcome.clone(),
        None => LookupOutcome::Failed(Error::new(ErrorKind::Backend, "the lookup lost a key"), None),
    }
}

/// Looks up a flight's key. All callers of a flight share its lookup.
pub(super) async fn look_up<K: Key, V: Value, N: Near<K, V>>(
    inner: Arc<Inner<K, V, N>>,
    chain: Arc<Chain>,
    flight: FlightKey<K>,
    intent: Intent,
    oldest_proof: Timestamp,
) -> LookupOutcome<V> {
    let pass = LookupPass::new(&inner, &chain, intent, oldest_proof);
    pass.look_up(&flight.key, Some(&flight)).await
}

impl<'a, K: Key, V: Value, N: Near<K, V>> LookupPass<'a, K, V, N> {
    pub(super) fn new(
        inner: &'a Arc<Inner<K, V, N>>,
        chain: &'a Arc<Chain>,
        intent: Intent,
        oldest_proof: Timestamp,
    ) -> Self {
        Self { inner, chain, intent, oldest_proof }
    }

    /// The lookup in a cache that has only a near tier. Its flight stays in the load stage.
    pub(super) fn ask_nobody(&self, key: &TenantKey<K>) -> NothingAsked {
        NothingAsked {
            oldest_proof: self.oldest_proof,
            began: self.inner.clock.now(),
            refreshes: self.intent == Intent::Refresh,
            is_pausing: self.keeps_pauses() && !self.inner.back_off.may_try(key),
        }
    }

    /// Looks up one key, keeps the value in the nearer tiers, and ends the lookup stage of the key's
    /// flight. A panic of the lookup becomes an outcome, too, so that the flight's callers do not wait
    /// for ever.
    pub(super) async fn look_up(
        &self,
        key: &TenantKey<K>,
        flight: Option<&FlightKey<K>>,
    ) -> LookupOutcome<V> {
        match guarded(LOOKUP_PANICKED, self.ask_tiers(key, flight)).await {
            Ok(outcome) => outcome,
            Err(error) => {
                if let Some(flight) = flight {
                    self.inner.flights.end_lookup(key, flight.id, true, || ());
                }
                LookupOutcome::Failed(error, None)
            }
        }
    }

    /// The steps of a lookup of one key. Most lookups have one key, and a hit allocates nothing here.
    async fn ask_tiers(&self, key: &TenantKey<K>, flight: Option<&FlightKey<K>>) -> LookupOutcome<V> {
        let mut lookup = self.begin(key, flight);
        if self.ask_front(&mut lookup) {
            let (outcome, _) = self.end(key, lookup);
            return outcome;
        }
        for (index, slot) in self.chain.tiers.iter().enumerate() {
            if lookup.found.is_none() && slot.permits_read(&lookup.miss.key) {
                self.ask_tier(index, slot, &mut lookup).await;
            }
        }
        self.take_try(key, &mut lookup);
        if let (Some(store), None) = (&self.chain.store, &lookup.found) {
            let op = self.read_op(&lookup, true, None);
            let reply = store.call(FULL_BUDGET, &lookup.miss.key, op).await;
            self.take_record(store, &mut lookup, reply);
        }
        let (outcome, copy) = self.end(key, lookup);
        self.inner.fill_later(self.chain, copy.into_iter().collect());
        outcome
    }

    /// Asks the front of a cache with write-behind. The result says whether it has answered: then no tier is asked,
    /// since the copies and the record are older.
    pub(super) fn ask_front(&self, lookup: &mut KeyLookup<'_, K, V>) -> bool {
        let (Some(behind), Some(store)) = (&self.inner.behind, &self.chain.store) else { return false };
        if lookup.found.is_some() {
            return false;
        }
        let Some(reply) = behind.read(&lookup.miss.key) else { return false };
        self.take_record(store, lookup, Ok(reply));
        true
    }

    async fn ask_tier(&self, index: usize, slot: &TierSlot, lookup: &mut KeyLookup<'_, K, V>) {
        let began = Instant::now();
        let op = self.read_op(lookup, self.takes_lease(index), None);
        let reply = slot.call(FULL_BUDGET, &lookup.miss.key, op).await;
        let replaced = self.take_reply(index, slot, lookup, reply);
        if lookup.found.is_some() {
            return;
        }
        lookup.miss.spent = began.elapsed();
        if let Some(replaced) = replaced {
            let lease = self.read_op(lookup, true, Some(replaced));
            // This call is boxed, so that lookups which replace nothing do not pay for its stack size.
            let reply = Box::pin(slot.call(lookup.miss.spent, &lookup.miss.key, lease)).await;
            lookup.take_lease(index, reply);
        }
    }

    pub(super) fn begin<'f>(
        &self,
        tenant_key: &TenantKey<K>,
        flight: Option<&'f FlightKey<K>>,
    ) -> KeyLookup<'f, K, V> {
        let (key, found) = match self.inner.tier_key(self.chain, tenant_key) {
            Ok(key) => (key, None),
            Err(error) => (UNUSED_KEY, Some(Err(error))),
        };
        let miss = Miss {
            key,
            fences: Fences::default(),
            token: self.inner.new_token(self.intent.loads()),
            unleased: false,
            oldest_proof: self.oldest_proof,
            began: self.inner.clock.now(),
            spent: Duration::ZERO,
            renews: false,
            shares: false,
            refreshes: self.intent == Intent::Refresh,
            store: None,
            stale: None,
            stale_bytes: None,
            is_pausing: self.keeps_pauses() && self.inner.back_off.is_pausing(tenant_key),
        };
        KeyLookup { flight, miss, found, copy: None }
    }

    /// Whether the back-off of a key concerns this lookup. A lookup that cannot renew a value leaves the
    /// try to others, a renewal has taken it before, and a refresh needs no permission.
    fn keeps_pauses(&self) -> bool {
        !self.intent.renews() && self.renews_stale()
    }

    /// Takes the try that is due, for a lookup that no cache tier has answered. What follows, a call of the
    /// store or a load, is that try.
    pub(super) fn take_try(&self, key: &TenantKey<K>, lookup: &mut KeyLookup<'_, K, V>) {
        if lookup.found.is_none() && self.keeps_pauses() {
            lookup.miss.is_pausing = !self.inner.back_off.may_try(key);
        }
    }

    /// Whether this read can renew a stale value.
    pub(super) fn renews_stale(&self) -> bool {
        self.intent.loads() || self.chain.store.is_some() || self.inner.loader.is_some()
    }

    /// Whether a fill of this tier may follow a miss in the tier. `index` is the tier's index in the
    /// chain.
    fn fills(&self, index: usize) -> bool {
        index + 1 < self.chain.tiers.len() || self.chain.store.is_some() || self.intent.loads()
    }

    /// Whether a lookup asks the tier at this index for a lease.
    pub(super) fn takes_lease(&self, index: usize) -> bool {
        let waits = self.intent.loads() && self.inner.policies.coalesce.waits();
        self.inner.fencing.takes_lease(self.fills(index), waits)
    }

    /// The request to a tier, for a value or for a lease where the tier has none. `replaced` is the
    /// version of an entry whose key may get a lease nevertheless.
    pub(super) fn read_op(
        &self,
        lookup: &KeyLookup<'_, K, V>,
        leases: bool,
        replaced: Option<Version>,
    ) -> Op {
        if !leases {
            return Op::Get;
        }
        let replaces = lookup.flight.map_or(Token::NONE, |flight| flight.replaces);
        Op::Lease { token: lookup.miss.token, ttl: self.inner.periods.lease, over: replaced, replaces }
    }

    /// Takes the reply of a cache tier. Returns the version of an entry that does not answer, if the
    /// lookup may take a lease of the key in spite of that entry.
    pub(super) fn take_reply(
        &self,
        index: usize,
        slot: &TierSlot,
        lookup: &mut KeyLookup<'_, K, V>,
        reply: Result<Reply>,
    ) -> Option<Version> {
        let tier = slot.shared.name;
        let has_answered = reply.is_ok();
        let verdict = match reply {
            Ok(Reply::Hit(stored)) => {
                let verdict = self.judge_hit(slot, lookup, &stored);
                lookup.copy = matches!(verdict, HitVerdict::Answer(_)).then_some(stored);
                verdict
            }
            Ok(Reply::Miss(fence)) => {
                let fence = self.inner.fencing.permit(fence);
                lookup.miss.unleased = fence.is_none();
                lookup.miss.fences.set(index, fence);
                HitVerdict::Miss
            }
            Ok(_) | Err(_) => HitVerdict::Miss,
        };
        if let HitVerdict::Answer(entry) = verdict {
            slot.shared.tell(&Event::Hit { tier });
            lookup.found = Some(Ok((entry, Source::Tier(tier))));
            return None;
        }
        if has_answered {
            slot.shared.tell(&Event::Miss { tier });
        }
        let HitVerdict::Replace(version) = verdict else { return None };
        lookup.miss.renews = true;
        if !self.inner.fencing.has_leases() {
            lookup.miss.fences.set(index, Some(Fence::default()));
        } else if self.fills(index) {
            return Some(version);
        } else {
            lookup.miss.unleased = true;
        }
        None
    }

    /// Keeps the found value in the near tier, and ends the lookup stage of the key's flight. The result
    /// also has the copy for the tiers that missed.
    pub(super) fn end(
        &self,
        key: &TenantKey<K>,
        mut lookup: KeyLookup<'_, K, V>,
    ) -> (LookupOutcome<V>, Option<TierCopy>) {
        let stale_bytes = lookup.miss.stale_bytes.map(NonZero::get);
        let size = lookup.copy.as_ref().and_then(|copy| copy.body.as_ref()).map(Bytes::len);
        let copy = self.copy_for_nearer(&mut lookup);
        let flight = lookup.flight;
        let outcome = lookup.outcome();
        let inner = self.inner;
        match &outcome {
            LookupOutcome::Found(entry, _) if entry.is_fresh(inner.clock.now()) => {
                inner.back_off.succeeded(key)
            }
            LookupOutcome::Failed(_, Some(_)) => inner.back_off.failed(key),
            _ => {}
        }
        let Some(flight) = flight else { return (outcome, copy) };
        let admitted = inner.near.is_enabled()
            && match &outcome {
                LookupOutcome::Found(..) => inner.admits(NEAR, size),
                LookupOutcome::Failed(_, stale) => stale.is_some() && inner.admits(NEAR, stale_bytes),
                LookupOutcome::Missed(_) => false,
            };
        let is_answer = !matches!(outcome, LookupOutcome::Missed(_));
        let kept = inner.flights.end_lookup(&flight.key, flight.id, is_answer, || {
            if let LookupOutcome::Found(entry, _) = &outcome {
                return inner.keep_near(&flight.key, entry, admitted, entry.proven_at());
            }
            if let LookupOutcome::Failed(_, Some(stale)) = &outcome
                && admitted
                && inner.serves_on_error(&stale.entry.deadlines())
            {
                return inner.keep_stale(&flight.key, &stale.entry);
            }
            // The store has no record of the key any more, so the near tier must not keep its copy.
            if !is_answer && self.chain.store.is_some() {
                inner.drop_near(&flight.key);
            }
            false
        });
        inner.tell_kept(kept.unwrap_or_default());
        (outcome, copy)
    }

    /// The copy for the tiers that missed: the value of a farther tier, or a negative entry where the
    /// store has no record.
    fn copy_for_nearer(&self, lookup: &mut KeyLookup<'_, K, V>) -> Option<TierCopy> {
        let is_found = matches!(lookup.found, Some(Ok(_)));
        if self.intent == Intent::Refresh && is_found {
            lookup.miss.fences.owe_others(self.chain, &lookup.miss.key);
        }
        let stored = match &lookup.found {
            Some(_) if is_found && lookup.miss.fences.any() => lookup.copy.take()?,
            // A load that follows the lookup needs the leases, and replaces the tiers' entries itself.
            None if matches!(self.intent, Intent::Read | Intent::Revalidate) => self.no_record(lookup)?,
            _ => return None,
        };
        let (key, fences) = (lookup.miss.key.clone(), lookup.miss.fences.clone());
        let renews = lookup.miss.renews;
        let mut copy = TierCopy { key, fences, renews, shares: false, lease: None, stored, unfenced: None };
        let may_begin = |flight: &FlightKey<K>| self.inner.begin_fill(&flight.key, flight.id, &mut copy);
        lookup.flight.is_none_or(may_begin).then_some(copy)
    }

    /// The negative entry of a plain read that found no record, if the expiry policy gives the entry a
    /// life.
    fn no_record(&self, lookup: &KeyLookup<'_, K, V>) -> Option<Stored> {
        self.chain.store.as_ref()?;
        let observed = lookup.miss.store?;
        let deadlines = self.inner.deadlines(true, None);
        let deadlines = deadlines.or_else(|| lookup.miss.renews.then(|| self.inner.no_life()))?;
        Some(Stored::new(observed.version, deadlines, None))
    }
}

impl<K, V> KeyLookup<'_, K, V> {
    /// Whether nobody has answered: neither a tier, nor the store or the front that there is no record.
    pub(super) fn is_open(&self) -> bool {
        self.found.is_none() && self.miss.store.is_none()
    }

    /// The outcome of the lookup, once no tier is left to ask.
    pub(super) fn outcome(self) -> LookupOutcome<V> {
        match self.found {
            Some(Ok((entry, source))) => LookupOutcome::Found(entry, source),
            Some(Err(error)) => LookupOutcome::Failed(error, self.miss.stale),
            None => LookupOutcome::Missed(self.miss),
        }
    }

    /// Takes the lease of a key whose entry did not answer, if the tier gave the lease.
    pub(super) fn take_lease(&mut self, index: usize, reply: Result<Reply>) {
        if let Ok(Reply::Miss(fence)) = reply {
            self.miss.fences.set(index, Some(fence));
        }
    }
}

pub(super) const LOOKUP_PANICKED: &str = "a codec, policy, observer or tier panicked during the lookup";

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::{Cache, NoNear, flight::JoinMode, freshness::ANY_AGE};

    /// glibc keeps freed blocks of up to this many bytes in a cache of each thread.
    const THREAD_CACHED_BYTES: usize = 1032;

    #[tokio::test]
    async fn the_futures_of_reads_stay_small() {
        let cache: Cache<String, String, NoNear> = Cache::builder("sizes").build().unwrap();
        let key = cache.tenant_key("k".to_owned());
        let mut bytes = 0;
        cache.inner.flights.join(&key, Intent::Load, JoinMode::Join, |id| {
            let flight = FlightKey { key: Arc::clone(&key), id, replaces: Token::NONE };
            let (inner, chain) = (Arc::clone(&cache.inner), Arc::clone(&cache.chain));
            let lookup = look_up(inner, chain, flight, Intent::Load, ANY_AGE);
            bytes = size_of_val(&lookup);
            crate::read::FlightLookup::new(SharedLookup::Single(lookup.boxed().shared()))
        });
        assert!((1..=THREAD_CACHED_BYTES).contains(&bytes), "{bytes} bytes");
        let bytes = size_of_val(&*cache.read_one("k".to_owned(), None, None));
        assert!(bytes <= THREAD_CACHED_BYTES, "{bytes} bytes past the flights");
    }
}
