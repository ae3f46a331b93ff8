//! Reads of level `Strong`: the store alone answers, in a request sent after the call.
//!
//! A flight that began before the call proves nothing to it: whoever shared one reads again.

use std::{hash::Hash, panic::AssertUnwindSafe, sync::Arc};

use futures_util::FutureExt;

use super::{
    Cache,
    answers::{Answers, Boarded, Distinct, Unfound, Wanted},
    board::SHARED_ROUNDS,
    errors::reentrant_error,
    inner::Inner,
    load::is_reentrant,
    loading::Start,
    looked::{LookupOutcome, Missed},
    many::{Many, StartMany},
    proof::NONE,
    read::Led,
};
use crate::{
    Cached, Error, ErrorKind, Near, Result,
    chain::Chain,
    defence::{Defence, enabled},
    flight::{Intent, JoinMode},
    near::TenantKey,
};

/// Rounds of reading and loading. From the third on a caller shares no flight; a further one is needed
/// only where what was created is removed before it could be read.
const ROUNDS: usize = 8;

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// What the store has of a key. It is kept nowhere, and so needs no fence.
    async fn ask_truth(&self, chain: &Chain, key: &TenantKey<K>) -> LookupOutcome<V> {
        let Some(store) = &chain.store else { return LookupOutcome::Failed(no_store_error(), None) };
        let ask = async {
            let mut sought = self.seek(chain, key, None, Intent::Read, NONE);
            if sought.found.is_none() {
                let reply = store.call(&sought.key, self.read_op(&sought, true, None)).await;
                self.take_record(store, &mut sought, reply);
            }
            sought.found.unwrap_or(LookupOutcome::Missed(sought.missed))
        };
        let looked = AssertUnwindSafe(ask).catch_unwind().await;
        looked.unwrap_or_else(|_panic| self.panicked(None))
    }

    /// [`ask_truth`](Self::ask_truth) for many keys, in order: one trip.
    async fn ask_truth_many(&self, chain: &Chain, keys: &[Arc<TenantKey<K>>]) -> Vec<LookupOutcome<V>> {
        let Some(store) = &chain.store else {
            return keys.iter().map(|_| LookupOutcome::Failed(no_store_error(), None)).collect();
        };
        let ask = async {
            let seek = |key: &Arc<TenantKey<K>>| self.seek(chain, key, None, Intent::Read, NONE);
            let mut sought: Vec<_> = keys.iter().map(seek).collect();
            self.ask_store_many(store, &mut sought).await;
            sought.into_iter().map(|one| one.found.unwrap_or(LookupOutcome::Missed(one.missed))).collect()
        };
        match AssertUnwindSafe(ask).catch_unwind().await {
            Ok(looked) => looked,
            Err(_panic) => keys.iter().map(|_| self.panicked(None)).collect(),
        }
    }
}

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    pub(super) async fn read_truth(&self, key: K) -> Result<Option<Cached<V>>> {
        self.check_readable()?;
        self.read_record(&TenantKey { tenant: self.chain.tenant, key }).await
    }

    async fn read_record(&self, key: &TenantKey<K>) -> Result<Option<Cached<V>>> {
        match self.inner.ask_truth(&self.chain, key).await {
            LookupOutcome::Found(entry, source) => Ok(self.handle(entry, source, false)),
            LookupOutcome::Failed(error, _) => Err(error),
            LookupOutcome::Missed(_) => Ok(None),
        }
    }

    /// One load for all callers; whoever shared it reads what it made.
    pub(super) async fn load_truth(&self, key: K, start: Start<'_, V>) -> Result<Option<Cached<V>>> {
        self.check_readable()?;
        let (key, mut start) = (self.scoped(key), Some(start));
        let mut shared = false;
        for round in 0..ROUNDS {
            match self.inner.ask_truth(&self.chain, &key).await {
                LookupOutcome::Found(entry, source) => return Ok(self.handle(entry, source, shared)),
                LookupOutcome::Failed(error, _) => return Err(error),
                LookupOutcome::Missed(_) => {}
            }
            let ticket = self.board(&key, Intent::Load, self.boarding_anew(round), NONE);
            if ticket.joined() && is_reentrant(ticket.flight().id) {
                return Err(reentrant_error());
            }
            let missed = match self.lookup_of(&ticket).await {
                LookupOutcome::Missed(missed) => Missed { oldest: NONE, ..missed },
                _ if ticket.joined() => continue,
                LookupOutcome::Found(entry, source) => return Ok(self.handle(entry, source, false)),
                LookupOutcome::Failed(error, _) => return Err(error),
            };
            let Led { entry, source, led } = self.load(ticket, missed, &mut start).await?;
            if led || !enabled(Defence::ReadAgain) {
                return Ok(self.handle(entry, source, false));
            }
            shared = true;
            if entry.value().is_none() {
                // The origin has none either, said one who asked it meanwhile: the store decides.
                return self.read_record(&key).await;
            }
        }
        Err(unsettled_error())
    }

    /// How a caller boards that shares another's load, and not its lookup.
    fn boarding_anew(&self, round: usize) -> JoinMode {
        match self.boarding() {
            JoinMode::Join if round < SHARED_ROUNDS => JoinMode::JoinLoad,
            _ => JoinMode::Separate,
        }
    }

    pub(super) async fn answer_truth(&self, keys: &[K], mut start: Option<StartMany<'_, K, V>>) -> Many<V> {
        let loads = start.is_some();
        let (mut answers, mut distinct) = (Answers::new(keys.len()), Distinct::new());
        let is_first = |&index: &usize| distinct.is_first(index, &keys[index]);
        let mut open: Vec<usize> = (0..keys.len()).filter(is_first).collect();
        let twins = distinct.into_twins();
        for round in 0..ROUNDS {
            let scoped: Vec<_> = open.iter().map(|&index| self.scoped(keys[index].clone())).collect();
            let looked = self.inner.ask_truth_many(&self.chain, &scoped).await;
            let mut absent = Vec::new();
            for (&index, looked) in open.iter().zip(looked) {
                answers.by_index[index] = match looked {
                    LookupOutcome::Found(entry, source) => Some(Ok(self.handle(entry, source, round > 0))),
                    LookupOutcome::Failed(error, _) => Some(Err(error)),
                    LookupOutcome::Missed(_) if !loads => Some(Ok(None)),
                    // Others created the record and removed it; the one load of this call is spent.
                    LookupOutcome::Missed(_) if start.is_none() => Some(Err(unsettled_error())),
                    LookupOutcome::Missed(_) => {
                        absent.push(index);
                        None
                    }
                };
            }
            if loads && !absent.is_empty() {
                self.load_absent(keys, &absent, &mut start, round, &mut answers).await;
            }
            open = absent.into_iter().filter(|&index| answers.by_index[index].is_none()).collect();
            if open.is_empty() {
                break;
            }
        }
        open.into_iter().for_each(|index| answers.by_index[index] = Some(Err(unsettled_error())));
        answers.into_many(twins)
    }

    /// One load for the keys that nobody loads; what others load is waited for, and left open.
    async fn load_absent(
        &self,
        keys: &[K],
        absent: &[usize],
        start: &mut Option<StartMany<'_, K, V>>,
        round: usize,
        answers: &mut Answers<V>,
    ) {
        let wanted = absent.iter().map(|&index| Wanted { index, stale: None }).collect();
        let mut unfound = Vec::new();
        for Boarded { wanted: Wanted { index, .. }, ticket } in
            self.board_many(keys, wanted, Intent::Load, self.boarding_anew(round), NONE)
        {
            if ticket.joined() && is_reentrant(ticket.flight().id) {
                answers.by_index[index] = Some(Err(reentrant_error()));
                continue;
            }
            answers.by_index[index] = match self.lookup_of(&ticket).await {
                LookupOutcome::Missed(missed) => {
                    let missed = Missed { oldest: NONE, ..missed };
                    unfound.push(Unfound { index, ticket, missed, panicked: 0 });
                    None
                }
                _ if ticket.joined() => None,
                LookupOutcome::Found(entry, source) => Some(Ok(self.handle(entry, source, false))),
                LookupOutcome::Failed(error, _) => Some(Err(error)),
            };
        }
        self.load_missed(unfound, Vec::new(), start, self.asked(), answers).await;
    }
}

fn no_store_error() -> Error {
    Error::new(ErrorKind::Unsupported, "the cache has no store to ask")
}

fn unsettled_error() -> Error {
    let message = "others created the record and removed it again during the read; it may be tried again";
    Error::new(ErrorKind::Busy, message)
}
