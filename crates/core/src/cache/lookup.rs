//! The lookup stage: near to far through the remote tiers, then back with what was found.

use std::{sync::Arc, time::Duration};

use super::{
    fences::Fences,
    fill::Copy,
    inner::{Inner, NEAR},
    looked::{LookupOutcome, Missed},
    proof::NONE,
};
use crate::{
    Deadlines, Entry, Error, Event, Fence, Level, Near, OnStale, Op, Reply, Source, Stored, TierKey,
    Timestamp, Token, Version,
    chain::{Chain, TierSlot},
    codec::DecodeError,
    defence::{Defence, enabled},
    flight::{FlightId, Intent},
    near::TenantKey,
};

/// One key of a lookup.
pub(crate) struct Seat<K> {
    pub(crate) key: Arc<TenantKey<K>>,
    pub(crate) id: FlightId,
    /// The lease whose holder is gone, and whose place is to be taken.
    pub(crate) replaces: Token,
}

impl<K> Clone for Seat<K> {
    fn clone(&self) -> Self {
        Self { key: Arc::clone(&self.key), id: self.id, replaces: self.replaces }
    }
}

/// A key on its way through the tiers.
pub(super) struct Sought<K, V> {
    /// The key's place in the flight table; `None` for a read that flies past it.
    seat: Option<Seat<K>>,
    pub(super) key: TierKey,
    pub(super) missed: Missed<V>,
    pub(super) found: Option<LookupOutcome<V>>,
    /// What is to be copied to the tiers that missed before it was found.
    copy: Option<Stored>,
}

