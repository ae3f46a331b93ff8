//! Reads of many keys: one trip a tier for what near has not.

use std::{hash::Hash, sync::Arc};

use futures_util::FutureExt;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{
    Cache,
    answers::{Answers, Boarded, Distinct, Twin, Unfound, Wanted},
    errors::reentrant_error,
    inner::Inner,
    load::is_reentrant,
    looked::{CacheTicket, LookupOutcome, SharedLookup},
    lookup::Seat,
    many::{Many, StartMany},
    proof::ReadBound,
    reading::ReadMode,
    stale::NearStale,
};
use crate::{
    Cached, Error, ErrorKind, Near, Result, Timestamp, Token,
    flight::{Intent, JoinMode},
    near::TenantKey,
};

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    pub(super) async fn answer_many(&self, keys: &[K], start: Option<StartMany<'_, K, V>>) -> Many<V> {
        if let Err(error) = self.check_readable() {
            return Many(keys.iter().map(|_| Err(error.clone())).collect());
        }
        if self.reading == ReadMode::Truth {
            return self.answer_truth(keys, start).await;
        }
        let (loads, asked) = (start.is_some(), self.asked());
        let mut answers = Answers::new(keys.len());
        let (wanted, twins) = self.ask_near(keys, loads, &mut answers);
        let missed = self.look_up_wanted(keys, wanted, loads, asked, &mut answers).await;
        let renewals = self.board_renewals(keys, &answers.renewed, loads);
        let mut start = start;
        if missed.is_empty() || !loads {
            self.renew_many(renewals, start);
        } else {
            let late = self.load_missed(missed, renewals, &mut start, asked, &mut answers).await;
            self.answer_late(keys, late, start, asked, &mut answers).await;
        }
        answers.into_many(twins)
    }

    /// What near has; else each key once, and where it stands again.
    fn ask_near(&self, keys: &[K], loads: bool, answers: &mut Answers<V>) -> (Vec<Wanted<V>>, Vec<Twin>) {
        let (mut wanted, mut distinct) = (Vec::new(), Distinct::new());
        for (index, key) in keys.iter().enumerate() {
            let seen = match self.near_hit(key, loads) {
                Ok(hit) => {
                    answers.by_index[index] = Some(Ok(hit));
                    continue;
                }
                Err(seen) => seen,
            };
            if !distinct.is_first(index, key) {
                continue;
            }
            match self.near_stale(seen, loads || self.chain.store.is_some()) {
                NearStale::Keep(stale) => wanted.push(Wanted { index, stale }),
                NearStale::Serve(hit) => answers.by_index[index] = Some(Ok(Some(hit))),
                NearStale::Refresh(hit) => {
                    answers.by_index[index] = Some(Ok(Some(hit)));
                    answers.renewed.push(index);
                }
            }
        }
        (wanted, distinct.into_twins())
    }

    /// The keys whose loads, by others, had begun too long before this call. What those brought is in the
    /// tiers or the store by now; what is not, this caller loads, if its loader has not run yet.
    async fn answer_late(
        &self,
        keys: &[K],
        late: Vec<Wanted<V>>,
        mut start: Option<StartMany<'_, K, V>>,
        asked: ReadBound,
        answers: &mut Answers<V>,
    ) {
        let mut wanted = Vec::with_capacity(late.len());
        for one in late {
            match self.near_hit(&keys[one.index], true) {
                Ok(hit) => answers.by_index[one.index] = Some(Ok(hit)),
                Err(_) => wanted.push(one),
            }
        }
        let unfound = self.look_up_alone(keys, wanted, asked.oldest, answers).await;
        if start.is_some() {
            self.load_missed(unfound, Vec::new(), &mut start, asked, answers).await;
            return;
        }
        for Unfound { index, missed, .. } in unfound {
            answers.by_index[index] = Some(match self.chain.store {
                Some(_) => Ok(None),
                None => self.stale_or(missed.stale, late_error()),
            });
        }
    }

    /// Looks keys up in flights of their own.
    async fn look_up_alone(
        &self,
        keys: &[K],
        wanted: Vec<Wanted<V>>,
        oldest: Timestamp,
        answers: &mut Answers<V>,
    ) -> Vec<Unfound<K, V>> {
        let mut unfound = Vec::new();
        for Boarded { wanted: Wanted { index, stale }, ticket } in
            self.board_many(keys, wanted, Intent::Load, JoinMode::Separate, oldest)
        {
            let answer = match self.lookup_of(&ticket).await {
                LookupOutcome::Found(entry, source) => Ok(self.handle(entry, source, false)),
                LookupOutcome::Failed(error, seen) => self.stale_or(seen.or(stale), error),
                LookupOutcome::Missed(mut missed) => {
                    missed.stale = missed.stale.or(stale);
                    unfound.push(Unfound { index, ticket, missed, panicked: 0 });
                    continue;
                }
            };
            answers.by_index[index] = Some(answer);
        }
        unfound
    }

    /// Looks up what near has not; what is to be loaded is returned.
    async fn look_up_wanted(
        &self,
        keys: &[K],
        mut wanted: Vec<Wanted<V>>,
        loads: bool,
        asked: ReadBound,
        answers: &mut Answers<V>,
    ) -> Vec<Unfound<K, V>> {
        let errand = if loads { Intent::Load } else { Intent::Read };
        let again = if loads { JoinMode::JoinLoad } else { self.boarding() };
        let mut unfound = Vec::new();
        for how in [self.boarding(), again, JoinMode::Separate] {
            for Boarded { wanted: Wanted { index, stale }, ticket } in
                self.board_many(keys, std::mem::take(&mut wanted), errand, how, asked.oldest)
            {
                if let Some(answer) = self.answer_aboard(&keys[index], &ticket, loads) {
                    answers.by_index[index] = Some(answer);
                    continue;
                }
                let looked = self.lookup_of(&ticket).await;
                if self.came_late(&ticket, &looked, asked) {
                    wanted.push(Wanted { index, stale });
                    continue;
                }
                let answer = match looked {
                    // A plain read's answer: this caller's loader may create the row.
                    LookupOutcome::Found(entry, _)
                        if loads && how == JoinMode::Join && self.is_no_row(&entry) =>
                    {
                        wanted.push(Wanted { index, stale });
                        continue;
                    }
                    LookupOutcome::Found(entry, source) => {
                        answers.renewed.extend(self.is_to_be_refreshed(&entry).then_some(index));
                        Ok(self.share(&ticket, entry, source))
                    }
                    LookupOutcome::Failed(error, seen) => self.stale_or(seen.or(stale), error),
                    LookupOutcome::Missed(missed) if !loads => {
                        Ok(self.loaded_meanwhile(&ticket, missed.stale, asked))
                    }
                    LookupOutcome::Missed(mut missed) => {
                        let seen = missed.stale.clone();
                        let Some(hit) = self.loaded_meanwhile(&ticket, seen, asked) else {
                            // The lookup may have been another's, made for less.
                            missed.oldest = asked.oldest;
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
        self.landed(key).map(Ok)
    }

    /// Boards a flight for each key that is wanted; the new ones share one lookup.
    pub(super) fn board_many(
        &self,
        keys: &[K],
        wanted: Vec<Wanted<V>>,
        errand: Intent,
        how: JoinMode,
        oldest: Timestamp,
    ) -> Vec<Boarded<K, V>> {
        if wanted.is_empty() {
            return Vec::new();
        }
        let (send, receive) = oneshot::channel::<Vec<Seat<K>>>();
        let (inner, chain) = (Arc::clone(&self.inner), Arc::clone(&self.chain));
        // Others may join a key of this group, and poll its lookup, before all keys have boarded.
        let walk = async move {
            let seats = receive.await.unwrap_or_default();
            Inner::look_up_many(inner, chain, seats, errand, oldest).await
        };
        let group = walk.boxed().shared();
        let seats = Mutex::new(Vec::new());
        let boarded = wanted.into_iter().map(|wanted| {
            let key: Arc<TenantKey<K>> = self.scoped(keys[wanted.index].clone());
            let lookup = |id| {
                let mut seats = seats.lock();
                seats.push(Seat { key: Arc::clone(&key), id, replaces: Token::NONE });
                SharedLookup::Grouped { group: group.clone(), index: seats.len() - 1 }
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
        self.board_many(keys, wanted.collect(), Intent::Revalidate, self.boarding(), self.oldest())
    }
}

fn late_error() -> Error {
    let message =
        "another caller's load had begun too long before this call, and nothing proves what it gave";
    Error::new(ErrorKind::Unavailable, message)
}
