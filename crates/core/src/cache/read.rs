//! Reads beyond the near tier: boarding the key's flight, its lookup, its load.

use std::{hash::Hash, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};

use super::{
    Cache,
    inner::{Inner, Looked, Lookup, Missed, NEAR},
    load::{CacheTicket, LoadSeat, alone, is_reentrant},
    lookup::Seat,
};
use crate::{
    Cached, Coalesce, Entry, Error, ErrorKind, Event, Item, Near, OnStale, Result, Source, Token,
    flight::{Boarding, Entered, Errand, FlightId, Landing},
    near::{Probe, Scoped},
    switch::{Defence, stands},
};

/// What a loader may look at while it loads.
#[non_exhaustive]
pub struct Loading<V> {
    /// The value that is to be renewed, where a stale one is still known.
    pub stale: Option<Cached<V>>,
}

/// What the near tier has of a key that it could not answer for.
pub(super) type Seen<V> = Option<Arc<Entry<V>>>;

/// Starts the caller's loader; called at most once, on a miss only.
pub(crate) type Start<'a, V> = Box<dyn FnOnce(Loading<V>) -> BoxFuture<'static, Result<Item<V>>> + Send + 'a>;

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
        if self.inner.keeps_nothing_read() {
            return Box::pin(self.read_past_flights(key));
        }
        Box::pin(async move {
            self.inner.check_open()?;
            let key = self.scoped(key);
            let stale = match self.near_stale(seen, self.chain.store.is_some()) {
                NearStale::Serve(hit) => return Ok(Some(hit)),
                NearStale::Refresh(hit) => {
                    self.renew(key, None);
                    return Ok(Some(hit));
                }
                NearStale::Keep(entry) => entry,
            };
            let ticket = self.board(&key, Errand::Read, self.boarding());
            match self.lookup_of(&ticket).await {
                Looked::Found(entry, source) => Ok(self.found(&ticket, entry, source)),
                Looked::Failed(error, seen) => self.stale_or(seen.or(stale), error),
                Looked::Missed(missed) => Ok(self.loaded_meanwhile(&ticket, missed.stale)),
            }
        })
    }

    /// A plain read of a cache that keeps nothing of it in this process: there is nothing to fence,
    /// and what callers could share is a trip, which the tiers' gates share.
    async fn read_past_flights(&self, key: K) -> Result<Option<Cached<V>>> {
        self.inner.check_open()?;
        let key = Scoped { tenant: self.chain.tenant, key };
        match self.inner.walk_guarded(&self.chain, &key, None, Errand::Read).await {
            Looked::Found(entry, source) => {
                if self.is_to_be_refreshed(&entry) {
                    self.renew(Arc::new(key), None);
                }
                Ok(self.handle(entry, source, false))
            }
            Looked::Failed(error, stale) => self.stale_or(stale, error),
            Looked::Missed(_) => Ok(None),
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
        Box::pin(async move {
            self.inner.check_open()?;
            let key = self.scoped(key);
            let stale = match self.near_stale(seen, true) {
                NearStale::Serve(hit) => return Ok(Some(hit)),
                NearStale::Refresh(hit) => {
                    let stale = Some(hit.clone());
                    self.renew(key, Some(start(Loading { stale })));
                    return Ok(Some(hit));
                }
                NearStale::Keep(entry) => entry,
            };
            let mut how = self.boarding();
            loop {
                let ticket = self.board(&key, Errand::Load, how);
                if ticket.joined() && is_reentrant(ticket.flight().id) {
                    return Err(reentrant_error());
                }
                // Another's load may have landed between the look at near and boarding; where no
                // tier has it, it would be loaded twice.
                if self.chain.is_local()
                    && self.inner.near.holds(&Probe { tenant: key.tenant, key: &key.key })
                    && let Ok(hit) = self.near_hit(&key.key, true)
                {
                    return Ok(hit);
                }
                let mut missed = match self.lookup_of(&ticket).await {
                    // A plain read's answer: this caller's loader may create the row.
                    Looked::Found(entry, _) if self.is_no_row(&entry) && how == Boarding::Join => {
                        how = Boarding::JoinLoad;
                        continue;
                    }
                    Looked::Found(entry, source) => {
                        return Ok(self.found_to_load(&ticket, entry, source, start));
                    }
                    Looked::Failed(error, seen) => return self.stale_or(seen.or(stale), error),
                    Looked::Missed(missed) => missed,
                };
                if let Some(hit) = self.loaded_meanwhile(&ticket, missed.stale.clone()) {
                    return Ok(Some(hit));
                }
                missed.stale = missed.stale.or(stale);
                return self.load(ticket, missed, start).await;
            }
        })
    }

    /// A read of the truth, past what the caches have.
    pub(super) async fn load_anew(&self, key: K, start: Start<'_, V>) -> Result<Option<Cached<V>>> {
        self.inner.check_open()?;
        let key = self.scoped(key);
        let ticket = self.board(&key, Errand::Anew, Boarding::Replace);
        match self.lookup_of(&ticket).await {
            Looked::Found(entry, source) => Ok(self.handle(entry, source, false)),
            Looked::Failed(error, stale) => self.stale_or(stale, error),
            Looked::Missed(missed) => self.load(ticket, missed, start).await,
        }
    }

    /// The load stage: leads the load, or follows another caller's.
    async fn load(
        &self,
        ticket: CacheTicket<K, V>,
        missed: Missed<V>,
        start: Start<'_, V>,
    ) -> Result<Option<Cached<V>>> {
        let stale = missed.stale.clone();
        let mut panicked = 0;
        let (promise, led) = loop {
            match ticket.flight().load.enter(panicked) {
                Entered::Lead(lead) => {
                    let promise = lead.promise();
                    let seen = stale.clone().and_then(|entry| self.handle(entry, Source::Near, false));
                    let load = alone(start(Loading { stale: seen }));
                    let mut missed = missed;
                    if panicked > 0 {
                        // The lease was the panicked load's: it may be another process' turn.
                        missed.token = Token::NONE;
                    }
                    let seat = LoadSeat { held: None, ticket: ticket.again(), lead, missed };
                    self.inner.spawn_load(&self.chain, vec![seat], load);
                    break (promise, true);
                }
                Entered::Follow(promise, attempt) => match promise.wait().await {
                    Landing::Panicked => panicked = attempt,
                    Landing::Done(_) | Landing::Abandoned => break (promise, false),
                },
                Entered::GaveUp => return Err(panicked_error()),
            }
        };
        match promise.wait().await {
            Landing::Done(Ok((entry, source))) => {
                if !led {
                    self.inner.tell(&Event::Coalesced);
                }
                Ok(self.handle(entry, source, !led))
            }
            Landing::Done(Err(error)) => self.stale_or(stale, error),
            Landing::Panicked => Err(panicked_error()),
            Landing::Abandoned => Err(shut_down_error()),
        }
    }

    /// Renews a stale entry off the caller's path; not if a flight for the key is under way.
    fn renew(&self, key: Arc<Scoped<K>>, load: Option<BoxFuture<'static, Result<Item<V>>>>) {
        if self.inner.flights.is_flying(&key) {
            return;
        }
        if load.is_none() && self.chain.store.is_none() {
            return;
        }
        let ticket = self.board(&key, Errand::Renew, self.boarding());
        let cache = self.clone();
        self.inner.tasks.spawn(async move {
            let looked = cache.lookup_of(&ticket).await;
            let (Looked::Missed(missed), Some(load)) = (looked, load) else { return };
            if let Entered::Lead(lead) = ticket.flight().load.enter(0) {
                let seat = LoadSeat { held: None, ticket, lead, missed };
                cache.inner.spawn_load(&cache.chain, vec![seat], alone(load));
            }
        });
    }

    pub(super) fn scoped(&self, key: K) -> Arc<Scoped<K>> {
        Arc::new(Scoped { tenant: self.chain.tenant, key })
    }

    /// How the stampede policy has callers share a flight.
    pub(super) fn boarding(&self) -> Boarding {
        match self.inner.policies.coalesce {
            Coalesce::Nobody => Boarding::Beside,
            Coalesce::Local | Coalesce::Lease | Coalesce::LeaseOrStale => Boarding::Join,
        }
    }

    /// Boards the key's flight, with a lookup for this key alone if it is new.
    pub(super) fn board(&self, key: &Arc<Scoped<K>>, errand: Errand, how: Boarding) -> CacheTicket<K, V> {
        self.inner.flights.board(key, errand, how, |id| self.lookup_alone(key, id, errand))
    }

    fn lookup_alone(&self, key: &Arc<Scoped<K>>, id: FlightId, errand: Errand) -> Lookup<V> {
        let seat = Seat { key: Arc::clone(key), id, instead: Token::NONE };
        let lookup = Inner::look_up(Arc::clone(&self.inner), Arc::clone(&self.chain), seat, errand);
        Lookup::Alone(lookup.boxed().shared())
    }

    pub(super) async fn lookup_of(&self, ticket: &CacheTicket<K, V>) -> Looked<V> {
        let (group, index) = match &ticket.flight().lookup {
            Lookup::Alone(lookup) => return lookup.clone().await,
            Lookup::Grouped { group, index } => (group.clone(), *index),
        };
        match group.await.get(index) {
            Some(looked) => looked.clone(),
            None => Looked::Failed(Error::new(ErrorKind::Backend, "the lookup lost a key"), None),
        }
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
        start: Start<'_, V>,
    ) -> Option<Cached<V>> {
        if self.is_to_be_refreshed(&entry) {
            let stale = self.handle(Arc::clone(&entry), source, false);
            self.renew(Arc::clone(ticket.key()), Some(start(Loading { stale })));
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

    pub(super) fn is_to_be_refreshed(&self, entry: &Entry<V>) -> bool {
        let stale = !entry.is_fresh(self.inner.clock.now());
        stale && self.inner.on_stale(&entry.deadlines(), true) == OnStale::ServeAndRefresh
    }

    /// Whether an entry is a store's 'no row': it answers plain reads, never a caller with a loader.
    pub(super) fn is_no_row(&self, entry: &Entry<V>) -> bool {
        entry.value().is_none() && self.chain.store.is_some() && stands(Defence::NoRow)
    }

    /// What another caller has loaded since the lookup, or has stale while it loads. Its loader's error
    /// is not a plain reader's.
    pub(super) fn loaded_meanwhile(
        &self,
        ticket: &CacheTicket<K, V>,
        stale: Option<Arc<Entry<V>>>,
    ) -> Option<Cached<V>> {
        match ticket.flight().load.result() {
            Some(Ok((entry, source))) => self.handle(entry, source, true),
            _ => self.stale_meanwhile(ticket, stale),
        }
    }

    /// The stale entry, for a reader that came upon its renewal by another and may have it so.
    pub(super) fn stale_meanwhile(
        &self,
        ticket: &CacheTicket<K, V>,
        stale: Option<Arc<Entry<V>>>,
    ) -> Option<Cached<V>> {
        let entry = stale.filter(|_| ticket.joined())?;
        // A refresh passes over fresh copies too; whoever joined it may have them.
        if entry.is_fresh(self.inner.clock.now()) {
            return self.handle(entry, Source::Near, true);
        }
        if self.inner.on_stale(&entry.deadlines(), true) == OnStale::Miss {
            return None;
        }
        self.inner.tell(&Event::StaleServed);
        self.handle(entry, Source::Near, true)
    }

    /// The handle of an entry; `None` for a negative one.
    pub(super) fn handle(&self, entry: Arc<Entry<V>>, source: Source, coalesced: bool) -> Option<Cached<V>> {
        Cached::beyond(entry, self.inner.clock.now(), source, coalesced)
    }

    /// The stale entry instead of an error, where the freshness policy allows it.
    pub(super) fn stale_or(&self, stale: Option<Arc<Entry<V>>>, error: Error) -> Result<Option<Cached<V>>> {
        match stale {
            Some(entry) if self.inner.serves_on_error(&entry.deadlines()) => {
                self.inner.tell(&Event::StaleServed);
                Ok(self.handle(entry, Source::Near, false))
            }
            _ => Err(error),
        }
    }

    /// What to do with what the near tier has of a key, which is nothing fresh.
    pub(super) fn near_stale(&self, seen: Seen<V>, renewable: bool) -> NearStale<V> {
        let inner = &self.inner;
        let Some(entry) = seen else {
            if inner.near.is_enabled() {
                inner.tell_near(&Event::Miss { tier: NEAR });
            }
            return NearStale::Keep(None);
        };
        inner.tell_near(&Event::Miss { tier: NEAR });
        if entry.value().is_none() {
            return NearStale::Keep(None);
        }
        // Fresh, but not proven: it serves where what is further down fails, if at all.
        if entry.is_fresh(inner.clock.now()) {
            return NearStale::Keep(Some(entry));
        }
        let verdict = inner.on_stale(&entry.deadlines(), renewable || inner.loader.is_some());
        if verdict == OnStale::Miss {
            return NearStale::Keep(Some(entry));
        }
        inner.tell(&Event::StaleServed);
        let Some(hit) = self.handle(entry, Source::Near, false) else { return NearStale::Keep(None) };
        match verdict {
            OnStale::ServeAndRefresh => NearStale::Refresh(hit),
            _ => NearStale::Serve(hit),
        }
    }
}

/// What to do with a stale near entry.
pub(super) enum NearStale<V> {
    Serve(Cached<V>),
    Refresh(Cached<V>),
    /// Go on; keep it in case the renewal fails.
    Keep(Option<Arc<Entry<V>>>),
}

pub(super) fn reentrant_error() -> Error {
    Error::new(
        ErrorKind::Reentrant,
        "a loader asked for the key that it is loading; it would wait for itself",
    )
}

pub(super) fn panicked_error() -> Error {
    Error::new(ErrorKind::Panicked, "the loader panicked, and so did the one that took over, if any")
}

pub(super) fn shut_down_error() -> Error {
    Error::new(ErrorKind::Closed, "the runtime of the cache has shut down")
}
