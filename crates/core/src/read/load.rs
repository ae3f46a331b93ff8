//! In the load stage one caller leads the load of a key, and the other callers follow it.

use std::{collections::HashSet, sync::Arc};

use futures_util::FutureExt;
use terrace_tier::{Timestamp, Token};

use super::{
    Answer, CacheTicket, LoadResult, LookupOutcome, Miss, PendingLoad, StaleCopy, lookup::lookup_of,
    run::spawn_load,
};
use crate::{
    Cache, Cached, Event, Key, Result, Source, Value,
    cache::{LoadRequest, LoaderStart},
    flight::{LoadOutcome, LoadRole, Promise},
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
    /// The number of the load that this caller saw panic, or 0.
    pub(super) panicked: u8,
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
    /// - For the other keys this caller follows the load of another caller. If the followed load panics,
    ///   this caller's loader takes over, unless it has already run.
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
        let mut renewals = missed_of(renewals).await;
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
                spawn_load(&self.inner, &self.chain, loads, load);
            }
            for Wait { index, promise, stale, followed } in waits {
                let loaded = match (promise.wait().await, followed) {
                    (LoadOutcome::Panicked(_), Some(key)) if loader.is_some() => {
                        misses.push(key);
                        continue;
                    }
                    (outcome, Some(_)) => self.followed(outcome, index, stale, bound),
                    (outcome, None) => Ok(self.loaded(outcome, stale, false)),
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
    /// it has panicked: the key then enters the load stage. A follower needs no memory for a batch.
    pub(super) async fn follow(
        &self,
        key: &mut MissedKey<K, V>,
        bound: ReadBound,
    ) -> Option<Result<Answer<V>, LateKey<V>>> {
        let (promise, number) = key.ticket.flight().load.following()?;
        match promise.wait().await {
            LoadOutcome::Panicked(_) => {
                key.panicked = number;
                None
            }
            outcome => {
                let followed = self.followed(outcome, key.index, key.miss.stale.clone(), bound);
                // The caller has shared the load, although it reads again.
                Some(followed.inspect_err(|_late| self.inner.tell(&Event::Coalesced)))
            }
        }
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
            LoadOutcome::Abandoned => self.stale_or(stale, shut_down_error()),
        }
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
        self.inner.tasks.spawn(async move {
            let misses = missed_of(tickets).await;
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
            spawn_load(&inner, &chain, loads, load.boxed());
        });
    }
}

/// Waits for the lookups of these tickets, and returns the keys that no tier has.
async fn missed_of<K: Key, V: Value>(tickets: Vec<(usize, CacheTicket<K, V>)>) -> Vec<MissedKey<K, V>> {
    let mut misses = Vec::with_capacity(tickets.len());
    for (index, ticket) in tickets {
        if let LookupOutcome::Missed(miss) = lookup_of(&ticket).await {
            misses.push(MissedKey { index, ticket, miss, panicked: 0 });
        }
    }
    misses
}

/// Enters the load stage of one key. Fails with the text of the last panic where two loads of the key's
/// flight have panicked.
fn enter<K: Key, V: Value>(
    key: MissedKey<K, V>,
    loads: &mut Vec<PendingLoad<K, V>>,
    began: Timestamp,
) -> Result<Wait<K, V>, PanicText> {
    let (index, stale) = (key.index, key.miss.stale.clone());
    let (promise, followed) = match key.ticket.flight().load.enter(key.panicked) {
        LoadRole::Leader(leader) => {
            let promise = leader.promise();
            let MissedKey { ticket, mut miss, panicked, .. } = key;
            if panicked > 0 {
                // The lease belonged to the load that panicked, so another process may hold a lease now.
                miss.token = Token::NONE;
            }
            loads.push(PendingLoad { index, lease: None, ticket, leader, miss, began });
            (promise, None)
        }
        LoadRole::Follower(promise, panicked) => (promise, Some(MissedKey { panicked, ..key })),
        LoadRole::GaveUp(panic) => return Err(panic),
    };
    Ok(Wait { index, promise, stale, followed })
}
