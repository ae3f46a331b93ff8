//! Reads beyond the near tier: boarding the key's flight, its lookup, its load.

use std::{hash::Hash, sync::Arc};

use futures_util::future::BoxFuture;

use super::{
    Cache,
    board::Rounds,
    errors::{panicked_error, reentrant_error, shut_down_error},
    load::{LoadSeat, is_reentrant},
    loading::{LoadContext, Start, alone},
    looked::{CacheTicket, LookupOutcome, Missed, Seen},
    reading::ReadMode,
    stale::NearStale,
};
use crate::{
    Cached, Entry, Event, Item, Near, Result, Source, Token,
    defence::{Defence, enabled},
    flight::{Intent, JoinMode, LoadOutcome, LoadRole},
    near::TenantKey,
};

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    /// A read without a loader of the caller's.
    #[cold]
    pub(super) fn read_cold(&self, key: K, seen: Seen<V>) -> BoxFuture<'_, Result<Option<Cached<V>>>> {
        if let Some(loader) = self.inner.loader.clone() {
            let owned = key.clone();
            return self.load_cold(key, seen, Box::new(move |_| loader(owned)));
        }
        if self.reading == ReadMode::Truth {
            return Box::pin(self.read_truth(key));
        }
        if self.inner.keeps_nothing_read() {
            return Box::pin(self.read_past_flights(key));
        }
        Box::pin(async move {
            self.check_readable()?;
            let asked = self.asked();
            let key = self.scoped(key);
            let stale = match self.near_stale(seen, self.chain.store.is_some()) {
                NearStale::Serve(hit) => return Ok(Some(hit)),
                NearStale::Refresh(hit) => {
                    self.renew(key, None);
                    return Ok(Some(hit));
                }
                NearStale::Keep(entry) => entry,
            };
            let mut rounds = Rounds::new(self.boarding());
            loop {
                let ticket = self.board(&key, Intent::Read, rounds.how(), asked.oldest);
                let looked = self.lookup_of(&ticket).await;
                if self.came_late(&ticket, &looked, asked) {
                    match self.again(&mut rounds, &key.key, false) {
                        Some(hit) => return Ok(hit),
                        None => continue,
                    }
                }
                return match looked {
                    LookupOutcome::Found(entry, source) => Ok(self.found(&ticket, entry, source)),
                    LookupOutcome::Failed(error, seen) => self.stale_or(seen.or(stale), error),
                    LookupOutcome::Missed(missed) => Ok(self.loaded_meanwhile(&ticket, missed.stale, asked)),
                };
            }
        })
    }

    /// A plain read of a cache that keeps nothing of it in this process: there is nothing to fence,
    /// and what callers could share is a trip, which the tiers' gates share.
    async fn read_past_flights(&self, key: K) -> Result<Option<Cached<V>>> {
        self.check_readable()?;
        let (key, oldest) = (TenantKey { tenant: self.chain.tenant, key }, self.oldest());
        match self.inner.walk_guarded(&self.chain, &key, None, Intent::Read, oldest).await {
            LookupOutcome::Found(entry, source) => {
                if self.is_to_be_refreshed(&entry) {
                    self.renew(Arc::new(key), None);
                }
                Ok(self.handle(entry, source, false))
            }
            LookupOutcome::Failed(error, stale) => self.stale_or(stale, error),
            LookupOutcome::Missed(_) => Ok(None),
        }
    }

    /// A read that may load.
    #[cold]
    pub(super) fn load_cold<'a>(
        &'a self,
        key: K,
        seen: Seen<V>,
        start: Start<'a, V>,
    ) -> BoxFuture<'a, Result<Option<Cached<V>>>> {
        if self.reading == ReadMode::Truth {
            return Box::pin(self.load_truth(key, start));
        }
        Box::pin(async move {
            self.check_readable()?;
            let asked = self.asked();
            let key = self.scoped(key);
            let stale = match self.near_stale(seen, true) {
                NearStale::Serve(hit) => return Ok(Some(hit)),
                NearStale::Refresh(hit) => {
                    let stale = Some(hit.clone());
                    self.renew(key, Some(start(LoadContext { stale })));
                    return Ok(Some(hit));
                }
                NearStale::Keep(entry) => entry,
            };
            let (mut start, mut rounds) = (Some(start), Rounds::new(self.boarding()));
            loop {
                let how = rounds.how();
                let ticket = self.board(&key, Intent::Load, how, asked.oldest);
                if ticket.joined() && is_reentrant(ticket.flight().id) {
                    return Err(reentrant_error());
                }
                if let Some(hit) = self.landed(&key.key) {
                    return Ok(hit);
                }
                let looked = self.lookup_of(&ticket).await;
                if self.came_late(&ticket, &looked, asked) {
                    match self.again(&mut rounds, &key.key, true) {
                        Some(hit) => return Ok(hit),
                        None => continue,
                    }
                }
                let mut missed = match looked {
                    // A plain read's answer: this caller's loader may create the row.
                    LookupOutcome::Found(entry, _) if self.is_no_row(&entry) && how == JoinMode::Join => {
                        rounds.for_loads();
                        continue;
                    }
                    LookupOutcome::Found(entry, source) => {
                        return Ok(self.found_to_load(&ticket, entry, source, start.take()));
                    }
                    LookupOutcome::Failed(error, seen) => return self.stale_or(seen.or(stale), error),
                    LookupOutcome::Missed(missed) => missed,
                };
                if let Some(hit) = self.loaded_meanwhile(&ticket, missed.stale.clone(), asked) {
                    return Ok(Some(hit));
                }
                // The lookup may have been another's, made for less.
                missed.oldest = asked.oldest;
                missed.stale = missed.stale.or_else(|| stale.clone());
                let seen = missed.stale.clone();
                match self.load(ticket, missed, &mut start).await {
                    // Begun too long before this call: whoever led it has an answer, and this has none.
                    Ok(loaded) if !loaded.led && !self.suffices(&loaded.entry, asked) => {
                        if let Some(hit) = self.again(&mut rounds, &key.key, true) {
                            return Ok(hit);
                        }
                    }
                    Ok(Led { entry, source, led }) => return Ok(self.handle(entry, source, !led)),
                    Err(error) => return self.stale_or(seen, error),
                }
            }
        })
    }

    /// A read of the truth, past what the caches have.
    pub(super) async fn load_anew(&self, key: K, start: Start<'_, V>) -> Result<Option<Cached<V>>> {
        self.check_readable()?;
        let key = self.scoped(key);
        let ticket = self.board(&key, Intent::Refresh, JoinMode::Replace, self.oldest());
        match self.lookup_of(&ticket).await {
            LookupOutcome::Found(entry, source) => Ok(self.handle(entry, source, false)),
            LookupOutcome::Failed(error, stale) => self.stale_or(stale, error),
            LookupOutcome::Missed(missed) => {
                let stale = missed.stale.clone();
                match self.load(ticket, missed, &mut Some(start)).await {
                    Ok(Led { entry, source, led }) => Ok(self.handle(entry, source, !led)),
                    Err(error) => self.stale_or(stale, error),
                }
            }
        }
    }

    /// The load stage: leads the load, with `start`, or follows another caller's, and leaves it.
    pub(super) async fn load(
        &self,
        ticket: CacheTicket<K, V>,
        missed: Missed<V>,
        start: &mut Option<Start<'_, V>>,
    ) -> Result<Led<V>> {
        let mut panicked = 0;
        let (promise, led) = loop {
            match ticket.flight().load.enter(panicked) {
                LoadRole::Leader(lead) => {
                    let promise = lead.promise();
                    let Some(start) = start.take() else { return Err(panicked_error()) };
                    let began = self.inner.clock.now();
                    let stale = missed.stale.clone();
                    let stale = stale.and_then(|entry| self.handle(entry, Source::Near, false));
                    let load = alone(start(LoadContext { stale }));
                    let mut missed = missed;
                    if panicked > 0 {
                        // The lease was the panicked load's: it may be another process' turn.
                        missed.token = Token::NONE;
                    }
                    let seat = LoadSeat { held: None, ticket: ticket.again(), lead, missed, began };
                    self.inner.spawn_load(&self.chain, vec![seat], load);
                    break (promise, true);
                }
                LoadRole::Follower(promise, attempt) => match promise.wait().await {
                    LoadOutcome::Panicked => panicked = attempt,
                    LoadOutcome::Done(_) | LoadOutcome::Abandoned => break (promise, false),
                },
                LoadRole::GaveUp => return Err(panicked_error()),
            }
        };
        match promise.wait().await {
            LoadOutcome::Done(Ok((entry, source))) => {
                if !led {
                    self.inner.tell(&Event::Coalesced);
                }
                Ok(Led { entry, source, led })
            }
            LoadOutcome::Done(Err(error)) => Err(error),
            LoadOutcome::Panicked => Err(panicked_error()),
            LoadOutcome::Abandoned => Err(shut_down_error()),
        }
    }

    /// Renews a stale entry off the caller's path; not if a flight for the key is under way.
    fn renew(&self, key: Arc<TenantKey<K>>, load: Option<BoxFuture<'static, Result<Item<V>>>>) {
        if self.inner.flights.is_flying(&key) {
            return;
        }
        if load.is_none() && self.chain.store.is_none() {
            return;
        }
        let began = self.inner.clock.now();
        let ticket = self.board(&key, Intent::Revalidate, self.boarding(), self.oldest());
        let cache = self.clone();
        self.inner.tasks.spawn(async move {
            let looked = cache.lookup_of(&ticket).await;
            let (LookupOutcome::Missed(missed), Some(load)) = (looked, load) else { return };
            if let LoadRole::Leader(lead) = ticket.flight().load.enter(0) {
                let seat = LoadSeat { held: None, ticket, lead, missed, began };
                cache.inner.spawn_load(&cache.chain, vec![seat], alone(load));
            }
        });
    }

    /// What a lookup found, as this caller gets it.
    fn found(&self, ticket: &CacheTicket<K, V>, entry: Arc<Entry<V>>, source: Source) -> Option<Cached<V>> {
        if self.is_to_be_refreshed(&entry) {
            self.renew(Arc::clone(ticket.key()), None);
        }
        self.share(ticket, entry, source)
    }

    fn found_to_load(
        &self,
        ticket: &CacheTicket<K, V>,
        entry: Arc<Entry<V>>,
        source: Source,
        start: Option<Start<'_, V>>,
    ) -> Option<Cached<V>> {
        if let Some(start) = start.filter(|_| self.is_to_be_refreshed(&entry)) {
            let stale = self.handle(Arc::clone(&entry), source, false);
            self.renew(Arc::clone(ticket.key()), Some(start(LoadContext { stale })));
        }
        self.share(ticket, entry, source)
    }

    pub(super) fn share(
        &self,
        ticket: &CacheTicket<K, V>,
        entry: Arc<Entry<V>>,
        source: Source,
    ) -> Option<Cached<V>> {
        if ticket.joined() {
            self.inner.tell(&Event::Coalesced);
        }
        self.handle(entry, source, ticket.joined())
    }

    /// Whether an entry is a store's 'no row': it answers plain reads, never a caller with a loader.
    pub(super) fn is_no_row(&self, entry: &Entry<V>) -> bool {
        entry.value().is_none() && self.chain.store.is_some() && enabled(Defence::NoRow)
    }

    /// The handle of an entry; `None` for a negative one.
    pub(super) fn handle(&self, entry: Arc<Entry<V>>, source: Source, coalesced: bool) -> Option<Cached<V>> {
        Cached::far(entry, self.inner.clock.now(), source, coalesced)
    }
}

/// What a load gave.
pub(super) struct Led<V> {
    pub(super) entry: Arc<Entry<V>>,
    pub(super) source: Source,
    /// Whether this caller led it.
    pub(super) led: bool,
}
