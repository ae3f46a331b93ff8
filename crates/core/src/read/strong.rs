//! At level `Strong` the store alone answers a read, in a request that is sent after the call.
//!
//! A flight that began before the call proves nothing to the call. A caller that shared a load therefore
//! reads the store again.

use std::sync::Arc;

use terrace_tier::{
    Error, ErrorKind,
    defence::{Defence, enabled},
};

use super::{
    Answer, CacheTicket, LookupOutcome, Miss,
    join::SHARED_ROUNDS,
    load::MissedKey,
    lookup::{KeyLookup, LOOKUP_PANICKED, LookupPass, lookup_of},
    many::{BatchAnswers, repeated_keys},
    one::reentrant_error,
};
use crate::{
    Cache, Key, Many, Value,
    cache::{Inner, LoaderStart},
    chain::{Chain, FULL_BUDGET},
    flight::{Intent, JoinMode},
    freshness::{ReadBound, STORE_ONLY},
    near::{Near, TenantKey},
    overload::is_reentrant,
    panics::guarded,
};

/// The most rounds of reading and loading. From the third round on, a caller shares no flight. A further
/// round is needed only where a created record is removed before the caller could read it.
const ROUNDS: usize = 8;

/// Reads a key from the store. No tier keeps the record, so the request needs no fence.
async fn ask_store<K: Key, V: Value, N: Near<K, V>>(
    inner: &Arc<Inner<K, V, N>>,
    chain: &Arc<Chain>,
    key: &TenantKey<K>,
) -> LookupOutcome<V> {
    let Some(store) = &chain.store else { return LookupOutcome::Failed(no_store_error(), None) };
    let pass = LookupPass::new(inner, chain, Intent::Read, STORE_ONLY);
    let ask = async {
        let mut lookup = pass.begin(key, None);
        if lookup.found.is_none() && !pass.ask_front(&mut lookup) {
            let reply = store.call(FULL_BUDGET, &lookup.miss.key, pass.read_op(&lookup, true, None)).await;
            pass.take_record(store, &mut lookup, reply);
        }
        lookup.outcome()
    };
    let outcome = guarded(LOOKUP_PANICKED, ask).await;
    outcome.unwrap_or_else(|error| LookupOutcome::Failed(error, None))
}

