//! A lookup judges the replies of tiers here: a reply may answer the lookup, or not.

use std::{num::NonZero, sync::Arc, time::Duration};

use bytes::Bytes;
use terrace_tier::{
    Deadlines, Reply, Stored, TierKey, Timestamp,
    defence::{Defence, enabled},
    unexpected,
};

use super::{
    HitVerdict, LoadResult, StaleCopy,
    lookup::{KeyLookup, LookupPass},
};
use crate::{
    Error, Event, Key, OnStale, Result, Source, Value,
    cache::Inner,
    chain::TierSlot,
    codec::DecodeError,
    flight::Intent,
    freshness::STORE_ONLY,
    near::{Entry, Near},
};

impl<K: Key, V: Value, N: Near<K, V>> LookupPass<'_, K, V, N> {
    pub(super) fn judge_hit(
        &self,
        slot: &TierSlot,
        lookup: &mut KeyLookup<'_, K, V>,
        stored: &Stored,
    ) -> HitVerdict<V> {
        let (inner, intent) = (self.inner, self.intent);
        let value = match &stored.body {
            // A loader may create the record that this entry says is absent.
            None if self.chain.store.is_some() && intent.loads() && enabled(Defence::NoRow) => {
                return HitVerdict::Replace(stored.version);
            }
            None => None,
            Some(body) => match inner.decode(slot, &lookup.miss.key, body) {
                Ok(value) => Some(value),
                Err(reason) if reason.is_unknown_here() => return HitVerdict::Miss,
                Err(reason) => {
                    lookup.miss.shares |= reason.is_of_another_type();
                    return HitVerdict::Replace(stored.version);
                }
            },
        };
        let proven_at = inner.proof_source.of_copy(stored, lookup.miss.began, &inner.clock);
        let fresh = inner.clock.now() < stored.deadlines.fresh_until;
        let proven = proven_at >= self.oldest_proof || !enabled(Defence::Proof);
        let mut deadlines = inner.near_deadlines(stored.deadlines, None);
        if fresh && !proven {
            // If this entry is served at all, because no tier gives a better one, then it is served as
            // stale.
            deadlines.fresh_until = deadlines.written;
        }
        let entry = Arc::new(Entry::new(value, stored.version, deadlines).with_proof(proven_at));
        let renews_from = self.renews_from(slot, stored);
        entry.set_renewal(renews_from);
        // A stale value is marked as stale. An absence cannot be marked, and a read of the store alone
        // accepts neither stale values nor absences.
        let is_servable = entry.value().is_some() && self.oldest_proof != STORE_ONLY;
        let is_renewed = intent == Intent::Revalidate && inner.clock.now() >= renews_from;
        let is_answer = fresh && proven && intent != Intent::Refresh && !is_renewed;
        if !is_answer && is_servable && lookup.miss.is_pausing && inner.serves_on_error(&stored.deadlines) {
            return HitVerdict::Answer(entry);
        }
        if fresh && !proven && !intent.renews() {
            slot.shared.tell(&Event::Unproven { tier: slot.shared.name });
            lookup.met_stale(slot, entry, stored);
            return HitVerdict::Miss;
        }
        if is_answer {
            return HitVerdict::Answer(entry);
        }
        match inner.on_stale(&stored.deadlines, self.renews_stale()) {
            OnStale::Serve | OnStale::ServeAndRefresh if is_servable && !intent.renews() => {
                HitVerdict::Answer(entry)
            }
            _ => {
                lookup.met_stale(slot, entry, stored);
                HitVerdict::Replace(stored.version)
            }
        }
    }

    /// From when on a hit in this tier renews the entry. A tier with lives of its own in front of others renews
    /// nothing: its copies end before the entry does, and the next tier says when the entry is renewed.
    fn renews_from(&self, slot: &TierSlot, stored: &Stored) -> Timestamp {
        let has_own_life = slot.shared.ttl.is_some() && !self.chain.is_farthest_cache(slot);
        match stored.body.is_none() || has_own_life {
            true => Timestamp::NEVER,
            false => self.inner.renews_from(&stored.deadlines, stored.version),
        }
    }

    /// Takes the reply of the store.
    pub(super) fn take_record(
        &self,
        store: &TierSlot,
        lookup: &mut KeyLookup<'_, K, V>,
        reply: Result<Reply>,
    ) {
        let tier = store.shared.name;
        let error = match reply {
            Ok(Reply::Hit(record)) => {
                store.shared.tell(&Event::Hit { tier });
                let copy = self.inner.copy_of(record);
                let found = self.inner.record(store, &lookup.miss.key, &copy, lookup.miss.began);
                match &found {
                    Ok(_) => lookup.copy = Some(copy),
                    // The record is newer than a copy that a tier had: the copy must not stand in for it.
                    Err(_) => lookup.miss.stale = None,
                }
                lookup.found = Some(found);
                return;
            }
            Ok(Reply::Miss(fence)) => {
                store.shared.tell(&Event::Miss { tier });
                lookup.miss.store = Some(fence);
                return;
            }
            Ok(reply) => unexpected(&reply),
            Err(error) => error,
        };
        lookup.found = Some(Err(error));
    }
}

impl<K, V> KeyLookup<'_, K, V> {
    /// Notes a stale entry that does not answer, and may be served where no tier gives a better one.
    fn met_stale(&mut self, slot: &TierSlot, entry: Arc<Entry<V>>, stored: &Stored) {
        self.miss.stale = StaleCopy::of(entry, Source::Tier(slot.shared.name));
        self.miss.stale_bytes = stored.body.as_ref().and_then(|body| NonZero::new(body.len()));
    }
}

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    /// Decodes the bytes of a tier. Bytes that cannot be read are counted and reported with the reason.
    pub(crate) fn decode(&self, slot: &TierSlot, key: &TierKey, body: &Bytes) -> Result<V, DecodeError> {
        let Some(codec) = &self.codec else { unreachable!("a cache with remote tiers has a codec") };
        codec.open(body, key.digest).inspect_err(|reason| {
            let error = Error::from(*reason).at_tier(slot.shared.name);
            slot.shared.tell(&Event::Undecodable { tier: slot.shared.name, error: &error });
        })
    }

    /// The entry of a record, for readers. The store had the record at `proven_at`. Bytes that cannot be
    /// read are a typed error, because a record has no other copy.
    pub(super) fn record(
        &self,
        store: &TierSlot,
        key: &TierKey,
        copy: &Stored,
        proven_at: Timestamp,
    ) -> LoadResult<V> {
        let value = match &copy.body {
            Some(body) => self.decode(store, key, body).map(Some),
            None => Ok(None),
        };
        match value {
            Ok(value) => {
                let entry = self.near_entry(value, copy.version, copy.deadlines, None);
                let entry = Arc::new(entry.with_proof(proven_at));
                Ok((entry, Source::Store(store.shared.name)))
            }
            Err(reason) => Err(Error::from(reason).at_tier(store.shared.name).during("get")),
        }
    }

    /// The copy of a record, for the cache tiers. A copy lives as the expiry policy says, and never
    /// longer than its record.
    pub(super) fn copy_of(&self, mut record: Stored) -> Stored {
        record.deadlines = match self.deadlines(false, None) {
            Some(copy) => Deadlines {
                written: record.deadlines.written,
                fresh_until: copy.fresh_until.min(record.deadlines.expires_at),
                stale_until: copy.stale_until.min(record.deadlines.expires_at),
                expires_at: copy.expires_at.min(record.deadlines.expires_at),
            },
            None => Deadlines::ttl(self.clock.now(), Duration::ZERO),
        };
        record
    }
}