/// What a tier's hit is worth to this lookup.
enum Worth<V> {
    /// It answers.
    Answer(Arc<Entry<V>>),
    /// It does not; whoever renews it must lease over this version.
    Renew(Version),
    /// Nothing: there is none, or it was written by a newer version of the code, and nothing of
    /// ours may replace it.
    Nothing,
}

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + std::hash::Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn seek(
        &self,
        chain: &Chain,
        key: &TenantKey<K>,
        seat: Option<Seat<K>>,
        errand: Intent,
        oldest: Timestamp,
    ) -> Sought<K, V> {
        let missed = Missed {
            fences: Fences::default(),
            token: self.new_token(errand.loads()),
            unleased: false,
            oldest,
            began: self.clock.now(),
            spent: Duration::ZERO,
            renews: false,
            anew: errand == Intent::Refresh,
            store: None,
            stale: None,
        };
        let (key, found) = match self.tier_key(chain, key) {
            Ok(key) => (key, None),
            Err(error) => {
                let none = TierKey { bytes: bytes::Bytes::new(), digest: [0; 16] };
                (none, Some(LookupOutcome::Failed(error, None)))
            }
        };
        Sought { seat, key, missed, found, copy: None }
    }

    /// The key as the remote tiers of the chain see it.
    pub(crate) fn tier_key(&self, chain: &Chain, key: &TenantKey<K>) -> crate::Result<TierKey> {
        match &self.wire {
            Some(wire) => Ok(chain.key(wire.key(&key.key)?)),
            None => Ok(chain.key(bytes::Bytes::new())),
        }
    }

    /// Whether a miss in this tier may be followed by a fill of it.
    fn may_fill(&self, chain: &Chain, index: usize, errand: Intent) -> bool {
        let further = index + 1 < chain.tiers.len() || chain.store.is_some();
        self.level.is_fenced() && (further || errand.loads())
    }

    /// Whether a miss in this tier comes with a lease: for the fill's fence, or, at level `Ttl`, for
    /// those alone who are to wait for the load.
    pub(super) fn may_lease(&self, chain: &Chain, index: usize, errand: Intent) -> bool {
        let awaited = self.level == Level::Ttl && errand.loads() && self.policies.coalesce.waits();
        awaited || self.may_fill(chain, index, errand)
    }

    /// What a tier is asked for: a value, or on request a lease.
    pub(super) fn read_op(&self, sought: &Sought<K, V>, leases: bool, over: Option<Version>) -> Op {
        let (token, seat) = (sought.missed.token, sought.seat.as_ref());
        let replaces = seat.map_or(Token::NONE, |seat| seat.replaces);
        match leases {
            true => Op::Lease { token, ttl: self.periods.lease, over, replaces },
            false => Op::Get,
        }
    }

    /// Takes one reply of a cache tier; the version to lease over, if its hit answers nothing and
    /// a lease may.
    pub(super) fn take_reply(
        &self,
        chain: &Chain,
        index: usize,
        errand: Intent,
        sought: &mut Sought<K, V>,
        reply: crate::Result<Reply>,
    ) -> Option<Version> {
        let place = &chain.tiers[index];
        let tier = place.line.name;
        let worth = match reply {
            Ok(Reply::Hit(stored)) => {
                let worth = self.weigh(chain, place, errand, sought, &stored);
                sought.copy = matches!(worth, Worth::Answer(_)).then_some(stored);
                worth
            }
            Ok(Reply::Miss(fence)) => {
                let fills = fence.token != Token::NONE || self.level == Level::Ttl;
                sought.missed.fences.set(index, fills.then_some(fence));
                sought.missed.unleased = !fills;
                Worth::Nothing
            }
            Ok(_) | Err(_) => Worth::Nothing,
        };
        if let Worth::Answer(entry) = worth {
            place.line.tell(&Event::Hit { tier });
            sought.found = Some(LookupOutcome::Found(entry, Source::Tier(place.line.name)));
            return None;
        }
        place.line.tell(&Event::Miss { tier });
        let Worth::Renew(version) = worth else { return None };
        sought.missed.renews = true;
        match self.level {
            Level::Ttl => sought.missed.fences.set(index, Some(Fence::default())),
            _ if !self.may_fill(chain, index, errand) => sought.missed.unleased = true,
            _ => return Some(version),
        }
        None
    }

    fn weigh(
        &self,
        chain: &Chain,
        place: &TierSlot,
        errand: Intent,
        sought: &mut Sought<K, V>,
        stored: &Stored,
    ) -> Worth<V> {
        let value = match &stored.body {
            // With a store, 'no row' answers plain reads only: a loader may create the row.
            None if chain.store.is_some() && errand.loads() && enabled(Defence::NoRow) => {
                return Worth::Renew(stored.version);
            }
            None => None,
            Some(body) => match self.decode(place, &sought.key, body) {
                Ok(value) => Some(value),
                Err(reason) if reason.is_unknown_here() => return Worth::Nothing,
                Err(_) => return Worth::Renew(stored.version),
            },
        };
        let proven_at = self.proof_of(stored, sought.missed.began);
        let fresh = self.clock.now() < stored.deadlines.fresh_until;
        let proven = proven_at >= sought.missed.oldest || !enabled(Defence::Proof);
        let mut deadlines = self.near_deadlines(stored.deadlines, None);
        if fresh && !proven {
            // For want of a better one it may be served, and never as a fresh one.
            deadlines.fresh_until = deadlines.written;
        }
        let entry = Arc::new(Entry::new(value, stored.version, deadlines).with_proof(proven_at));
        if fresh && !proven && !errand.renews() {
            place.line.tell(&Event::Unproven { tier: place.line.name });
            sought.missed.stale = Some(entry).filter(|entry| entry.value().is_some());
            return Worth::Nothing;
        }
        if fresh && proven && errand != Intent::Refresh {
            return Worth::Answer(entry);
        }
        let renewable = errand.loads() || chain.store.is_some() || self.loader.is_some();
        // Served past its time, a value is marked. An absence cannot be, and who asks the truth alone
        // takes neither.
        let is_servable = entry.value().is_some() && sought.missed.oldest != NONE;
        match self.on_stale(&stored.deadlines, renewable) {
            OnStale::Serve | OnStale::ServeAndRefresh if is_servable && !errand.renews() => {
                Worth::Answer(entry)
            }
            _ => {
                sought.missed.stale = Some(entry).filter(|entry| entry.value().is_some());
                Worth::Renew(stored.version)
            }
        }
    }

    /// Reads a tier's bytes; the reason why not is counted.
    pub(crate) fn decode(
        &self,
        place: &TierSlot,
        key: &TierKey,
        body: &bytes::Bytes,
    ) -> Result<V, DecodeError> {
        let Some(wire) = &self.wire else { unreachable!("a cache with remote tiers has a wire") };
        wire.open(body, key.digest).inspect_err(|reason| {
            let error = Error::from(*reason).at_tier(place.line.name);
            place.line.tell(&Event::Undecodable { tier: place.line.name, error: &error });
        })
    }

    /// Takes the store's reply.
    pub(super) fn take_record(
        &self,
        store: &TierSlot,
        sought: &mut Sought<K, V>,
        reply: crate::Result<Reply>,
    ) {
        let tier = store.line.name;
        let error = match reply {
            Ok(Reply::Hit(stored)) => {
                store.line.tell(&Event::Hit { tier });
                let copy = self.copy_of(stored);
                let found = self.record(store, &sought.key, &copy, sought.missed.began);
                sought.copy = matches!(found, LookupOutcome::Found(..)).then_some(copy);
                sought.found = Some(found);
                return;
            }
            Ok(Reply::Miss(fence)) => {
                store.line.tell(&Event::Miss { tier });
                sought.missed.store = Some(fence);
                return;
            }
            Ok(reply) => terrace_tier::unexpected(&reply),
            Err(error) => error,
        };
        sought.found = Some(LookupOutcome::Failed(error, sought.missed.stale.take()));
    }

    /// A record's copy as a reader gets it: bytes that cannot be read are a typed error, since a
    /// record is nobody's copy. At `proven_at` it was the record.
    pub(crate) fn record(
        &self,
        store: &TierSlot,
        key: &TierKey,
        copy: &Stored,
        proven_at: Timestamp,
    ) -> LookupOutcome<V> {
        let value = match &copy.body {
            Some(body) => self.decode(store, key, body).map(Some),
            None => Ok(None),
        };
        match value {
            Ok(value) => {
                let deadlines = self.near_deadlines(copy.deadlines, None);
                let entry = Arc::new(Entry::new(value, copy.version, deadlines).with_proof(proven_at));
                LookupOutcome::Found(entry, Source::Store(store.line.name))
            }
            Err(reason) => {
                LookupOutcome::Failed(Error::from(reason).at_tier(store.line.name).during("get"), None)
            }
        }
    }

    /// A record as its copies are kept: they live as the expiry policy says, and never longer than
    /// the record.
    pub(crate) fn copy_of(&self, mut record: Stored) -> Stored {
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

    /// Keeps what was found in the near tier and ends the lookup stage of the key's flight. Also what
    /// is to be copied to the tiers that missed.
    pub(super) fn end(
        &self,
        chain: &Chain,
        errand: Intent,
        mut sought: Sought<K, V>,
    ) -> (LookupOutcome<V>, Option<Copy>) {
        let size = sought.copy.as_ref().and_then(|copy| copy.body.as_ref()).map(bytes::Bytes::len);
        let copy = self.copy_nearer(chain, errand, &mut sought);
        let Sought { seat, found, missed, .. } = sought;
        let looked = found.unwrap_or_else(|| LookupOutcome::Missed(missed));
        let Some(seat) = seat else { return (looked, copy) };
        let admitted = self.near.is_enabled() && self.admits(NEAR, size);
        let kept = self.flights.end_lookup(&seat.key, seat.id, looked.is_answer(), || {
            if let LookupOutcome::Found(entry, _) = &looked {
                return self.keep_near(&seat.key, entry, admitted, entry.proven_at());
            }
            // What near still has of a record that the store has no more.
            if !looked.is_answer() && chain.store.is_some() {
                self.drop_near(&seat.key);
            }
            false
        });
        self.tell_kept(kept.unwrap_or_default());
        (looked, copy)
    }

    /// What the tiers that missed are to have: what was found further, or that there is no row.
    fn copy_nearer(&self, chain: &Chain, errand: Intent, sought: &mut Sought<K, V>) -> Option<Copy> {
        if errand == Intent::Refresh && matches!(sought.found, Some(LookupOutcome::Found(..))) {
            sought.missed.fences.owe_others(chain, &sought.key);
        }
        let stored = match &sought.found {
            Some(LookupOutcome::Found(..)) if sought.missed.fences.any() => sought.copy.take()?,
            // A load that follows needs the leases, and replaces what the tiers have.
            None if matches!(errand, Intent::Read | Intent::Revalidate) => self.no_row(chain, sought)?,
            _ => return None,
        };
        let (key, fences, renews) = (sought.key.clone(), sought.missed.fences.clone(), sought.missed.renews);
        let mut copy = Copy { key, fences, renews, held: None, stored, open: None };
        let begun = |seat: &Seat<K>| self.begin_fill(&seat.key, seat.id, &mut copy);
        sought.seat.as_ref().is_none_or(begun).then_some(copy)
    }

    /// A plain read's 'no row' as a negative entry for the tiers that missed, where the expiry
    /// policy gives one a life.
    fn no_row(&self, chain: &Chain, sought: &Sought<K, V>) -> Option<Stored> {
        chain.store.as_ref()?;
        let observed = sought.missed.store?;
        let deadlines = self.deadlines(true, None);
        let deadlines = deadlines.or_else(|| sought.missed.renews.then(|| self.no_life()))?;
        Some(Stored::new(observed.version, deadlines, None))
    }
}

impl<K, V> Sought<K, V> {
    /// Whether this tier is to be asked, and may be.
    pub(super) fn is_wanted_from(&self, place: &TierSlot) -> bool {
        self.found.is_none() && place.permits_read(&self.key)
    }

    /// Takes the lease over an entry that answered nothing, if it was given.
    pub(super) fn take_renewal(&mut self, index: usize, reply: crate::Result<Reply>) {
        if let Ok(Reply::Miss(fence)) = reply {
            self.missed.fences.set(index, Some(fence));
        }
    }
}