/// Reads many keys from the store in one round trip. The outcomes are in the order of the keys.
async fn ask_store_many<K: Key, V: Value, N: Near<K, V>>(
    inner: &Arc<Inner<K, V, N>>,
    chain: &Arc<Chain>,
    keys: &[Arc<TenantKey<K>>],
) -> Vec<LookupOutcome<V>> {
    let failed = |error: Error| keys.iter().map(|_| LookupOutcome::Failed(error.clone(), None)).collect();
    let Some(store) = &chain.store else { return failed(no_store_error()) };
    let pass = LookupPass::new(inner, chain, Intent::Read, STORE_ONLY);
    let ask = async {
        let mut lookups: Vec<_> = keys.iter().map(|key| pass.begin(key, None)).collect();
        lookups.iter_mut().for_each(|lookup| _ = pass.ask_front(lookup));
        pass.ask_store_many(store, &mut lookups).await;
        lookups.into_iter().map(KeyLookup::outcome).collect()
    };
    guarded(LOOKUP_PANICKED, ask).await.unwrap_or_else(failed)
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// Reads one key from the store. With a loader, one load runs for all callers of an absent key.
    pub(super) async fn read_strong(&self, key: K, loader: Option<LoaderStart<'_, K, V>>) -> Answer<V> {
        let bound = self.begin_read(loader.is_some())?;
        let key = self.tenant_key(key);
        let Some(loader) = loader else { return self.read_record(&key, false).await };
        let (mut loader, mut shared) = (Some(loader), false);
        for round in 0..ROUNDS {
            match self.read_record(&key, shared).await {
                Ok(None) => {}
                answer => return answer,
            }
            let ticket = self.join(&key, Intent::Load, self.strong_join_mode(round), STORE_ONLY);
            let miss = match self.strong_miss(&ticket).await {
                Ok(miss) => miss,
                Err(Some(answer)) => return answer,
                Err(None) => continue,
            };
            let miss = MissedKey { index: 0, ticket, miss, ended: 0 };
            let late = match self.load_one(miss, &mut loader, bound).await {
                Ok(answer) => return answer,
                Err(late) => late,
            };
            if !enabled(Defence::ReadAgain) {
                return Ok(self.handle(late.entry, late.source, false));
            }
            shared = true;
            if late.entry.value().is_none() {
                // Another caller has asked the origin, which has no value, so the store decides.
                return self.read_record(&key, false).await;
            }
        }
        Err(unsettled_error())
    }

    async fn read_record(&self, key: &TenantKey<K>, coalesced: bool) -> Answer<V> {
        match ask_store(&self.inner, &self.chain, key).await {
            LookupOutcome::Found(entry, source) => Ok(self.handle(entry, source, coalesced)),
            LookupOutcome::Failed(error, _) => Err(error),
            LookupOutcome::Missed(_) => Ok(None),
        }
    }

    /// The join mode of a round at level `Strong`: a caller shares another caller's load, but never its
    /// lookup.
    fn strong_join_mode(&self, round: usize) -> JoinMode {
        match self.join_mode() {
            JoinMode::Join if round < SHARED_ROUNDS => JoinMode::JoinLoad,
            _ => JoinMode::Separate,
        }
    }

    /// The miss that the load stage needs, or the flight's answer to this caller. `Err(None)` means that
    /// the flight is of no use, since another caller began it before this call.
    async fn strong_miss(&self, ticket: &CacheTicket<K, V>) -> Result<Miss<V>, Option<Answer<V>>> {
        if ticket.joined() && is_reentrant(ticket.flight().id) {
            return Err(Some(Err(reentrant_error())));
        }
        let Some(outcome) = lookup_of(ticket).await else { return Err(None) };
        match outcome {
            LookupOutcome::Missed(miss) => Ok(Miss { oldest_proof: STORE_ONLY, ..miss }),
            _ if ticket.joined() => Err(None),
            LookupOutcome::Found(entry, source) => Err(Some(Ok(self.handle(entry, source, false)))),
            LookupOutcome::Failed(error, _) => Err(Some(Err(error))),
        }
    }

    /// Reads many keys from the store.
    pub(super) async fn read_many_strong(
        &self,
        keys: &[K],
        mut loader: Option<LoaderStart<'_, K, V>>,
        bound: ReadBound,
    ) -> Many<V> {
        let loads = loader.is_some();
        let (mut open, repeated) = repeated_keys(keys);
        let mut answers = BatchAnswers::new(keys.len());
        for round in 0..ROUNDS {
            let asked: Vec<_> = open.iter().map(|&index| self.tenant_key(keys[index].clone())).collect();
            let outcomes = ask_store_many(&self.inner, &self.chain, &asked).await;
            let mut absent = Vec::new();
            for (&index, outcome) in open.iter().zip(outcomes) {
                match outcome {
                    LookupOutcome::Found(entry, source) => {
                        answers.set(index, Ok(self.handle(entry, source, round > 0)));
                    }
                    LookupOutcome::Failed(error, _) => answers.set(index, Err(error)),
                    LookupOutcome::Missed(_) if !loads => answers.set(index, Ok(None)),
                    // Other callers created the record and removed it, and the one load of this call has
                    // already run.
                    LookupOutcome::Missed(_) if loader.is_none() => {
                        answers.set(index, Err(unsettled_error()));
                    }
                    LookupOutcome::Missed(_) => absent.push(index),
                }
            }
            if !absent.is_empty() {
                self.load_absent(keys, &absent, &mut loader, round, bound, &mut answers).await;
            }
            open = absent.into_iter().filter(|&index| answers.is_open(index)).collect();
            if open.is_empty() {
                break;
            }
        }
        open.into_iter().for_each(|index| answers.set(index, Err(unsettled_error())));
        answers.into_many(repeated)
    }

    /// Runs one load for the keys that no other caller is loading. A key whose load another caller leads
    /// stays open after that load has ended.
    async fn load_absent(
        &self,
        keys: &[K],
        absent: &[usize],
        loader: &mut Option<LoaderStart<'_, K, V>>,
        round: usize,
        bound: ReadBound,
        answers: &mut BatchAnswers<V>,
    ) {
        let wanted = absent.iter().map(|&index| self.tenant_key(keys[index].clone())).collect();
        let tickets = self.join_many(wanted, Intent::Load, self.strong_join_mode(round), STORE_ONLY);
        let mut misses = Vec::new();
        for (&index, ticket) in absent.iter().zip(tickets) {
            match self.strong_miss(&ticket).await {
                Ok(miss) => misses.push(MissedKey { index, ticket, miss, ended: 0 }),
                Err(Some(answer)) => answers.set(index, answer),
                Err(None) => {}
            }
        }
        let mut set = |index, answer| answers.set(index, answer);
        self.load(misses, Vec::new(), loader, bound, &mut set).await;
    }
}

fn no_store_error() -> Error {
    Error::new(ErrorKind::Unsupported, "the cache has no store")
}

fn unsettled_error() -> Error {
    let message =
        "other callers created the record and removed it during the read; the read may be tried again";
    Error::new(ErrorKind::Busy, message)
}
