//! A read of many keys makes one round trip to each tier for the keys that the near tier cannot answer.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt, stream};
use terrace_tier::{Error, ErrorKind};
use tokio::time::Instant;

use super::{
    Answer, CacheTicket, StaleCopy,
    load::{LateKey, MissedKey},
    lookup::{LookupPass, lookup_of},
    outcome::{Caller, StaleEntry, Verdict},
};
use crate::{
    Cache, Key, Many, Value,
    cache::{Distinct, LoaderStart, Occurrence},
    flight::{Intent, JoinMode},
    freshness::{ReadBound, ReadMode},
    near::{Near, TenantKey, TenantKeyRef},
    panics::{caught, loader_panicked_error},
    recorder::RecordedOp,
};

/// How many runs of a bound loader one batch has at a time.
const LOADS_AT_ONCE: usize = 32;

/// A key of a batch that the near tier cannot answer.
struct OpenKey<V> {
    index: usize,
    /// The stale entry that the near tier holds.
    stale: Option<StaleCopy<V>>,
}

/// A key that stands in a batch more than once: the index of a repetition, and the index of its first
/// appearance.
pub(super) struct RepeatedKey {
    index: usize,
    first: usize,
}

/// The answers that a batch has so far.
pub(super) struct BatchAnswers<V> {
    by_index: Vec<Option<Answer<V>>>,
    /// The indices of keys whose stale entries were served and are to be refreshed.
    refreshed: Vec<usize>,
}

impl<V> BatchAnswers<V> {
    pub(super) fn new(keys: usize) -> Self {
        Self { by_index: (0..keys).map(|_| None).collect(), refreshed: Vec::new() }
    }

    pub(super) fn set(&mut self, index: usize, answer: Answer<V>) {
        self.by_index[index] = Some(answer);
    }

    pub(super) fn is_open(&self, index: usize) -> bool {
        self.by_index[index].is_none()
    }

    /// The caller's answers. A repeated key gets the answer of its first appearance.
    pub(super) fn into_many(mut self, repeated: Vec<RepeatedKey>) -> Many<V> {
        for RepeatedKey { index, first } in repeated {
            self.by_index[index] = self.by_index[first].clone();
        }
        Many(self.by_index.into_iter().map(|answer| answer.unwrap_or(Ok(None))).collect())
    }
}

/// The indices of the distinct keys of a batch, and the repeated keys.
pub(super) fn repeated_keys<K: Key>(keys: &[K]) -> (Vec<usize>, Vec<RepeatedKey>) {
    let (mut firsts, mut repeated, mut distinct) = (Vec::new(), Vec::new(), Distinct::new());
    for (index, key) in keys.iter().enumerate() {
        match distinct.add(key) {
            Occurrence::First(_) => firsts.push(index),
            Occurrence::Repeated(number) => repeated.push(RepeatedKey { index, first: firsts[number] }),
        }
    }
    (firsts, repeated)
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// Reads many keys, and gives one answer for each key, in order. A loader that is bound to the cache
    /// loads 32 keys at a time.
    pub(crate) async fn read_many(&self, keys: &[K], loader: Option<LoaderStart<'_, K, V>>) -> Many<V> {
        let loader = loader.or_else(|| self.bound_loader_of_many());
        let bound = match self.begin_read(loader.is_some()) {
            Ok(bound) => bound,
            Err(error) => return Many(keys.iter().map(|_| Err(error.clone())).collect()),
        };
        if self.mode == ReadMode::StoreOnly {
            keys.iter().for_each(|key| self.inner.note_request(RecordedOp::Get, self.chain.tenant, key));
            let answers = self.read_many_strong(keys, loader, bound).await;
            self.count_classes(keys, &[], &answers);
            return answers;
        }
        let mut batch = Batch::new(self, keys, loader, bound);
        let (open, repeated) = batch.ask_near();
        let misses = match batch.intent.loads() {
            // Where nobody else can be asked, the open keys have no value.
            false if self.chain.is_local() => Vec::new(),
            false if self.flies_past() => {
                batch.look_up_past_flights(open).await;
                Vec::new()
            }
            _ => batch.look_up(open).await,
        };
        batch.load(misses).await;
        let near_hits = batch.near_hits;
        let answers = batch.answers.into_many(repeated);
        self.count_classes(keys, &near_hits, &answers);
        answers
    }

    /// Counts the answers by class. Near hits, whose indices are given in order, have counted before.
    fn count_classes(&self, keys: &[K], near_hits: &[usize], answers: &Many<V>) {
        let Some(classes) = &self.inner.classes else { return };
        for (index, (key, answer)) in keys.iter().zip(answers.iter()).enumerate() {
            if near_hits.binary_search(&index).is_err() {
                classes.count(classes.of(key), answer);
            }
        }
    }

    fn bound_loader_of_many<'a>(&self) -> Option<LoaderStart<'a, K, V>> {
        let loader = self.inner.loader.clone()?;
        Some(Box::new(move |request| {
            let load = |(_, key): (usize, K)| {
                let loader = Arc::clone(&loader);
                // The panic of a loader fails only the key that it loads.
                let load = caught(async move { loader(key).await });
                load.map(|loaded| loaded.unwrap_or_else(|panic| Err(loader_panicked_error(&panic))).map(Some))
            };
            stream::iter(request.keys.map(load).collect::<Vec<_>>()).buffered(LOADS_AT_ONCE).collect().boxed()
        }))
    }

    /// Joins a flight for each key that is to be renewed, that has no flight under way, and whose last try
    /// did not fail just now. Without a loader only a store can give a newer entry.
    pub(super) fn join_renewals(
        &self,
        keys: Vec<(usize, Arc<TenantKey<K>>)>,
        has_loader: bool,
    ) -> Vec<(usize, CacheTicket<K, V>)> {
        if !has_loader && self.chain.store.is_none() {
            return Vec::new();
        }
        let is_due = |(_, key): &(usize, Arc<TenantKey<K>>)| {
            !self.inner.flights.is_active(key) && self.inner.back_off.may_try(&**key)
        };
        let (indices, keys): (Vec<_>, Vec<_>) = keys.into_iter().filter(is_due).unzip();
        let tickets = self.join_many(keys, Intent::Revalidate, self.join_mode(), self.oldest_proof());
        indices.into_iter().zip(tickets).collect()
    }
}

