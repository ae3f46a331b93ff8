//! Reads beyond the near tier: boarding the key's flight, its lookup, its load.

use std::{hash::Hash, sync::Arc};

use futures_util::{FutureExt, future::BoxFuture};

use super::{
    Cache,
    inner::{Inner, Looked, Lookup, Missed, NEAR},
    level::Reading,
    load::{CacheTicket, LoadSeat, alone, is_reentrant},
    lookup::Seat,
};
use crate::{
    Cached, Coalesce, Entry, Error, ErrorKind, Event, Item, Near, OnStale, Result, Source, Timestamp, Token,
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
        if self.reading == Reading::Truth {
            return Box::pin(self.read_truth(key));
        }
        if self.inner.keeps_nothing_read() {
            return Box::pin(self.read_past_flights(key));
        }
        Box::pin(async move {
            self.check_readable()?;
            let oldest = self.oldest();
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
                let ticket = self.board(&key, Errand::Read, rounds.how(), oldest);
                let looked = self.lookup_of(&ticket).await;
                if self.came_late(&ticket, &looked, oldest) {
                    rounds.next();
                    // What was told since may prove what near has.
                    if let Ok(hit) = self.near_hit(&key.key, false) {
                        return Ok(hit);
                    }
                    continue;
                }
                return match looked {
                    Looked::Found(entry, source) => Ok(self.found(&ticket, entry, source)),
                    Looked::Failed(error, seen) => self.stale_or(seen.or(stale), error),
                    Looked::Missed(missed) => Ok(self.loaded_meanwhile(&ticket, missed.stale, oldest)),
                };
            }
        })
    }

    /// A plain read of a cache that keeps nothing of it in this process: there is nothing to fence,
    /// and what callers could share is a trip, which the tiers' gates share.
    async fn read_past_flights(&self, key: K) -> Result<Option<Cached<V>>> {
        self.check_readable()?;
        let (key, oldest) = (Scoped { tenant: self.chain.tenant, key }, self.oldest());
        match self.inner.walk_guarded(&self.chain, &key, None, Errand::Read, oldest).await {
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
        if self.reading == Reading::Truth {
            return Box::pin(self.load_truth(key, start));
        }
        Box::pin(async move {
            self.check_readable()?;
            let oldest = self.oldest();
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
            let (mut start, mut rounds) = (Some(start), Rounds::new(self.boarding()));
            loop {
                let how = rounds.how();
                let ticket = self.board(&key, Errand::Load, how, oldest);
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
                let looked = self.lookup_of(&ticket).await;
                if self.came_late(&ticket, &looked, oldest) {
                    rounds.next();
                    if let Ok(hit) = self.near_hit(&key.key, true) {
                        return Ok(hit);
                    }
                    continue;
                }
                let mut missed = match looked {
                    // A plain read's answer: this caller's loader may create the row.
                    Looked::Found(entry, _) if self.is_no_row(&entry) && how == Boarding::Join => {
                        rounds.for_loads();
                        continue;
                    }
                    Looked::Found(entry, source) => {
                        return Ok(self.found_to_load(&ticket, entry, source, start.take()));
                    }
                    Looked::Failed(error, seen) => return self.stale_or(seen.or(stale), error),
                    Looked::Missed(missed) => missed,
                };
                if let Some(hit) = self.loaded_meanwhile(&ticket, missed.stale.clone(), oldest) {
                    return Ok(Some(hit));
                }
                missed.stale = missed.stale.or_else(|| stale.clone());
                let seen = missed.stale.clone();
                match self.load(ticket, missed, &mut start).await {
                    // Begun too long before this call: whoever led it has an answer, and this has none.
                    Ok(loaded) if !loaded.led && !self.suffices(&loaded.entry, oldest) => {
                        rounds.next();
                        if let Ok(hit) = self.near_hit(&key.key, true) {
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
        let ticket = self.board(&key, Errand::Anew, Boarding::Replace, self.oldest());
        match self.lookup_of(&ticket).await {
            Looked::Found(entry, source) => Ok(self.handle(entry, source, false)),
            Looked::Failed(error, stale) => self.stale_or(stale, error),
            Looked::Missed(missed) => {
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
                Entered::Lead(lead) => {
                    let promise = lead.promise();
                    let Some(start) = start.take() else { return Err(panicked_error()) };
                    let began = self.inner.clock.now();
                    let stale = missed.stale.clone();
                    let stale = stale.and_then(|entry| self.handle(entry, Source::Near, false));
                    let load = alone(start(Loading { stale }));
                    let mut missed = missed;
                    if panicked > 0 {
                        // The lease was the panicked load's: it may be another process' turn.
                        missed.token = Token::NONE;
                    }
                    let seat = LoadSeat { held: None, ticket: ticket.again(), lead, missed, began };
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
                Ok(Led { entry, source, led })
            }
            Landing::Done(Err(error)) => Err(error),
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
        let began = self.inner.clock.now();
        let ticket = self.board(&key, Errand::Renew, self.boarding(), self.oldest());
        let cache = self.clone();
        self.inner.tasks.spawn(async move {
            let looked = cache.lookup_of(&ticket).await;
            let (Looked::Missed(missed), Some(load)) = (looked, load) else { return };
            if let Entered::Lead(lead) = ticket.flight().load.enter(0) {
                let seat = LoadSeat { held: None, ticket, lead, missed, began };
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
    pub(super) fn board(
        &self,
        key: &Arc<Scoped<K>>,
        errand: Errand,
        how: Boarding,
        oldest: Timestamp,
    ) -> CacheTicket<K, V> {
        self.inner.flights.board(key, errand, how, |id| self.lookup_alone(key, id, errand, oldest))
    }

    fn lookup_alone(
        &self,
        key: &Arc<Scoped<K>>,
        id: FlightId,
        errand: Errand,
        oldest: Timestamp,
    ) -> Lookup<V> {
        let seat = Seat { key: Arc::clone(key), id, instead: Token::NONE };
        let lookup = Inner::look_up(Arc::clone(&self.inner), Arc::clone(&self.chain), seat, errand, oldest);
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
        start: Option<Start<'_, V>>,
    ) -> Option<Cached<V>> {
        if let Some(start) = start.filter(|_| self.is_to_be_refreshed(&entry)) {
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
        oldest: Timestamp,
    ) -> Option<Cached<V>> {
        match ticket.flight().load.result() {
            Some(Ok((entry, source))) if self.suffices(&entry, oldest) => self.handle(entry, source, true),
            _ => self.stale_meanwhile(ticket, stale, oldest),
        }
    }

    /// The stale entry, for a reader that came upon its renewal by another and may have it so.
    pub(super) fn stale_meanwhile(
        &self,
        ticket: &CacheTicket<K, V>,
        stale: Option<Arc<Entry<V>>>,
        oldest: Timestamp,
    ) -> Option<Cached<V>> {
        let entry = stale.filter(|entry| ticket.joined() && self.suffices(entry, oldest))?;
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
            Some(entry)
                if self.reading != Reading::Truth && self.inner.serves_on_error(&entry.deadlines()) =>
            {
                self.inner.tell(&Event::StaleServed);
                Ok(Cached::stale(entry, self.inner.clock.now(), false))
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
            inner.tell_near(&Event::Unproven { tier: NEAR });
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

/// What a load gave.
pub(super) struct Led<V> {
    pub(super) entry: Arc<Entry<V>>,
    pub(super) source: Source,
    /// Whether this caller led it.
    pub(super) led: bool,
}

/// How often a caller shares a flight that turns out to have begun too long before its call, until it
/// flies alone. One that it meets later began after its call, unless others ask for less proof.
const SHARED_ROUNDS: usize = 2;

/// How a caller boards, round after round.
pub(super) struct Rounds {
    how: Boarding,
    shared: usize,
}

impl Rounds {
    pub(super) fn new(how: Boarding) -> Self {
        Self { how, shared: 0 }
    }

    pub(super) fn how(&self) -> Boarding {
        if self.shared < SHARED_ROUNDS { self.how } else { Boarding::Beside }
    }

    /// The flight came to nothing for this caller.
    pub(super) fn next(&mut self) {
        self.shared += 1;
    }

    /// From now on those alone whose lookups are made for loads.
    pub(super) fn for_loads(&mut self) {
        self.how = Boarding::JoinLoad;
    }
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
