//! Reads of many keys: one trip a tier for what near has not.

use std::{
    collections::{HashMap, hash_map},
    hash::Hash,
    sync::Arc,
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    Cache,
    grouped::StartMany,
    inner::{Inner, Looked, Lookup, Missed},
    load::{CacheTicket, is_reentrant},
    lookup::Seat,
    many::Many,
    read::{NearStale, Seen, reentrant_error},
};
use crate::{
    Cached, Near, Result, Token,
    flight::{Boarding, Errand},
    near::{Probe, Scoped},
};

/// One key of a batch that near could not answer for.
pub(super) struct Wanted<V> {
    pub(super) index: usize,
    stale: Seen<V>,
}

/// And the flight that it boarded.
pub(super) struct Boarded<K: Eq + Hash, V> {
    pub(super) wanted: Wanted<V>,
    pub(super) ticket: CacheTicket<K, V>,
}

/// And what its lookup did not find.
pub(super) struct Unfound<K: Eq + Hash, V> {
    pub(super) index: usize,
    pub(super) ticket: CacheTicket<K, V>,
    pub(super) missed: Missed<V>,
    /// The load that it saw panic, else 0.
    pub(super) panicked: u8,
}

/// The answers of a batch while they come in.
pub(super) struct Answers<V> {
    pub(super) by_index: Vec<Option<Result<Option<Cached<V>>>>>,
    /// Stale ones that were served, and are to be loaded anew.
    renewed: Vec<usize>,
}

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    pub(super) async fn answer_many(&self, keys: &[K], start: Option<StartMany<'_, K, V>>) -> Many<V> {
        if let Err(error) = self.inner.check_open() {
            return Many(keys.iter().map(|_| Err(error.clone())).collect());
        }
        let loads = start.is_some();
        let mut answers = Answers { by_index: Vec::with_capacity(keys.len()), renewed: Vec::new() };
        let (wanted, twins) = self.ask_near(keys, loads, &mut answers);
        let missed = self.look_up_wanted(keys, wanted, loads, &mut answers).await;
        let renewals = self.board_renewals(keys, &answers.renewed, loads);
        match start {
            Some(start) if missed.is_empty() => self.renew_many(renewals, Some(start)),
            Some(start) => self.load_missed(missed, renewals, start, &mut answers).await,
            None => self.renew_many(renewals, None),
        }
        for (index, first) in twins {
            answers.by_index[index] = answers.by_index[first].clone();
        }
        Many(answers.by_index.into_iter().map(|answer| answer.unwrap_or(Ok(None))).collect())
    }

    /// What near has; else each key once, and where it stands again.
    fn ask_near(
        &self,
        keys: &[K],
        loads: bool,
        answers: &mut Answers<V>,
    ) -> (Vec<Wanted<V>>, Vec<(usize, usize)>) {
        let (mut wanted, mut twins, mut known) = (Vec::new(), Vec::new(), HashMap::new());
        for (index, key) in keys.iter().enumerate() {
            let seen = match self.near_hit(key, loads) {
                Ok(hit) => {
                    answers.by_index.push(Some(Ok(hit)));
                    continue;
                }
                Err(seen) => seen,
            };
            answers.by_index.push(None);
            match known.entry(key) {
                hash_map::Entry::Occupied(first) => twins.push((index, *first.get())),
                hash_map::Entry::Vacant(first) => {
                    first.insert(index);
                    match self.near_stale(seen, loads || self.chain.store.is_some()) {
                        NearStale::Keep(stale) => wanted.push(Wanted { index, stale }),
                        NearStale::Serve(hit) => answers.by_index[index] = Some(Ok(Some(hit))),
                        NearStale::Refresh(hit) => {
                            answers.by_index[index] = Some(Ok(Some(hit)));
                            answers.renewed.push(index);
                        }
                    }
                }
            }
        }
        (wanted, twins)
    }

    /// Looks up what near has not; what is to be loaded is returned.
    async fn look_up_wanted(
        &self,
        keys: &[K],
        mut wanted: Vec<Wanted<V>>,
        loads: bool,
        answers: &mut Answers<V>,
    ) -> Vec<Unfound<K, V>> {
        let errand = if loads { Errand::Load } else { Errand::Read };
        let mut unfound = Vec::new();
        for how in [self.boarding(), Boarding::JoinLoad] {
            for Boarded { wanted: Wanted { index, stale }, ticket } in
                self.board_many(keys, std::mem::take(&mut wanted), errand, how)
            {
                if let Some(answer) = self.answer_aboard(&keys[index], &ticket, loads) {
                    answers.by_index[index] = Some(answer);
                    continue;
                }
                let answer = match self.lookup_of(&ticket).await {
                    // A plain read's answer: this caller's loader may create the row.
                    Looked::Found(entry, _) if loads && how == Boarding::Join && self.is_no_row(&entry) => {
                        wanted.push(Wanted { index, stale });
                        continue;
                    }
                    Looked::Found(entry, source) => {
                        answers.renewed.extend(self.is_to_be_refreshed(&entry).then_some(index));
                        Ok(self.share(&ticket, entry, source))
                    }
                    Looked::Failed(error, seen) => self.stale_or(seen.or(stale), error),
                    Looked::Missed(missed) if !loads => Ok(self.loaded_meanwhile(&ticket, missed.stale)),
                    Looked::Missed(mut missed) => {
                        let Some(hit) = self.loaded_meanwhile(&ticket, missed.stale.clone()) else {
                            missed.stale = missed.stale.or(stale);
                            unfound.push(Unfound { index, ticket, missed, panicked: 0 });
                            continue;
                        };
                        Ok(Some(hit))
                    }
                };
                answers.by_index[index] = Some(answer);
            }
        }
        unfound
    }

    /// What a caller with a loader knows once it is aboard, before any lookup.
    fn answer_aboard(
        &self,
        key: &K,
        ticket: &CacheTicket<K, V>,
        loads: bool,
    ) -> Option<Result<Option<Cached<V>>>> {
        if !loads {
            return None;
        }
        if ticket.joined() && is_reentrant(ticket.flight().id) {
            return Some(Err(reentrant_error()));
        }
        // Another's load may have landed between the look at near and boarding.
        let probe = Probe { tenant: self.chain.tenant, key };
        let landed = self.chain.is_local() && self.inner.near.holds(&probe);
        landed.then(|| self.near_hit(key, true).ok().map(Ok)).flatten()
    }

    /// Boards a flight for each key that is wanted; the new ones share one lookup.
    fn board_many(
        &self,
        keys: &[K],
        wanted: Vec<Wanted<V>>,
        errand: Errand,
        how: Boarding,
    ) -> Vec<Boarded<K, V>> {
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
        let boarded = wanted.into_iter().map(|wanted| {
            let key: Arc<Scoped<K>> = self.scoped(keys[wanted.index].clone());
            let lookup = |id| {
                let mut seats = seats.lock();
                seats.push(Seat { key: Arc::clone(&key), id, instead: Token::NONE });
                Lookup::Grouped { group: group.clone(), index: seats.len() - 1 }
            };
            Boarded { wanted, ticket: self.inner.flights.board(&key, errand, how, lookup) }
        });
        let boarded = boarded.collect();
        drop(send.send(seats.into_inner()));
        boarded
    }

    /// Boards the keys that are to be loaded anew and that nobody has under way.
    fn board_renewals(&self, keys: &[K], renewed: &[usize], loads: bool) -> Vec<Boarded<K, V>> {
        if !loads && self.chain.store.is_none() {
            return Vec::new();
        }
        let idle = |&index: &usize| !self.inner.flights.is_flying(&self.scoped(keys[index].clone()));
        let wanted = renewed.iter().copied().filter(idle).map(|index| Wanted { index, stale: None });
        self.board_many(keys, wanted.collect(), Errand::Renew, self.boarding())
    }
}