/// The state of a read of many keys.
struct Batch<'a, K, V, N> {
    cache: &'a Cache<K, V, N>,
    keys: &'a [K],
    loader: Option<LoaderStart<'a, K, V>>,
    intent: Intent,
    bound: ReadBound,
    answers: BatchAnswers<V>,
    /// The indices of near hits, in order, where the cache counts by class.
    near_hits: Vec<usize>,
}

impl<'a, K: Key, V: Value, N: Near<K, V>> Batch<'a, K, V, N> {
    fn new(
        cache: &'a Cache<K, V, N>,
        keys: &'a [K],
        loader: Option<LoaderStart<'a, K, V>>,
        bound: ReadBound,
    ) -> Self {
        let intent = if loader.is_some() { Intent::Load } else { Intent::Read };
        Self {
            cache,
            keys,
            loader,
            intent,
            bound,
            answers: BatchAnswers::new(keys.len()),
            near_hits: Vec::new(),
        }
    }

    /// Answers the keys that the near tier can answer. Returns the distinct other keys, and their
    /// repetitions.
    fn ask_near(&mut self) -> (Vec<OpenKey<V>>, Vec<RepeatedKey>) {
        let (mut firsts, mut distinct) = (Vec::new(), Distinct::new());
        let (mut open, mut repeated) = (Vec::new(), Vec::new());
        for (index, key) in self.keys.iter().enumerate() {
            let near = match self.cache.near_hit(key, self.intent.loads()) {
                Ok(hit) => {
                    self.answers.set(index, Ok(hit));
                    self.near_hits.extend(self.cache.inner.classes.as_ref().map(|_| index));
                    continue;
                }
                Err(near) => near,
            };
            self.cache.inner.note_request(RecordedOp::Get, self.cache.chain.tenant, key);
            if let Occurrence::Repeated(number) = distinct.add(key) {
                repeated.push(RepeatedKey { index, first: firsts[number] });
                continue;
            }
            firsts.push(index);
            let key_ref = TenantKeyRef { tenant: self.cache.chain.tenant, key };
            match self.cache.judge_near(&key_ref, near, self.intent) {
                StaleEntry::Keep(stale) => open.push(OpenKey { index, stale }),
                StaleEntry::Serve(hit) => self.answers.set(index, Ok(Some(hit))),
                StaleEntry::ServeAndRefresh(hit) => {
                    self.answers.set(index, Ok(Some(hit)));
                    self.answers.refreshed.push(index);
                }
            }
        }
        (open, repeated)
    }

    /// Answers the open keys of a plain read, outside of any flight.
    async fn look_up_past_flights(&mut self, open: Vec<OpenKey<V>>) {
        let (cache, intent, bound) = (self.cache, self.intent, self.bound);
        let tenant = cache.chain.tenant;
        let key = |one: &OpenKey<V>| TenantKey { tenant, key: self.keys[one.index].clone() };
        let keys: Vec<_> = open.iter().map(key).collect();
        let pass = LookupPass::new(&cache.inner, &cache.chain, intent, bound.oldest_proof);
        let outcomes = pass.look_up_all(&keys).await;
        for (OpenKey { index, .. }, outcome) in open.into_iter().zip(outcomes) {
            let caller = Caller { ticket: None, intent, mode: JoinMode::Separate, bound };
            if let Verdict::Answer { answer, refresh } = cache.judge(&caller, outcome, None) {
                self.answers.refreshed.extend(refresh.then_some(index));
                self.answers.set(index, answer);
            }
        }
    }

