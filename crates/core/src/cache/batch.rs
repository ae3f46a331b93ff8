//! Many keys at once: one trip a tier, one grouped load for what is missing.

use std::{hash::Hash, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    Cache,
    inner::{Inner, Looked, Lookup, Missed},
    load::{CacheTicket, Load, LoadSeat, is_reentrant},
    lookup::Seat,
    read::{panicked_error, reentrant_error},
};
use crate::{
    Cached, Item, Near, Result, Token,
    flight::{Boarding, Entered, Errand, Landing},
    near::Scoped,
};

/// The answers of a batch, one a key, in the order of the keys asked for.
#[derive(Debug)]
pub struct Many<V>(Vec<Result<Option<Cached<V>>>>);

impl<V> Many<V> {
    /// The answers in order.
    pub fn iter(&self) -> impl Iterator<Item = &Result<Option<Cached<V>>>> {
        self.0.iter()
    }

    /// The number of keys asked for.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no key was asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values in order, or the first error.
    ///
    /// # Errors
    /// The first key's that failed.
    pub fn into_values(self) -> Result<Vec<Option<Cached<V>>>> {
        self.0.into_iter().collect()
    }
}

impl<V> IntoIterator for Many<V> {
    type Item = Result<Option<Cached<V>>>;
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The keys that a grouped load is to give values for.
#[derive(Clone, Debug)]
pub struct Missing<K> {
    keys: Vec<K>,
    indices: Vec<usize>,
}

impl<K> Missing<K> {
    /// The keys.
    pub fn keys(&self) -> &[K] {
        &self.keys
    }

