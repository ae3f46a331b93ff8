//! In the load stage one caller leads the load of a key, and the other callers follow it.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures_util::FutureExt;
use terrace_tier::{
    Timestamp, Token,
    runtime::{current_runtime, current_runtime_id},
};
use tokio::time::{Instant, timeout, timeout_at};

use super::{
    Answer, CacheTicket, LoadResult, LookupOutcome, Miss, PendingLoad, StaleCopy, lookup::lookup_of,
    run::start_load,
};
use crate::{
    Cache, Cached, Event, Key, Result, Source, Value,
    cache::{Inner, LoadRequest, LoaderStart},
    flight::{Intent, LoadOutcome, LoadRole, Promise},
    freshness::ReadBound,
    near::{Entry, Near, TenantKey},
    panics::{PanicText, loader_panicked_error, shut_down_error},
};

/// A key that no tier has, and that enters the load stage.
pub(super) struct MissedKey<K: Key, V> {
    /// The key's index in the caller's batch.
    pub(super) index: usize,
    pub(super) ticket: CacheTicket<K, V>,
    pub(super) miss: Miss<V>,
    /// The number of the load that this caller saw end without a result, or 0.
    pub(super) ended: u32,
}

/// A key whose load, led by another caller, is too old for this call.
pub(super) struct LateKey<V> {
    pub(super) index: usize,
    /// The stale entry that the lookup met.
    pub(super) stale: Option<StaleCopy<V>>,
    /// The entry that the other caller's load gave.
    pub(super) entry: Arc<Entry<V>>,
    pub(super) source: Source,
}

/// A load that this caller waits for.
struct Wait<K: Key, V> {
    index: usize,
    promise: Promise<LoadOutcome<LoadResult<V>>>,
    stale: Option<StaleCopy<V>>,
    key: Arc<TenantKey<K>>,
    intent: Intent,
    began: Instant,
    /// The key, where another caller leads the load. This caller loads the key if the other caller's
    /// load panics.
    followed: Option<MissedKey<K, V>>,
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// Runs the load stage for one key. Returns the key's answer, or the value of another caller's load
    /// that is too old for this call.
    pub(super) async fn load_one(
        &self,
        miss: MissedKey<K, V>,
        loader: &mut Option<LoaderStart<'_, K, V>>,
        bound: ReadBound,
    ) -> Result<Answer<V>, LateKey<V>> {
        let mut answer = None;
        let mut keep = |_, loaded| answer = Some(loaded);
        let late = self.load(vec![miss], Vec::new(), loader, bound, &mut keep).await;
        match late.into_iter().next() {
            Some(late) => {
                // The caller has shared the load, although it reads again.
                self.inner.tell(&Event::Coalesced);
                Err(late)
            }
            None => Ok(answer.unwrap_or_else(|| Err(shut_down_error()))),
        }
    }

    /// Runs the load stage for several keys. The load stage works as follows:
    ///
    /// - One load runs for the keys that no other caller is loading, and for the keys in `renewals`.
    /// - For the other keys this caller follows the load of another caller. If the followed load panics, is
    ///   refused or ends with its runtime, this caller's loader takes over, unless it has already run.
    /// - `answer` gets each key's answer. A returned key has no answer, because another caller's value
    ///   for the key is too old for this call.
    pub(super) async fn load(
        &self,
        mut misses: Vec<MissedKey<K, V>>,
        renewals: Vec<(usize, CacheTicket<K, V>)>,
        loader: &mut Option<LoaderStart<'_, K, V>>,
        bound: ReadBound,
        answer: &mut (dyn FnMut(usize, Answer<V>) + Send),
    ) -> Vec<LateKey<V>> {
        let mut late = Vec::new();
        let mut renewals = self.inner.missed_renewals(renewals).await;
        while !misses.is_empty() {
            let began = self.inner.clock.now();
            let (mut waits, mut loads) = (Vec::with_capacity(misses.len()), Vec::new());
            for key in misses.drain(..) {
                let (index, stale) = (key.index, key.miss.stale.clone());
                match enter(key, &mut loads, began) {
                    Ok(wait) => waits.push(wait),
                    Err(panic) => answer(index, self.stale_or(stale, loader_panicked_error(&panic))),
                }
            }
            // No caller waits for the loads of renewed keys.
            renewals.drain(..).for_each(|key| _ = enter(key, &mut loads, began));
            if let Some(loader) = loader.take_if(|_| !loads.is_empty()) {
                let stale = loads.first().and_then(|first| first.miss.stale.clone());
                let stale = stale.and_then(|stale| self.handle(stale.entry, stale.from, false));
                let mut keys = loads.iter().map(|load| (load.index, load.ticket.key().key.clone()));
                let load = loader(LoadRequest { keys: &mut keys, stale });
                start_load(&self.inner, &self.chain, loads, load);
            }
            for Wait { index, promise, stale, key, intent, began, followed } in waits {
                let outcome = match self.stand_in(intent, stale.as_ref()) {
                    None => Ok(self.end_of(&promise).await),
                    Some(stale) => self.or_stale(&key, stale, began, self.end_of(&promise)).await,
                };
                let loaded = match (outcome, followed) {
                    (Err(answer), _) => Ok(answer),
                    (Ok(LoadOutcome::Refused | LoadOutcome::Abandoned), Some(key)) if loader.is_some() => {
                        misses.push(key);
                        continue;
                    }
                    (Ok(LoadOutcome::Panicked(_)), Some(key))
                        if loader.is_some() && self.stand_in(intent, stale.as_ref()).is_none() =>
                    {
                        misses.push(key);
                        continue;
                    }
                    (Ok(outcome), Some(_)) => self.followed(outcome, index, stale, bound),
                    (Ok(outcome), None) => Ok(self.loaded(outcome, stale, false)),
                };
                match loaded {
                    Ok(loaded) => answer(index, loaded),
                    Err(key) => late.push(key),
                }
            }
        }
        late
    }

