//! Loaded items become entries for the callers and the near tier, and copies for the tiers.

use std::sync::Arc;

use bytes::Bytes;
use terrace_tier::{
    Deadlines, Stored, Timestamp, Version,
    defence::{Defence, enabled},
};

use super::{
    CacheTicket, Miss, PendingLoad,
    fill::{FillOutcome, TierCopy},
};
use crate::{
    Item, Key, Result, Source, Value,
    cache::{Inner, NEAR},
    chain::Chain,
    freshness::{ProofSource, UNCONFIRMED_TTL},
    near::{Entry, Near},
};

/// The item that a loader gave for one key.
pub(super) struct LoadedItem<K: Key, V> {
    pub(super) load: PendingLoad<K, V>,
    pub(super) item: Item<V>,
    /// The deadlines of the item's copies.
    pub(super) deadlines: Deadlines,
    /// The value's envelope, or no bytes where no tier needs an envelope.
    pub(super) sealed: Result<Bytes>,
    pub(super) proven_at: Timestamp,
}

/// A loaded entry, which can answer the callers and can be kept.
pub(super) struct LoadedEntry<K: Key, V> {
    pub(super) load: PendingLoad<K, V>,
    pub(super) entry: Arc<Entry<V>>,
    pub(super) source: Source,
    /// The copy for the cache tiers, if any of them gave a fence.
    pub(super) copy: Option<TierCopy>,
    /// Whether the near tier may keep the entry before any fill is confirmed.
    pub(super) keep_at_once: bool,
    pub(super) proven_at: Timestamp,
}

