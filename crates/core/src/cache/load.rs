//! The load stage: the loader's run, the fill of what it gave, and the answer to all who wait.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Instant};

use bytes::Bytes;
use futures_util::FutureExt;
use tracing::Instrument;

use super::{
    fill::{Copy, Filling},
    grounds::ProofSource,
    held::Held,
    inner::{Inner, NEAR},
    loading::Load,
    looked::{CacheTicket, Loaded, Missed},
    proof::DISTRUST,
};
use crate::{
    Deadlines, Entry, Error, Event, Item, Level, Near, Op, Reply, Result, Source, Stored, TierKey, Timestamp,
    Token, Version,
    chain::Chain,
    defence::{Defence, enabled},
    flight::{FlightId, LeaderGuard},
};

/// One key of a load.
pub(crate) struct LoadSeat<K: Eq + std::hash::Hash, V> {
    /// The lease that others wait for; given back before the lead is, where a load panics.
    pub(crate) held: Option<Held>,
    pub(crate) ticket: CacheTicket<K, V>,
    pub(crate) lead: LeaderGuard<Loaded<V>>,
    pub(crate) missed: Missed<V>,
    /// Before the loader was started.
    pub(crate) began: Timestamp,
}

/// What a loader gave for one key.
pub(super) struct Draft<K: Eq + std::hash::Hash, V> {
    pub(super) seat: LoadSeat<K, V>,
    pub(super) key: TierKey,
    pub(super) item: Item<V>,
    /// The deadlines of its copies.
    pub(super) deadlines: Deadlines,
    pub(super) sealed: Result<Bytes>,
    /// When it was as new as the truth: the store takes it later.
    pub(super) proven_at: Timestamp,
}

/// A loaded entry on its way into the tiers.
pub(super) struct Kept<K: Eq + std::hash::Hash, V> {
    pub(super) seat: LoadSeat<K, V>,
    pub(super) entry: Arc<Entry<V>>,
    pub(super) source: Source,
    /// The copy for the cache tiers, if any of them gave a fence.
    pub(super) copy: Option<Copy>,
    /// Whether near may keep it before any fill is confirmed.
    pub(super) sure: bool,
    /// When it was as new as the truth.
    pub(super) proven_at: Timestamp,
}

tokio::task_local! {
    /// The flights whose loaders this task runs: a loader that waits for one of them would wait
    /// for itself.
    static LOADING: Arc<[FlightId]>;
}