    /// Follows the load of one key that another caller leads. `None` says that no load has begun, or that
    /// it has ended without a result: the key then enters the load stage. A follower needs no memory for a batch.
    pub(super) async fn follow(
        &self,
        key: &mut MissedKey<K, V>,
        bound: ReadBound,
    ) -> Option<Result<Answer<V>, LateKey<V>>> {
        let load = &key.ticket.flight().load;
        let (promise, number) = load.following()?;
        let outcome = match self.stand_in(key.ticket.intent(), key.miss.stale.as_ref()) {
            None => Ok(self.end_of(&promise).await),
            Some(stale) => self.or_stale(key.ticket.key(), stale, load.began(), self.end_of(&promise)).await,
        };
        match outcome {
            Err(answer) => Some(Ok(answer)),
            Ok(LoadOutcome::Panicked(_))
                if self.stand_in(key.ticket.intent(), key.miss.stale.as_ref()).is_none() =>
            {
                key.ended = number;
                None
            }
            Ok(LoadOutcome::Refused | LoadOutcome::Abandoned) => {
                key.ended = number;
                None
            }
            Ok(outcome) => {
                let followed = self.followed(outcome, key.index, key.miss.stale.clone(), bound);
                // The caller has shared the load, although it reads again.
                Some(followed.inspect_err(|_late| self.inner.tell(&Event::Coalesced)))
            }
        }
    }

    /// Waits for the end of a load. Another runtime may stop without an end, so a load there has a time limit.
    async fn end_of(&self, promise: &Promise<LoadOutcome<LoadResult<V>>>) -> LoadOutcome<LoadResult<V>> {
        if let Some(outcome) = promise.peek() {
            return outcome;
        }
        if promise.runtime() == current_runtime_id() || current_runtime().is_err() {
            return promise.wait().await;
        }
        let limit = self.inner.periods.load.saturating_add(OTHER_RUNTIMES_GRACE);
        Box::pin(timeout(limit, promise.wait())).await.unwrap_or(LoadOutcome::Abandoned)
    }

    /// The answer of a load that another caller led, or the key if the loaded value is too old.
    fn followed(
        &self,
        outcome: LoadOutcome<LoadResult<V>>,
        index: usize,
        stale: Option<StaleCopy<V>>,
        bound: ReadBound,
    ) -> Result<Answer<V>, LateKey<V>> {
        match outcome {
            LoadOutcome::Done(Ok((entry, source))) if !self.suffices(&entry, bound) => {
                Err(LateKey { index, stale, entry, source })
            }
            outcome => Ok(self.loaded(outcome, stale, true)),
        }
    }

    fn loaded(
        &self,
        outcome: LoadOutcome<LoadResult<V>>,
        stale: Option<StaleCopy<V>>,
        follows: bool,
    ) -> Answer<V> {
        match outcome {
            LoadOutcome::Done(Ok((entry, source))) => {
                if follows {
                    self.inner.tell(&Event::Coalesced);
                }
                self.tell_stale(&entry, source);
                Ok(self.handle(entry, source, follows))
            }
            LoadOutcome::Done(Err(error)) => self.stale_or(stale, error),
            LoadOutcome::Panicked(panic) => self.stale_or(stale, loader_panicked_error(&panic)),
            LoadOutcome::Refused => self.stale_or(stale, self.inner.load_limit.refused()),
            LoadOutcome::Abandoned => self.stale_or(stale, shut_down_error()),
        }
    }