/// An answered load whose fills are under way.
struct PendingFill<K: Key, V> {
    ticket: CacheTicket<K, V>,
    entry: Arc<Entry<V>>,
    copy: TierCopy,
    /// Whether the near tier keeps the entry after the tiers have taken the fills.
    near: bool,
}

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    /// Answers the callers of a load with the loader's items, and keeps the items.
    pub(super) async fn accept_all(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        loads: Vec<PendingLoad<K, V>>,
        items: Vec<Result<Option<Item<V>>>>,
    ) {
        let (mut fills, mut creations) = (Vec::new(), Vec::new());
        let items = items.into_iter().chain(std::iter::repeat_with(|| Ok(None)));
        for (load, item) in loads.into_iter().zip(items) {
            let item = match item {
                Ok(item) => item.unwrap_or_else(Item::absent),
                Err(error) => {
                    self.fail_load(load, error);
                    continue;
                }
            };
            let loaded = self.loaded_item(chain, load, item);
            match is_created(chain, &loaded.item) {
                true => creations.push(loaded),
                false => fills.extend(self.answer(self.entry_of(chain, loaded))),
            }
        }
        let created = self.create(chain, creations).await;
        fills.extend(created.into_iter().filter_map(|loaded| self.answer(loaded)));
        self.finish_fills(chain, fills).await;
    }

    fn loaded_item(&self, chain: &Chain, load: PendingLoad<K, V>, item: Item<V>) -> LoadedItem<K, V> {
        // A created record is the source of truth from the moment at which the store takes the record,
        // which is later than now.
        let proven_at = match is_created(chain, &item) {
            true => self.clock.now(),
            false => self.proof_source.of_load(load.began, &self.clock),
        };
        // A copy whose age alone proves it lives from the start of its loader.
        let aged = matches!(self.proof_source, ProofSource::Age) && enabled(Defence::FromQuestion);
        let written = if aged { load.began } else { self.clock.now() };
        let deadlines = self.deadlines_from(written, item.value.is_none(), item.ttl);
        let deadlines = deadlines.unwrap_or_else(|| self.no_life());
        let sealed = match (&self.codec, &item.value) {
            (Some(codec), Some(value)) => {
                codec.seal(value, load.miss.key.digest).inspect_err(|error| self.tell_unencodable(error))
            }
            _ => Ok(Bytes::new()),
        };
        LoadedItem { load, item, deadlines, sealed, proven_at }
    }

    /// The entry and the copy of an item that no store keeps: a value of the origin, or an absence.
    fn entry_of(&self, chain: &Chain, loaded: LoadedItem<K, V>) -> LoadedEntry<K, V> {
        let LoadedItem { load, item, deadlines, sealed, proven_at } = loaded;
        let version = self.loaded_version(chain, &load.miss);
        let local = chain.is_local() || !self.fencing.has_leases();
        let keep_at_once = local || chain.store.is_some() || !enabled(Defence::Accepted);
        let (body, kept_until) = match sealed {
            Ok(body) => (item.value.is_some().then_some(body), deadlines),
            // No tier keeps a value that cannot be encoded.
            Err(_) => (None, self.no_life()),
        };
        if load.miss.refreshes {
            // Without a version there is no copy, so no fill can replace a tier's copy.
            let fences = version.map(|_| load.miss.fences.clone()).unwrap_or_default();
            fences.owe_others(chain, &load.miss.key);
        }
        let copy = version.map(|version| TierCopy {
            key: load.miss.key.clone(),
            fences: load.miss.fences.clone(),
            renews: load.miss.renews,
            shares: load.miss.shares && !load.miss.refreshes,
            lease: None,
            stored: Stored::new(version, kept_until, body),
            unfenced: None,
        });
        // Without a version no fill can confirm that the key has not changed since the loader began.
        let unconfirmed = !local && version.is_none();
        let cap = unconfirmed.then_some(UNCONFIRMED_TTL);
        let proven_at = if unconfirmed && enabled(Defence::Unconfirmed) { load.began } else { proven_at };
        let entry = self.near_entry(item.value, version.unwrap_or_default(), deadlines, cap);
        let entry = Arc::new(entry.with_proof(proven_at));
        let keep_at_once = keep_at_once || unconfirmed;
        LoadedEntry { load, entry, source: Source::Loader, copy, keep_at_once, proven_at }
    }

    /// The version of a value that no store keeps. The authority issued the version with the lease,
    /// before the load began. The result is `None` where the authority did not answer.
    fn loaded_version(&self, chain: &Chain, miss: &Miss<V>) -> Option<Version> {
        if let Some(observed) = miss.store {
            return Some(observed.version);
        }
        match chain.tiers.len().checked_sub(1) {
            Some(last) if self.fencing.has_leases() => miss.fences.get(last).map(|fence| fence.version),
            _ => Some(self.next_version()),
        }
    }

    /// Answers the callers of a load, and returns the fill that is still to be made. The flight of a
    /// fill that is still to be made stays in the table, so that readers get the value from the flight
    /// meanwhile.
    fn answer(&self, loaded: LoadedEntry<K, V>) -> Option<PendingFill<K, V>> {
        let LoadedEntry { load, entry, source, copy, keep_at_once, proven_at } = loaded;
        let PendingLoad { ticket, leader, lease, .. } = load;
        self.back_off.succeeded(&**ticket.key());
        let size = copy.as_ref().and_then(|copy| copy.stored.body.as_ref()).map(Bytes::len);
        let admitted = self.admits(NEAR, size);
        if keep_at_once || !admitted {
            self.keep_if_attached(&ticket, &entry, admitted, proven_at);
        }
        match copy.filter(|copy| copy.fences.any()) {
            Some(copy) => {
                let copy = TierCopy { lease, ..copy };
                leader.done(Ok((Arc::clone(&entry), source)));
                Some(PendingFill { ticket, entry, copy, near: !keep_at_once && admitted })
            }
            None => {
                self.flights.complete(ticket.key(), ticket.flight().id);
                leader.done(Ok((entry, source)));
                None
            }
        }
    }

    /// Puts a loaded entry into the near tier, if no write has detached its flight. If the near tier
    /// must not keep the entry, the older entry in the near tier is dropped.
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

    /// Makes the fills whose flights no write has detached.
    async fn finish_fills(&self, chain: &Chain, fills: Vec<PendingFill<K, V>>) {
        let may_begin = |fill: &mut PendingFill<K, V>| {
            let (key, flight) = (fill.ticket.key(), fill.ticket.flight().id);
            let attached = self.flights.while_attached(key, flight, || ()).is_some();
            attached && self.begin_fill(key, flight, &mut fill.copy)
        };
        let (begun, mut copies): (Vec<_>, Vec<_>) = fills
            .into_iter()
            .filter_map(|mut fill| may_begin(&mut fill).then_some(fill))
            .map(|PendingFill { ticket, entry, copy, near }| ((ticket, entry, near), copy))
            .unzip();
        // A tier that takes a fill knows of no change of the key since it gave the lease.
        let asked_at = self.clock.now();
        let proof = |entry: &Entry<V>| match self.proof_source {
            ProofSource::None => asked_at,
            _ => entry.proven_at(),
        };
        let outcomes = self.fill(chain, &mut copies).await;
        for ((ticket, entry, near), outcome) in begun.into_iter().zip(outcomes) {
            if near {
                let proven_at = proof(&entry);
                self.keep_if_attached(&ticket, &entry, outcome == FillOutcome::Kept, proven_at);
            }
            self.flights.complete(ticket.key(), ticket.flight().id);
        }
    }
}

/// Whether a loaded item becomes a record of the store, and is therefore the source of truth.
fn is_created<V>(chain: &Chain, item: &Item<V>) -> bool {
    chain.store.is_some() && item.value.is_some()
}
