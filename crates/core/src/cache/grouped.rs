//! Loads of many keys: one run of the caller's loader for what no tier has.

use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
    panic::AssertUnwindSafe,
    sync::Arc,
};

use futures_util::{FutureExt, StreamExt, future::BoxFuture, stream};

use super::{
    Cache,
    answers::{Answers, Boarded, Unfound, Wanted},
    errors::{panicked_error, shut_down_error},
    load::LoadSeat,
    loading::Load,
    looked::{Loaded, LookupOutcome},
    many::{Many, MissingKeys, StartMany},
    proof::ReadBound,
};
use crate::{
    Entry, Event, Item, Near, Result, Timestamp,
    flight::{LoadOutcome, LoadRole, Promise},
};

/// Runs of a bound loader at a time, for one batch.
const LOADS_AT_ONCE: usize = 32;

/// The keys that this caller is to load.
struct Led<K: Eq + Hash, V> {
    missing: MissingKeys<K>,
    seats: Vec<LoadSeat<K, V>>,
    /// Before any of them was asked for.
    began: Timestamp,
}

/// A load that this caller waits for.
struct Wait<K: Eq + Hash, V> {
    index: usize,
    promise: Promise<LoadOutcome<Loaded<V>>>,
    stale: Option<Arc<Entry<V>>>,
    /// Its place, where the load is another caller's: to take it over.
    followed: Option<Unfound<K, V>>,
}

impl<K: Clone + Eq + Hash, V> Led<K, V> {
    fn new(began: Timestamp) -> Self {
        Self { missing: MissingKeys { keys: Vec::new(), indices: Vec::new() }, seats: Vec::new(), began }
    }