    /// The stale value that may answer a caller in place of a load that is late or fails.
    fn stand_in<'s>(&self, intent: Intent, stale: Option<&'s StaleCopy<V>>) -> Option<&'s StaleCopy<V>> {
        stale.filter(|stale| intent != Intent::Refresh && self.serves_on_error(&stale.entry))
    }

    /// The stale value that may answer a caller in place of a lookup that is late. Only a store may be that
    /// late: the budgets of cache tiers are shorter than the soft timeout.
    pub(super) fn stand_in_for_store<'s>(
        &self,
        intent: Intent,
        stale: Option<&'s StaleCopy<V>>,
    ) -> Option<&'s StaleCopy<V>> {
        self.stand_in(intent, stale.filter(|_| self.chain.store.is_some()))
    }

    /// Waits for a lookup or load that `began` then. The error is the stale value, which answers after the
    /// soft timeout. The load goes on.
    pub(super) async fn or_stale<T>(
        &self,
        key: &TenantKey<K>,
        stale: &StaleCopy<V>,
        began: Instant,
        wait: impl Future<Output = T> + Send,
    ) -> Result<T, Answer<V>> {
        // The wait is boxed, since it is polled again where the stale time ends before the load does.
        let mut wait = Box::pin(wait);
        if let Ok(outcome) = timeout_at(began + self.inner.periods.soft, &mut wait).await {
            return Ok(outcome);
        }
        if !self.serves_on_error(&stale.entry) {
            return Ok(wait.await);
        }
        self.inner.back_off.failed(key);
        self.inner.tell(&Event::SoftTimeout);
        self.inner.tell(&Event::StaleServed);
        Err(Ok(Cached::stale(Arc::clone(&stale.entry), self.inner.clock.now(), stale.from)))
    }

    /// Ends a lookup in the background whose caller has got the stale value, so that its value is kept.
    pub(super) fn finish_lookup(&self, ticket: CacheTicket<K, V>) {
        let _detached = self.inner.tasks.spawn(async move { drop(lookup_of(&ticket).await) });
    }

    /// Renews stale entries in the background, for the keys that have no flight under way. Without a
    /// loader only a store can give newer entries. `stale` is the value that the loader of one key may
    /// see.
    pub(super) fn revalidate(
        &self,
        keys: Vec<(usize, Arc<TenantKey<K>>)>,
        loader: Option<LoaderStart<'_, K, V>>,
        stale: Option<Cached<V>>,
    ) {
        if let Some(idle) = self.inner.policies.idle {
            return self.touch_later(keys.into_iter().map(|(_, key)| key).collect(), idle);
        }
        let tickets = self.join_renewals(keys, loader.is_some());
        if tickets.is_empty() {
            return;
        }
        let began = self.inner.clock.now();
        let load = loader.map(|loader| {
            let mut keys = tickets.iter().map(|(index, ticket)| (*index, ticket.key().key.clone()));
            loader(LoadRequest { keys: &mut keys, stale })
        });
        let indices: Vec<usize> = tickets.iter().map(|(index, _)| *index).collect();
        let (inner, chain) = (Arc::clone(&self.inner), Arc::clone(&self.chain));
        let _detached = self.inner.tasks.spawn(async move {
            let misses = inner.missed_renewals(tickets).await;
            let Some(load) = load else { return };
            let mut loads = Vec::new();
            misses.into_iter().for_each(|key| _ = enter(key, &mut loads, began));
            if loads.is_empty() {
                return;
            }
            // Another process may have renewed some of the keys that the loader gave items for.
            let wanted: HashSet<usize> = loads.iter().map(|load| load.index).collect();
            let load = load.map(move |items| {
                let items = items.into_iter().zip(indices);
                items.filter(|(_, index)| wanted.contains(index)).map(|(item, _)| item).collect()
            });
            start_load(&inner, &chain, loads, load.boxed());
        });
    }
}

/// How much longer than its deadline a load of another runtime is waited for.
const OTHER_RUNTIMES_GRACE: Duration = Duration::from_secs(1);

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    /// Waits for the lookups of renewals, and returns the keys that no tier has.
    async fn missed_renewals(&self, tickets: Vec<(usize, CacheTicket<K, V>)>) -> Vec<MissedKey<K, V>> {
        let mut misses = Vec::with_capacity(tickets.len());
        for (index, ticket) in tickets {
            match lookup_of(&ticket).await {
                Some(LookupOutcome::Missed(miss)) => {
                    misses.push(MissedKey { index, ticket, miss, ended: 0 });
                }
                Some(LookupOutcome::Failed(..)) => self.back_off.failed(&**ticket.key()),
                Some(LookupOutcome::Found(..)) | None => {}
            }
        }
        misses
    }
}

/// Enters the load stage of one key. Fails with the text of the last panic where two loads of the key's
/// flight have panicked.
fn enter<K: Key, V: Value>(
    key: MissedKey<K, V>,
    loads: &mut Vec<PendingLoad<K, V>>,
    began: Timestamp,
) -> Result<Wait<K, V>, PanicText> {
    let (index, stale) = (key.index, key.miss.stale.clone());
    let (tenant_key, intent) = (Arc::clone(key.ticket.key()), key.ticket.intent());
    let mut load_began = Instant::now();
    let (promise, followed) = match key.ticket.flight().load.enter(key.ended) {
        LoadRole::Leader(leader) => {
            let promise = leader.promise();
            let MissedKey { ticket, mut miss, ended, .. } = key;
            if ended > 0 {
                // The lease belonged to that load, so another process may hold a lease now.
                miss.token = Token::NONE;
            }
            loads.push(PendingLoad { index, lease: None, ticket, leader, miss, began });
            (promise, None)
        }
        LoadRole::Follower(promise, ended) => {
            load_began = key.ticket.flight().load.began();
            (promise, Some(MissedKey { ended, ..key }))
        }
        LoadRole::GaveUp(panic) => return Err(panic),
    };
    Ok(Wait { index, promise, stale, key: tenant_key, intent, began: load_began, followed })
}