/// Whether the caller is a loader of this very flight.
pub(crate) fn is_reentrant(flight: FlightId) -> bool {
    LOADING.try_with(|loading| loading.contains(&flight)).unwrap_or(false)
}

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + std::hash::Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Spawns the load: no caller's cancellation stops it.
    pub(crate) fn spawn_load(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        seats: Vec<LoadSeat<K, V>>,
        load: Load<V>,
    ) {
        let (inner, chain) = (Arc::clone(self), Arc::clone(chain));
        let flights: Vec<FlightId> = seats.iter().map(|seat| seat.ticket.flight().id).collect();
        let outer = LOADING.try_with(Arc::clone).unwrap_or_default();
        let loading: Arc<[FlightId]> = outer.iter().copied().chain(flights).collect();
        let job = async move { inner.run_load(&chain, seats, load, loading).await };
        self.tasks.spawn(job.instrument(tracing::Span::current()));
    }

    async fn run_load(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        mut seats: Vec<LoadSeat<K, V>>,
        load: Load<V>,
        loading: Arc<[FlightId]>,
    ) {
        let keys = self.lease_rest(chain, &mut seats).await;
        if self.policies.coalesce.waits() {
            // Boxed: who waits for nobody needs no room for it.
            seats = Box::pin(self.await_others(chain, seats, &keys)).await;
            if seats.is_empty() {
                return;
            }
        }
        match self.run_loader(load, loading).await {
            Ok(Ok(items)) => self.keep_all(chain, seats, keys, items).await,
            Ok(Err(error)) => {
                seats.into_iter().for_each(|seat| self.fail(seat, error.clone()));
            }
            // Told as the leads are dropped; a caller with a loader takes over.
            Err(Panic) => seats.iter_mut().for_each(|seat| seat.lead.panicked()),
        }
    }

    pub(super) fn fail(&self, seat: LoadSeat<K, V>, error: Error) {
        // Off the table first: whoever comes after the error starts anew.
        self.flights.land(seat.ticket.key(), seat.ticket.flight().id);
        seat.lead.done(Err(error));
    }

    /// Takes the leases that the lookups did not, within what those left of the tier's budget.
    async fn lease_rest(&self, chain: &Chain, seats: &mut [LoadSeat<K, V>]) -> Vec<TierKey> {
        let key = |seat: &LoadSeat<K, V>| self.tier_key(chain, seat.ticket.key());
        let unusable = |_| TierKey { bytes: Bytes::new(), digest: [0; 16] };
        let keys: Vec<TierKey> = seats.iter().map(|seat| key(seat).unwrap_or_else(unusable)).collect();
        let Some((last, place)) = chain.tiers.iter().enumerate().next_back() else { return keys };
        let wanted: Vec<usize> = (0..seats.len()).filter(|&at| seats[at].missed.unleased).collect();
        let spent = wanted.iter().map(|&at| seats[at].missed.spent).max().unwrap_or_default();
        let began = tokio::time::Instant::now();
        let tokens: Vec<Token> = keys.iter().map(|_| self.new_token(true)).collect();
        let (ttl, replaces) = (self.periods.lease, Token::NONE);
        let lease =
            |at: usize, over| (keys[at].clone(), Op::Lease { token: tokens[at], ttl, over, replaces });
        let mut renewals = Vec::new();
        let batch = wanted.iter().map(|&at| lease(at, None)).collect();
        for (at, reply) in wanted.into_iter().zip(place.call_many_after(spent, batch).await) {
            seats[at].missed.token = tokens[at];
            let fence = match reply {
                Ok(Reply::Miss(given)) => Some(given),
                Ok(Reply::Hit(hit)) => {
                    // A negative entry, or one that went stale: the load renews it.
                    renewals.extend(self.is_renewed(&hit).then_some((at, hit.version)));
                    None
                }
                _ => None,
            };
            seats[at].missed.fences.set(last, fence);
        }
        let batch = renewals.iter().map(|&(at, version)| lease(at, Some(version))).collect();
        let replies = place.call_many_after(spent + began.elapsed(), batch).await;
        for ((at, _), reply) in renewals.into_iter().zip(replies) {
            if let Ok(Reply::Miss(given)) = reply {
                seats[at].missed.fences.set(last, Some(given));
            }
        }
        keys
    }

    fn is_renewed(&self, hit: &Stored) -> bool {
        hit.body.is_none() || hit.deadlines.fresh_until <= self.clock.now()
    }

    async fn run_loader(
        &self,
        load: Load<V>,
        loading: Arc<[FlightId]>,
    ) -> Result<Result<Vec<Result<Option<Item<V>>>>>, Panic> {
        let began = Instant::now();
        let guarded = AssertUnwindSafe(LOADING.scope(loading, load)).catch_unwind();
        let result = match tokio::time::timeout(self.periods.load, guarded).await {
            Ok(Ok(items)) => Ok(Ok(items)),
            Ok(Err(_panic)) => Err(Panic),
            Err(_elapsed) => Ok(Err(Error::timeout(self.periods.load).during("load"))),
        };
        let ok = matches!(&result, Ok(Ok(items)) if items.iter().all(Result::is_ok));
        self.tell(&Event::Loaded { elapsed: began.elapsed(), ok });
        result
    }

    async fn keep_all(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        seats: Vec<LoadSeat<K, V>>,
        keys: Vec<TierKey>,
        items: Vec<Result<Option<Item<V>>>>,
    ) {
        let (mut fills, mut creations) = (Vec::new(), Vec::new());
        let items = items.into_iter().chain(std::iter::repeat_with(|| Ok(None)));
        for ((seat, key), item) in seats.into_iter().zip(keys).zip(items) {
            let item = match item {
                Ok(item) => item.unwrap_or_else(Item::absent),
                Err(error) => {
                    self.fail(seat, error);
                    continue;
                }
            };
            let draft = self.draft(chain, seat, key, item);
            match self.is_created(chain, &draft.item) {
                true => creations.push(draft),
                false => fills.extend(self.answer(self.copy_alone(chain, draft))),
            }
        }
        let created = self.create(chain, creations).await;
        fills.extend(created.into_iter().filter_map(|kept| self.answer(kept)));
        self.finish_fills(chain, fills).await;
    }

    /// Whether it becomes a record: it is the truth from then on.
    fn is_created(&self, chain: &Chain, item: &Item<V>) -> bool {
        chain.store.is_some() && item.value.is_some()
    }

    fn draft(&self, chain: &Chain, seat: LoadSeat<K, V>, key: TierKey, item: Item<V>) -> Draft<K, V> {
        let created = self.is_created(chain, &item);
        let proven_at = if created { self.clock.now() } else { self.proof_of_load(seat.began) };
        // Where nothing but its age proves a copy, it lives from its question on.
        let aged = matches!(self.grounds, ProofSource::Age) && enabled(Defence::FromQuestion);
        let written = if aged { seat.began } else { self.clock.now() };
        let deadlines = self.deadlines_from(written, item.value.is_none(), item.ttl);
        let deadlines = deadlines.unwrap_or_else(|| self.no_life());
        let sealed = match (&self.wire, &item.value) {
            (Some(wire), Some(value)) => wire.seal(value, key.digest),
            _ => Ok(Bytes::new()),
        };
        Draft { seat, key, item, deadlines, sealed, proven_at }
    }

    /// The entry and copy of what no store keeps: the origin's value, or an absence.
    fn copy_alone(&self, chain: &Chain, draft: Draft<K, V>) -> Kept<K, V> {
        let Draft { seat, key, item, deadlines, sealed, proven_at } = draft;
        let version = self.loaded_version(chain, &seat.missed);
        let local = chain.is_local() || self.level == Level::Ttl;
        let sure = local || chain.store.is_some() || !enabled(Defence::Accepted);
        let (body, kept_for) = match sealed {
            Ok(body) => (item.value.is_some().then_some(body), deadlines),
            // No tier keeps what cannot be encoded.
            Err(_) => (None, self.no_life()),
        };
        if seat.missed.anew {
            // Without a version there is no copy: no tier's can be replaced.
            let fences = version.map(|_| seat.missed.fences.clone()).unwrap_or_default();
            fences.owe_others(chain, &key);
        }
        let copy = version.map(|version| Copy {
            key,
            fences: seat.missed.fences.clone(),
            renews: seat.missed.renews,
            held: None,
            stored: Stored::new(version, kept_for, body),
            open: None,
        });
        let cap = (!local && version.is_none()).then_some(DISTRUST);
        // No fill will show that nothing has changed since it was asked for.
        let unconfirmed = cap.is_some() && enabled(Defence::Unconfirmed);
        let proven_at = if unconfirmed { seat.began } else { proven_at };
        let entry = Entry::new(item.value, version.unwrap_or_default(), self.near_deadlines(deadlines, cap));
        let (entry, sure) = (Arc::new(entry.with_proof(proven_at)), sure || cap.is_some());
        Kept { seat, entry, source: Source::Loader, copy, sure, proven_at }
    }

    /// The version that a load without a store takes: issued with the authority's lease, before
    /// the load began. `None` where the authority was away.
    fn loaded_version(&self, chain: &Chain, missed: &Missed<V>) -> Option<Version> {
        if let Some(observed) = missed.store {
            return Some(observed.version);
        }
        match chain.tiers.last() {
            None => Some(self.next_version()),
            Some(_) if self.level == Level::Ttl => Some(self.next_version()),
            Some(_) => missed.fences.get(chain.tiers.len() - 1).map(|fence| fence.version),
        }
    }

    /// Answers the callers; what is still to be filled is returned, with its flight kept in the
    /// air so that readers meanwhile get the value from it.
    fn answer(&self, kept: Kept<K, V>) -> Option<Filled<K, V>> {
        let Kept { seat, entry, source, copy, sure, proven_at } = kept;
        let LoadSeat { ticket, lead, held, .. } = seat;
        let size = copy.as_ref().and_then(|copy| copy.stored.body.as_ref()).map(Bytes::len);
        let admitted = self.admits(NEAR, size);
        if sure || !admitted {
            self.keep_if_attached(&ticket, &entry, admitted, proven_at);
        }
        let copy = copy.filter(|copy| copy.fences.any());
        match copy {
            Some(copy) => {
                let copy = Copy { held, ..copy };
                lead.done(Ok((Arc::clone(&entry), source)));
                Some(Filled { ticket, entry, copy, near: !sure && admitted })
            }
            None => {
                self.flights.land(ticket.key(), ticket.flight().id);
                lead.done(Ok((entry, source)));
                None
            }
        }
    }

    /// The near tier's part of a load; what is not kept must not leave an older value there.
    fn keep_if_attached(
        &self,
        ticket: &CacheTicket<K, V>,
        entry: &Arc<Entry<V>>,
        keeps: bool,
        proven_at: Timestamp,
    ) {
        let key = ticket.key();
        let keep = || self.keep_near(key, entry, keeps, proven_at);
        let kept = self.flights.while_attached(key, ticket.flight().id, keep);
        self.tell_kept(kept.unwrap_or_default());
    }

    /// Fills what still flies. A flight that a write detached fills nothing.
    async fn finish_fills(&self, chain: &Chain, fills: Vec<Filled<K, V>>) {
        let begun = |fill: &mut Filled<K, V>| {
            let (key, flight) = (fill.ticket.key(), fill.ticket.flight().id);
            let attached = self.flights.while_attached(key, flight, || ()).is_some();
            attached && self.begin_fill(key, flight, &mut fill.copy)
        };
        let (tickets, copies): (Vec<_>, Vec<_>) = fills
            .into_iter()
            .filter_map(|mut fill| begun(&mut fill).then_some(fill))
            .map(|Filled { ticket, entry, copy, near }| ((ticket, entry, near), copy))
            .unzip();
        // A fill that is taken shows that the tier was told of nothing since its lease.
        let asked_at = self.clock.now();
        let proof = |entry: &Entry<V>| match self.grounds {
            ProofSource::None => asked_at,
            _ => entry.proven_at(),
        };
        let outcomes = self.fill(chain, &copies).await;
        for ((ticket, entry, near), outcome) in tickets.into_iter().zip(outcomes) {
            match outcome {
                _ if !near => {}
                outcome => {
                    let proven_at = proof(&entry);
                    self.keep_if_attached(&ticket, &entry, outcome == Filling::Kept, proven_at);
                }
            }
            self.flights.land(ticket.key(), ticket.flight().id);
        }
    }
}

/// An answered load whose fills are under way.
struct Filled<K: Eq + std::hash::Hash, V> {
    ticket: CacheTicket<K, V>,
    entry: Arc<Entry<V>>,
    copy: Copy,
    /// Whether near keeps it once the fills were taken.
    near: bool,
}

/// The loader panicked.
struct Panic;