    /// Enters the load stage of one key; `None` where two loads have panicked.
    fn enter(&mut self, one: Unfound<K, V>) -> Option<Wait<K, V>> {
        let (index, stale) = (one.index, one.missed.stale.clone());
        let (promise, followed) = match one.ticket.flight().load.enter(one.panicked) {
            LoadRole::Leader(lead) => {
                let promise = lead.promise();
                self.missing.keys.push(one.ticket.key().key.clone());
                self.missing.indices.push(index);
                let (ticket, missed, began) = (one.ticket, one.missed, self.began);
                self.seats.push(LoadSeat { held: None, ticket, lead, missed, began });
                (promise, None)
            }
            LoadRole::Follower(promise, panicked) => (promise, Some(Unfound { panicked, ..one })),
            LoadRole::GaveUp => return None,
        };
        Some(Wait { index, promise, stale, followed })
    }
}

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    pub(super) async fn read_many(&self, keys: &[K]) -> Many<V> {
        let Some(loader) = self.inner.loader.clone() else {
            return self.answer_many(keys, None).await;
        };
        let each = move |missing: MissingKeys<K>| -> Load<V> {
            let loads = missing.keys.into_iter().map(move |key| {
                let loader = Arc::clone(&loader);
                let load = AssertUnwindSafe(async move { loader(key).await }).catch_unwind();
                load.map(|loaded| loaded.unwrap_or_else(|_| Err(panicked_error())).map(Some))
            });
            stream::iter(loads.collect::<Vec<_>>()).buffered(LOADS_AT_ONCE).collect().boxed()
        };
        self.answer_many(keys, Some(Box::new(each))).await
    }

    pub(super) async fn load_many<'a>(
        &self,
        keys: &[K],
        load: impl FnOnce(MissingKeys<K>) -> BoxFuture<'static, Result<Vec<(K, Item<V>)>>> + Send + 'a,
    ) -> Many<V> {
        let start = move |missing: MissingKeys<K>| -> Load<V> {
            let keys = missing.keys.clone();
            load(missing).map(move |pairs| in_order(&keys, pairs)).boxed()
        };
        self.answer_many(keys, Some(Box::new(start))).await
    }

    /// Renews off the caller's path what was served stale.
    pub(super) fn renew_many(&self, renewals: Vec<Boarded<K, V>>, start: Option<StartMany<'_, K, V>>) {
        if renewals.is_empty() {
            return;
        }
        let keys = renewals.iter().map(|one| one.ticket.key().key.clone()).collect();
        let indices: Vec<usize> = renewals.iter().map(|one| one.wanted.index).collect();
        let began = self.inner.clock.now();
        let load = start.map(|start| start(MissingKeys { keys, indices: indices.clone() }));
        let cache = self.clone();
        self.inner.tasks.spawn(async move {
            let unfound = cache.look_up_renewals(renewals).await;
            let Some(load) = load else { return };
            let mut led = Led::new(began);
            unfound.into_iter().for_each(|one| _ = led.enter(one));
            // Another process may have renewed some of them.
            let wanted: HashSet<usize> = led.missing.indices.into_iter().collect();
            let is_wanted = move |index: &usize| wanted.contains(index);
            let load = load.map(move |items| {
                let items = items.into_iter().zip(indices);
                items.filter(|(_, index)| is_wanted(index)).map(|(item, _)| item).collect()
            });
            if !led.seats.is_empty() {
                cache.inner.spawn_load(&cache.chain, led.seats, load.boxed());
            }
        });
    }

    /// What no other process has renewed.
    async fn look_up_renewals(&self, renewals: Vec<Boarded<K, V>>) -> Vec<Unfound<K, V>> {
        let mut unfound = Vec::with_capacity(renewals.len());
        for Boarded { wanted, ticket } in renewals {
            if let LookupOutcome::Missed(missed) = self.lookup_of(&ticket).await {
                unfound.push(Unfound { index: wanted.index, ticket, missed, panicked: 0 });
            }
        }
        unfound
    }

    /// One load for the keys that nobody is loading yet, and for those to be renewed; the others'
    /// loads are waited for. Where one of those panics, this caller's loader takes over, if it has not
    /// been used. What another's load gave, and is not what this call asks for, is no answer: those keys
    /// are returned.
    pub(super) async fn load_missed(
        &self,
        mut missed: Vec<Unfound<K, V>>,
        renewals: Vec<Boarded<K, V>>,
        start: &mut Option<StartMany<'_, K, V>>,
        asked: ReadBound,
        answers: &mut Answers<V>,
    ) -> Vec<Wanted<V>> {
        let (mut late, mut renewals) = (Vec::new(), self.look_up_renewals(renewals).await);
        while !missed.is_empty() {
            let (mut waits, mut led) = (Vec::new(), Led::new(self.inner.clock.now()));
            for one in missed.drain(..) {
                let index = one.index;
                match led.enter(one) {
                    Some(wait) => waits.push(wait),
                    None => answers.by_index[index] = Some(Err(panicked_error())),
                }
            }
            // Nobody waits for these.
            renewals.drain(..).for_each(|one| _ = led.enter(one));
            if let Some(start) = start.take_if(|_| !led.seats.is_empty()) {
                self.inner.spawn_load(&self.chain, led.seats, start(led.missing));
            }
            for Wait { index, promise, stale, followed } in waits {
                let follows = followed.is_some();
                answers.by_index[index] = Some(match (promise.wait().await, followed) {
                    (LoadOutcome::Panicked, Some(other)) if start.is_some() => {
                        missed.push(other);
                        continue;
                    }
                    (LoadOutcome::Panicked, _) => Err(panicked_error()),
                    (LoadOutcome::Abandoned, _) => Err(shut_down_error()),
                    (LoadOutcome::Done(Err(error)), _) => self.stale_or(stale, error),
                    (LoadOutcome::Done(Ok((entry, _))), _) if follows && !self.suffices(&entry, asked) => {
                        late.push(Wanted { index, stale });
                        continue;
                    }
                    (LoadOutcome::Done(Ok((entry, source))), _) => {
                        if follows {
                            self.inner.tell(&Event::Coalesced);
                        }
                        Ok(self.handle(entry, source, follows))
                    }
                });
            }
        }
        late
    }
}

/// What a grouped loader gave, in the order of its keys; a key that it left out is absent.
fn in_order<K: Eq + Hash, V>(keys: &[K], pairs: Result<Vec<(K, Item<V>)>>) -> Vec<Result<Option<Item<V>>>> {
    match pairs {
        Ok(pairs) => {
            let mut items: HashMap<K, Item<V>> = pairs.into_iter().collect();
            keys.iter().map(|key| Ok(items.remove(key))).collect()
        }
        Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
    }
}