    /// Where each of them stood in the keys that the caller asked for.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The keys with values that came in their order, as pairs to answer with.
    pub fn zip<V>(self, values: impl IntoIterator<Item = V>) -> Vec<(K, V)> {
        self.keys.into_iter().zip(values).collect()
    }
}

/// A key that near had not, and the flight it boarded.
struct Boarded<K, V>
where
    K: Eq + Hash,
{
    index: usize,
    ticket: CacheTicket<K, V>,
}

/// Starts the caller's grouped loader.
type StartMany<'a, K, V> =
    Box<dyn FnOnce(Missing<K>) -> BoxFuture<'static, Result<Vec<(K, Item<V>)>>> + Send + 'a>;

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    pub(super) async fn read_many(&self, keys: &[K]) -> Many<V> {
        if let Some(loader) = self.inner.loader.clone() {
            let each = move |missing: Missing<K>| -> BoxFuture<'static, _> {
                let loads = missing.keys.into_iter().map(move |key| {
                    let load = loader(key.clone());
                    async move { load.await.map(|item| (key, item)) }
                });
                Box::pin(futures_util::future::try_join_all(loads))
            };
            return self.load_many(keys, Box::new(each)).await;
        }
        self.answer_many(keys, Errand::Read, None).await
    }

    pub(super) async fn load_many(&self, keys: &[K], start: StartMany<'_, K, V>) -> Many<V> {
        self.answer_many(keys, Errand::Load, Some(start)).await
    }

    async fn answer_many(&self, keys: &[K], errand: Errand, start: Option<StartMany<'_, K, V>>) -> Many<V> {
        if let Err(error) = self.inner.check_open() {
            return Many(keys.iter().map(|_| Err(error.clone())).collect());
        }
        let loads = start.is_some();
        let mut answers: Vec<Option<Result<Option<Cached<V>>>>> =
            keys.iter().map(|key| self.near_hit(key, loads).ok().map(Ok)).collect();
        let mut missed = Vec::new();
        let mut wanted: Vec<usize> = (0..keys.len()).filter(|&index| answers[index].is_none()).collect();
        for how in [self.boarding(), Boarding::JoinLoad] {
            let boarded = self.board_many(keys, &wanted, errand, how);
            wanted.clear();
            for Boarded { index, ticket } in boarded {
                if loads && ticket.joined() && is_reentrant(ticket.flight().id) {
                    answers[index] = Some(Err(reentrant_error()));
                    continue;
                }
                match self.lookup_of(&ticket).await {
                    // A plain read's answer: this caller's loader may create the row.
                    Looked::Found(entry, _) if loads && how == Boarding::Join && self.is_no_row(&entry) => {
                        wanted.push(index);
                    }
                    Looked::Found(entry, source) => {
                        answers[index] = Some(Ok(self.handle(entry, source, ticket.joined())));
                    }
                    Looked::Failed(error, stale) => answers[index] = Some(self.stale_or(stale, error)),
                    Looked::Missed(seen) => missed.push((index, ticket, seen)),
                }
            }
        }
        match start {
            Some(start) => self.load_missed(missed, start, &mut answers).await,
            None => {
                for (index, ticket, _) in missed {
                    let loaded = ticket.flight().load.result();
                    answers[index] =
                        loaded.map(|loaded| loaded.map(|(entry, source)| self.handle(entry, source, true)));
                }
            }
        }
        Many(answers.into_iter().map(|answer| answer.unwrap_or(Ok(None))).collect())
    }

    /// Boards a flight for each key that is wanted; the new ones share one lookup.
    fn board_many(&self, keys: &[K], wanted: &[usize], errand: Errand, how: Boarding) -> Vec<Boarded<K, V>> {
        if wanted.is_empty() {
            return Vec::new();
        }
        let (send, receive) = oneshot::channel::<Vec<Seat<K>>>();
        let (inner, chain) = (Arc::clone(&self.inner), Arc::clone(&self.chain));
        // Others may join a key of this group, and poll its lookup, before all keys have boarded.
        let walk = async move {
            let seats = receive.await.unwrap_or_default();
            Inner::look_up_many(inner, chain, seats, errand).await
        };
        let group = walk.boxed().shared();
        let seats = Mutex::new(Vec::new());
        let boarded = wanted.iter().map(|&index| {
            let key: Arc<Scoped<K>> = self.scoped(keys[index].clone());
            let lookup = |id| {
                let mut seats = seats.lock();
                seats.push(Seat { key: Arc::clone(&key), id, instead: Token::NONE });
                Lookup::Grouped { group: group.clone(), index: seats.len() - 1 }
            };
            Boarded { index, ticket: self.inner.flights.board(&key, errand, how, lookup) }
        });
        let boarded = boarded.collect();
        drop(send.send(seats.into_inner()));
        boarded
    }

    /// One load for the keys that nobody is loading yet; the others' loads are waited for.
    async fn load_missed(
        &self,
        missed: Vec<(usize, CacheTicket<K, V>, Missed<V>)>,
        start: StartMany<'_, K, V>,
        answers: &mut [Option<Result<Option<Cached<V>>>>],
    ) {
        let mut awaited = Vec::new();
        let mut seats = Vec::new();
        let mut missing = Missing { keys: Vec::new(), indices: Vec::new() };
        for (index, ticket, seen) in missed {
            let stale = seen.stale.clone();
            match ticket.flight().load.enter(0) {
                Entered::Lead(lead) => {
                    missing.keys.push(ticket.key().key.clone());
                    missing.indices.push(index);
                    awaited.push((index, lead.promise(), stale, false));
                    seats.push(LoadSeat { held: None, ticket, lead, missed: seen });
                }
                Entered::Follow(promise, _) => awaited.push((index, promise, stale, true)),
                Entered::GaveUp => answers[index] = Some(Err(panicked_error())),
            }
        }
        if !seats.is_empty() {
            let keys = missing.keys.clone();
            let load = start(missing);
            let load: Load<V> = load.map(move |pairs| pairs.map(move |pairs| in_order(&keys, pairs))).boxed();
            self.inner.spawn_load(&self.chain, seats, load);
        }
        for (index, promise, stale, coalesced) in awaited {
            answers[index] = Some(match promise.wait().await {
                Landing::Done(Ok((entry, source))) => Ok(self.handle(entry, source, coalesced)),
                Landing::Done(Err(error)) => self.stale_or(stale, error),
                Landing::Panicked => Err(panicked_error()),
            });
        }
    }
}

/// What a grouped loader gave, in the order of its keys; a key that it left out is absent.
fn in_order<K: Eq + Hash, V>(keys: &[K], pairs: Vec<(K, Item<V>)>) -> Vec<Option<Item<V>>> {
    let mut items: std::collections::HashMap<K, Item<V>> = pairs.into_iter().collect();
    keys.iter().map(|key| items.remove(key)).collect()
}