    /// Looks up the open keys, and looks up a key again if its flight turns out to be too old. Returns
    /// the keys that must be loaded.
    async fn look_up(&mut self, mut open: Vec<OpenKey<V>>) -> Vec<MissedKey<K, V>> {
        let first = self.cache.join_mode();
        let again = if self.intent.loads() { JoinMode::JoinLoad } else { first };
        let mut misses = Vec::new();
        for mode in [first, again, JoinMode::Separate] {
            open = self.look_up_once(open, mode, &mut misses).await;
        }
        misses
    }

    /// Makes one round of lookups. Returns the keys whose flights are of no use to this call.
    async fn look_up_once(
        &mut self,
        open: Vec<OpenKey<V>>,
        mode: JoinMode,
        misses: &mut Vec<MissedKey<K, V>>,
    ) -> Vec<OpenKey<V>> {
        let (cache, intent, bound) = (self.cache, self.intent, self.bound);
        let keys = open.iter().map(|one| cache.tenant_key(self.keys[one.index].clone())).collect();
        let tickets = cache.join_many(keys, intent, mode, bound.oldest_proof);
        let (mut again, began) = (Vec::new(), Instant::now());
        for (OpenKey { index, stale }, ticket) in open.into_iter().zip(tickets) {
            if let Some(answer) = cache.answer_before_lookup(&ticket) {
                self.answers.set(index, answer);
                continue;
            }
            let outcome = match cache.stand_in_for_store(intent, stale.as_ref()) {
                None => Ok(lookup_of(&ticket).await),
                Some(stale) => cache.or_stale(ticket.key(), stale, began, lookup_of(&ticket)).await,
            };
            let outcome = match outcome {
                Ok(Some(outcome)) => outcome,
                Ok(None) => {
                    again.push(OpenKey { index, stale });
                    continue;
                }
                Err(answer) => {
                    cache.finish_lookup(ticket);
                    self.answers.set(index, answer);
                    continue;
                }
            };
            let caller = Caller { ticket: Some(&ticket), intent, mode, bound };
            match cache.judge(&caller, outcome, stale.clone()) {
                Verdict::Answer { answer, refresh } => {
                    self.answers.refreshed.extend(refresh.then_some(index));
                    self.answers.set(index, answer);
                }
                Verdict::Again | Verdict::AgainForLoad => again.push(OpenKey { index, stale }),
                Verdict::Load(miss) => misses.push(MissedKey { index, ticket, miss, ended: 0 }),
            }
        }
        again
    }

    /// Loads the missed keys and renews the stale ones in one load. If only stale keys are to be loaded,
    /// the load runs in the background.
    async fn load(&mut self, misses: Vec<MissedKey<K, V>>) {
        let cache = self.cache;
        let refreshed = std::mem::take(&mut self.answers.refreshed);
        let key = |index: usize| (index, cache.tenant_key(self.keys[index].clone()));
        let renewals: Vec<_> = refreshed.into_iter().map(key).collect();
        if misses.is_empty() {
            cache.revalidate(renewals, self.loader.take(), None);
            return;
        }
        let renewals = cache.join_renewals(renewals, true);
        let answers = &mut self.answers;
        let mut set = |index, answer| answers.set(index, answer);
        let late = cache.load(misses, renewals, &mut self.loader, self.bound, &mut set).await;
        self.load_late(late).await;
    }

    /// Answers the keys whose loads, led by other callers, are too old for this call. By now the values
    /// of the late loads are in the tiers or the store. This call loads the keys that the tiers and the
    /// store do not have, unless its loader has already run.
    async fn load_late(&mut self, late: Vec<LateKey<V>>) {
        let cache = self.cache;
        let mut open = Vec::with_capacity(late.len());
        for LateKey { index, stale, .. } in late {
            match cache.near_hit_after_miss(&self.keys[index], true) {
                Ok(hit) => self.answers.set(index, Ok(hit)),
                Err(_) => open.push(OpenKey { index, stale }),
            }
        }
        let mut misses = Vec::new();
        self.look_up_once(open, JoinMode::Separate, &mut misses).await;
        self.answers.refreshed.clear();
        if self.loader.is_some() {
            let answers = &mut self.answers;
            let mut set = |index, answer| answers.set(index, answer);
            let late = cache.load(misses, Vec::new(), &mut self.loader, self.bound, &mut set).await;
            // Another caller has led one of these loads, too: an error, since the key may have a value.
            for LateKey { index, stale, .. } in late {
                self.answers.set(index, cache.stale_or(stale, unproven_error()));
            }
            return;
        }
        for MissedKey { index, miss, .. } in misses {
            let answer = match cache.chain.store {
                Some(_) => Ok(None),
                None => cache.stale_or(miss.stale, unproven_error()),
            };
            self.answers.set(index, answer);
        }
    }
}

fn unproven_error() -> Error {
    let message = "another caller's load began too long before this call, and nothing proves its value";
    Error::new(ErrorKind::Unavailable, message)
}
