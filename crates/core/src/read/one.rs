//! The read of one key goes on here if the near tier could not answer it.

use std::sync::Arc;

use super::{
    Answer, CacheTicket, NearMiss,
    join::Rounds,
    load::MissedKey,
    lookup::{LookupPass, lookup_of},
    outcome::{Caller, StaleEntry, Verdict},
};
use crate::{
    BorrowedKey, Cache, Error, ErrorKind, Key, Result, Value,
    cache::LoaderStart,
    flight::{Intent, JoinMode},
    freshness::{ReadBound, ReadMode},
    near::{Near, TenantKey, TenantKeyRef},
    overload::is_reentrant,
    recorder::RecordedOp,
};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::time::Instant;

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// Reads a key that the near tier could not answer. `near` is the entry of the near tier that does
    /// not answer, if there is one.
    #[cold]
    pub(crate) fn read_one<'a>(
        &'a self,
        key: K,
        near: NearMiss<V>,
        loader: Option<LoaderStart<'a, K, V>>,
    ) -> BoxFuture<'a, Answer<V>> {
        self.inner.note_request(RecordedOp::Get, self.chain.tenant, &key);
        match &self.inner.classes {
            None => self.read_uncounted(key, near, loader),
            Some(classes) => Box::pin(async move {
                let class = classes.of(&key);
                let answer = self.read_uncounted(key, near, loader).await;
                classes.count(class, &answer);
                answer
            }),
        }
    }

    fn read_uncounted<'a>(
        &'a self,
        key: K,
        near: NearMiss<V>,
        loader: Option<LoaderStart<'a, K, V>>,
    ) -> BoxFuture<'a, Answer<V>> {
        let loader = loader.or_else(|| self.bound_loader());
        if self.mode == ReadMode::StoreOnly {
            return Box::pin(self.read_strong(key, loader));
        }
        if loader.is_none() && self.flies_past() {
            return Box::pin(self.read_past_flights(key));
        }
        Box::pin(self.read_in_flight(key, near, loader))
    }

    /// Whether a read without a loader needs no flight: this process keeps no copy that a write could overtake,
    /// and the tiers' batchers let concurrent reads share round trips.
    pub(super) fn flies_past(&self) -> bool {
        !self.inner.near.is_enabled() && self.inner.fencing.has_leases()
    }

    /// Whether a read without a loader of its own asks nobody but the near tier.
    pub(crate) fn asks_nobody(&self) -> bool {
        self.chain.is_local() && self.inner.loader.is_none()
    }

    /// Reads a key that the near tier could not answer, in a cache that has nobody else to ask. Such a read
    /// needs no flight.
    pub(crate) fn read_near_alone<Q>(&self, key: &Q, near: NearMiss<V>) -> Answer<V>
    where
        Q: BorrowedKey<K> + ?Sized,
    {
        self.begin_read(false)?;
        self.inner.note_request(RecordedOp::Get, self.chain.tenant, key);
        let key_ref = TenantKeyRef { tenant: self.chain.tenant, key };
        let answer = match self.judge_near(&key_ref, near, Intent::Read) {
            StaleEntry::Serve(hit) | StaleEntry::ServeAndRefresh(hit) => Ok(Some(hit)),
            StaleEntry::Keep(_) => Ok(None),
        };
        if let Some(classes) = &self.inner.classes {
            classes.count(classes.of(&key.to_key()), &answer);
        }
        answer
    }

    /// The bound of a read that begins now. Each read calls this function once.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::Closed`] after the end of the cache, with
    /// [`ErrorKind::Unsupported`] where the cache cannot answer the level, and with [`ErrorKind::Config`]
    /// where a call that needs one has no runtime. `loads` says that the call has a loader.
    pub(crate) fn begin_read(&self, loads: bool) -> Result<ReadBound> {
        self.inner.begin_call(&self.chain, loads)?;
        self.inner.coherence.wake_log();
        if self.mode == ReadMode::Refused {
            let message = "this level reads the store, and the cache has no store";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        Ok(ReadBound { called_at: self.inner.clock.now(), oldest_proof: self.oldest_proof() })
    }

    fn bound_loader<'a>(&self) -> Option<LoaderStart<'a, K, V>> {
        let loader = self.inner.loader.clone()?;
        Some(Box::new(move |request| match request.keys.next() {
            Some((_, key)) => loader(key).map(|item| vec![item.map(Some)]).boxed(),
            None => async { Vec::new() }.boxed(),
        }))
    }

    async fn read_in_flight(
        &self,
        key: K,
        near: NearMiss<V>,
        mut loader: Option<LoaderStart<'_, K, V>>,
    ) -> Answer<V> {
        let bound = self.begin_read(loader.is_some())?;
        let intent = if loader.is_some() { Intent::Load } else { Intent::Read };
        let key = self.tenant_key(key);
        let stale = match self.judge_near(&*key, near, intent) {
            StaleEntry::Serve(hit) => return Ok(Some(hit)),
            StaleEntry::ServeAndRefresh(hit) => {
                self.revalidate(vec![(0, key)], loader, Some(hit.clone()));
                return Ok(Some(hit));
            }
            StaleEntry::Keep(entry) => entry,
        };
        let mut rounds = Rounds::new(self.join_mode());
        loop {
            let mode = rounds.mode();
            let ticket = self.join(&key, intent, mode, bound.oldest_proof);
            if let Some(answer) = self.answer_before_lookup(&ticket) {
                return answer;
            }
            let outcome = match self.stand_in_for_store(intent, stale.as_ref()) {
                None => Ok(lookup_of(&ticket).await),
                Some(stale) => self.or_stale(&key, stale, Instant::now(), lookup_of(&ticket)).await,
            };
            let outcome = match outcome {
                Ok(Some(outcome)) => outcome,
                Ok(None) => {
                    rounds.next();
                    continue;
                }
                Err(answer) => {
                    self.finish_lookup(ticket);
                    return answer;
                }
            };
            let caller = Caller { ticket: Some(&ticket), intent, mode, bound };
            match self.judge(&caller, outcome, stale.clone()) {
                Verdict::Answer { answer, refresh } => {
                    if refresh && (loader.is_some() || !intent.loads()) {
                        self.revalidate(vec![(0, key)], loader, answer.clone().unwrap_or_default());
                    }
                    return answer;
                }
                Verdict::Again => {}
                Verdict::AgainForLoad => {
                    rounds.for_loads();
                    continue;
                }
                Verdict::Load(miss) => {
                    let mut miss = MissedKey { index: 0, ticket, miss, ended: 0 };
                    let loaded = match self.follow(&mut miss, bound).await {
                        Some(followed) => followed,
                        // The load stage is boxed, so that a hit does not pay for its stack size.
                        None => Box::pin(self.load_one(miss, &mut loader, bound)).await,
                    };
                    if let Ok(answer) = loaded {
                        return answer;
                    }
                }
            }
            rounds.next();
            // Meanwhile the log may have proven a near copy, or a load may have left a copy in the near
            // tier.
            if let Ok(hit) = self.near_hit_after_miss(&key.key, intent.loads()) {
                return Ok(hit);
            }
        }
    }

    /// The answer that a caller with a loader has before any lookup, if it has one. Such a caller has an
    /// answer in two cases:
    ///
    /// - The caller runs inside the load of the same flight: the answer is an error.
    /// - The cache has only the near tier, and a load has left a value in the near tier since the caller
    ///   looked there.
    pub(super) fn answer_before_lookup(&self, ticket: &CacheTicket<K, V>) -> Option<Answer<V>> {
        if !ticket.intent().loads() {
            return None;
        }
        if ticket.joined() && is_reentrant(ticket.flight().id) {
            return Some(Err(reentrant_error()));
        }
        // Where no other tier has the value, a lookup would miss, and a second load would run.
        let key = &ticket.key().key;
        let key_ref = TenantKeyRef { tenant: self.chain.tenant, key };
        let is_there = self.chain.is_local() && self.inner.near.holds(&key_ref);
        is_there.then(|| self.near_hit_after_miss(key, true).ok().map(Ok)).flatten()
    }

    /// A plain read of a cache without a near tier, outside of any flight.
    async fn read_past_flights(&self, key: K) -> Answer<V> {
        let bound = self.begin_read(false)?;
        let key = TenantKey { tenant: self.chain.tenant, key };
        let pass = LookupPass::new(&self.inner, &self.chain, Intent::Read, bound.oldest_proof);
        let outcome = pass.look_up(&key, None).await;
        let caller = Caller { ticket: None, intent: Intent::Read, mode: JoinMode::Separate, bound };
        match self.judge(&caller, outcome, None) {
            Verdict::Answer { answer, refresh } => {
                if refresh {
                    self.revalidate(vec![(0, Arc::new(key))], None, None);
                }
                answer
            }
            Verdict::Again | Verdict::AgainForLoad | Verdict::Load(_) => Ok(None),
        }
    }

    /// Reads the source of truth past all copies, and replaces the copies.
    pub(crate) async fn read_anew(&self, key: K, loader: LoaderStart<'_, K, V>) -> Answer<V> {
        let bound = self.begin_read(true)?;
        let key = self.tenant_key(key);
        let (intent, mut mode) = (Intent::Refresh, JoinMode::Replace);
        let (ticket, outcome) = loop {
            let ticket = self.join(&key, intent, mode, bound.oldest_proof);
            if let Some(outcome) = lookup_of(&ticket).await {
                break (ticket, outcome);
            }
            mode = JoinMode::Separate;
        };
        let caller = Caller { ticket: Some(&ticket), intent, mode, bound };
        match self.judge(&caller, outcome, None) {
            Verdict::Answer { answer, .. } => answer,
            Verdict::Again | Verdict::AgainForLoad => Ok(None),
            Verdict::Load(miss) => {
                let miss = MissedKey { index: 0, ticket, miss, ended: 0 };
                let loaded = self.load_one(miss, &mut Some(loader), bound).await;
                // The flight began with this call, so any loader that ran in the flight ran after the
                // call.
                loaded.unwrap_or_else(|late| Ok(self.handle(late.entry, late.source, true)))
            }
        }
    }
}

pub(super) fn reentrant_error() -> Error {
    let message = "a loader asked for the key that it is loading, and would wait for itself";
    Error::new(ErrorKind::Reentrant, message)
}
