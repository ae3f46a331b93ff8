//! The lookup stage: near to far through the remote tiers, then back with what was found.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::time::Instant;

use super::inner::{Inner, Looked, Missed};
use crate::{
    Deadlines, Entry, Error, ErrorKind, Event, Fence, Level, Near, OnStale, Op, Reply, Source, Stored,
    TierKey, Token, Version,
    chain::{Chain, Place},
    codec::Undecoded,
    flight::{Errand, FlightId},
    near::Scoped,
};

/// One key of a lookup.
pub(crate) struct Seat<K> {
    pub(crate) key: Arc<Scoped<K>>,
    pub(crate) id: FlightId,
}

/// A key on its way through the tiers.
struct Sought<K, V> {
    seat: Seat<K>,
    key: TierKey,
    missed: Missed<V>,
    found: Option<Looked<V>>,
    /// What is to be copied to the tiers that missed before it was found.
    copy: Option<Stored>,
}

/// What a tier's hit is worth to this lookup.
enum Worth<V> {
    /// It answers.
    Answer(Arc<Entry<V>>),
    /// It does not; whoever renews it must lease over this version.
    Renew(Version),
    /// It was written by a newer version of the code: nothing of ours may replace it.
    Foreign,
}

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + std::hash::Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// [`look_up`](Self::look_up), with a typed error for all callers where user code panics in it:
    /// a shared future that panicked would wake nobody.
    pub(crate) async fn look_up_guarded(
        self: Arc<Self>,
        chain: Arc<Chain>,
        seats: Vec<Seat<K>>,
        errand: Errand,
    ) -> Arc<[Looked<V>]> {
        let keys: Vec<_> = seats.iter().map(|seat| (Arc::clone(&seat.key), seat.id)).collect();
        let walk = Arc::clone(&self).look_up(chain, seats, errand);
        if let Ok(looked) = AssertUnwindSafe(walk).catch_unwind().await {
            return looked;
        }
        let failed = keys.into_iter().map(|(key, id)| {
            self.flights.end_lookup(&key, id, true);
            let message = "a codec, policy, observer or tier panicked during the lookup";
            Looked::Failed(Error::new(ErrorKind::Panicked, message), None)
        });
        failed.collect()
    }

    /// Looks the keys up, keeps what was found nearer, and ends the lookup stage of their flights.
    pub(crate) async fn look_up(
        self: Arc<Self>,
        chain: Arc<Chain>,
        seats: Vec<Seat<K>>,
        errand: Errand,
    ) -> Arc<[Looked<V>]> {
        let mut keys: Vec<Sought<K, V>> = seats.into_iter().map(|seat| self.seek(&chain, seat)).collect();
        for index in 0..chain.tiers.len() {
            self.ask_tier(&chain, index, errand, &mut keys).await;
        }
        if let Some(store) = &chain.store {
            self.ask_store(store, &mut keys).await;
        }
        self.copy_nearer(&chain, errand, &mut keys);
        let looked = keys.into_iter().map(|sought| {
            let looked = sought.found.unwrap_or(Looked::Missed(sought.missed));
            let ended = !matches!(looked, Looked::Missed(_));
            self.flights.end_lookup(&sought.seat.key, sought.seat.id, ended);
            looked
        });
        looked.collect()
    }

    fn seek(&self, chain: &Chain, seat: Seat<K>) -> Sought<K, V> {
        let fences = vec![None; chain.tiers.len()];
        let spent = Duration::ZERO;
        let missed = Missed { fences, unleased: false, spent, renews: false, store: None, stale: None };
        let mut found = None;
        let key = match self.tier_key(chain, &seat.key) {
            Ok(key) => key,
            Err(error) => {
                found = Some(Looked::Failed(error, None));
                TierKey { bytes: bytes::Bytes::new(), digest: [0; 16] }
            }
        };
        Sought { seat, key, missed, found, copy: None }
    }

    /// The key as the remote tiers of the chain see it.
    pub(crate) fn tier_key(&self, chain: &Chain, key: &Scoped<K>) -> crate::Result<TierKey> {
        match &self.wire {
            Some(wire) => Ok(chain.key(wire.key(&key.key)?)),
            None => Ok(chain.key(bytes::Bytes::new())),
        }
    }

    /// Whether a miss in this tier may be followed by a fill of it.
    fn may_fill(&self, chain: &Chain, index: usize, errand: Errand) -> bool {
        let further = index + 1 < chain.tiers.len() || chain.store.is_some();
        self.level == Level::Fenced && (further || errand.loads())
    }

    async fn ask_tier(&self, chain: &Chain, index: usize, errand: Errand, keys: &mut [Sought<K, V>]) {
        let place = &chain.tiers[index];
        let leases = self.may_fill(chain, index, errand);
        let op = |over| match leases {
            true => Op::Lease { token: self.new_token(), ttl: self.periods.lease, over },
            false => Op::Get,
        };
        let asked: Vec<usize> = (0..keys.len())
            .filter(|&at| keys[at].found.is_none() && place.permits_read(&keys[at].key))
            .collect();
        let batch = asked.iter().map(|&at| (keys[at].key.clone(), op(None))).collect();
        let mut renewals = Vec::new();
        let began = Instant::now();
        let replies = place.call_many(batch).await;
        let spent = began.elapsed();
        for (at, reply) in asked.into_iter().zip(replies) {
            keys[at].missed.spent = spent;
            let renewal = self.take_reply(chain, index, errand, &mut keys[at], reply);
            match renewal {
                Some(_) if self.level == Level::Ttl => {
                    keys[at].missed.fences[index] = Some(Fence::default());
                }
                Some(_) if !leases => keys[at].missed.unleased = true,
                renewal => renewals.extend(renewal.map(|version| (at, version))),
            }
        }
        if renewals.is_empty() {
            return;
        }
        let batch = renewals.iter().map(|&(at, over)| (keys[at].key.clone(), op(Some(over)))).collect();
        for ((at, _), reply) in renewals.into_iter().zip(place.call_many_after(spent, batch).await) {
            if let Ok(Reply::Miss(fence)) = reply {
                keys[at].missed.fences[index] = Some(fence);
            }
        }
    }

    /// Takes one reply of a cache tier; the version to lease over, if its hit answers nothing.
    fn take_reply(
        &self,
        chain: &Chain,
        index: usize,
        errand: Errand,
        sought: &mut Sought<K, V>,
        reply: crate::Result<Reply>,
    ) -> Option<Version> {
        let place = &chain.tiers[index];
        let name = &*place.line.name;
        let worth = match reply {
            Ok(Reply::Hit(stored)) => {
                let worth = self.weigh(chain, place, errand, sought, &stored);
                sought.copy = matches!(worth, Worth::Answer(_)).then_some(stored);
                worth
            }
            Ok(Reply::Miss(fence)) => {
                let fills = fence.token != Token::NONE || self.level == Level::Ttl;
                sought.missed.fences[index] = fills.then_some(fence);
                sought.missed.unleased = !fills;
                place.line.tell(&Event::Miss { tier: name });
                return None;
            }
            Ok(_) | Err(_) => {
                place.line.tell(&Event::Miss { tier: name });
                return None;
            }
        };
        match worth {
            Worth::Answer(entry) => {
                place.line.tell(&Event::Hit { tier: name });
                sought.found = Some(Looked::Found(entry, Source::Tier(Arc::clone(&place.line.name))));
                None
            }
            Worth::Renew(version) => {
                sought.missed.renews = true;
                place.line.tell(&Event::Miss { tier: name });
                Some(version)
            }
            Worth::Foreign => {
                place.line.tell(&Event::Miss { tier: name });
                None
            }
        }
    }

    fn weigh(
        &self,
        chain: &Chain,
        place: &Place,
        errand: Errand,
        sought: &mut Sought<K, V>,
        stored: &Stored,
    ) -> Worth<V> {
        let value = match &stored.body {
            // With a store, 'no row' answers plain reads only: a loader may create the row.
            None if chain.store.is_some() && errand.loads() => return Worth::Renew(stored.version),
            None => None,
            Some(body) => match self.decode(place, &sought.key, body) {
                Ok(value) => Some(value),
                Err(reason) if reason.is_unknown_here() => return Worth::Foreign,
                Err(_) => return Worth::Renew(stored.version),
            },
        };
        let entry = Arc::new(Entry::new(value, stored.version, self.near_deadlines(stored.deadlines, None)));
        if self.clock.now() < stored.deadlines.fresh_until && errand != Errand::Anew {
            return Worth::Answer(entry);
        }
        let renewable = errand.loads() || chain.store.is_some() || self.loader.is_some();
        match self.on_stale(&stored.deadlines, renewable) {
            _ if matches!(errand, Errand::Renew | Errand::Anew) => {
                sought.missed.stale = Some(entry);
                Worth::Renew(stored.version)
            }
            OnStale::Serve | OnStale::ServeAndRefresh => Worth::Answer(entry),
            OnStale::Miss => {
                sought.missed.stale = Some(entry);
                Worth::Renew(stored.version)
            }
        }
    }

    /// Reads a tier's bytes; the reason why not is counted.
    pub(crate) fn decode(&self, place: &Place, key: &TierKey, body: &bytes::Bytes) -> Result<V, Undecoded> {
        let Some(wire) = &self.wire else { unreachable!("a cache with remote tiers has a wire") };
        wire.open(body, key.digest).inspect_err(|reason| {
            let error = Error::from(*reason).at_tier(&*place.line.name);
            place.line.tell(&Event::Undecodable { tier: &place.line.name, error: &error });
        })
    }

    async fn ask_store(&self, store: &Place, keys: &mut [Sought<K, V>]) {
        let name = &store.line.name;
        let asked: Vec<usize> = (0..keys.len()).filter(|&at| keys[at].found.is_none()).collect();
        let op = || Op::Lease { token: self.new_token(), ttl: self.periods.lease, over: None };
        let batch = asked.iter().map(|&at| (keys[at].key.clone(), op())).collect();
        for (at, reply) in asked.into_iter().zip(store.call_many(batch).await) {
            let sought = &mut keys[at];
            match reply {
                Ok(Reply::Hit(stored)) => {
                    store.line.tell(&Event::Hit { tier: name });
                    let copy = self.copy_of(stored);
                    let found = self.record(store, &sought.key, &copy);
                    sought.copy = matches!(found, Looked::Found(..)).then_some(copy);
                    sought.found = Some(found);
                }
                Ok(Reply::Miss(fence)) => {
                    store.line.tell(&Event::Miss { tier: name });
                    sought.missed.store = Some(fence);
                }
                Ok(reply) => sought.fail(crate::tier::unexpected(&reply)),
                Err(error) => sought.fail(error),
            }
        }
    }

    /// A record's copy as a reader gets it: bytes that cannot be read are a typed error, since a
    /// record is nobody's copy.
    pub(crate) fn record(&self, store: &Place, key: &TierKey, copy: &Stored) -> Looked<V> {
        let value = match &copy.body {
            Some(body) => self.decode(store, key, body).map(Some),
            None => Ok(None),
        };
        match value {
            Ok(value) => {
                let deadlines = self.near_deadlines(copy.deadlines, None);
                let entry = Arc::new(Entry::new(value, copy.version, deadlines));
                Looked::Found(entry, Source::Store(Arc::clone(&store.line.name)))
            }
            Err(reason) => Looked::Failed(Error::from(reason).at_tier(&*store.line.name).during("get"), None),
        }
    }

    /// A record as its copies are kept: they live as the expiry policy says, and never longer than
    /// the record.
    pub(crate) fn copy_of(&self, record: Stored) -> Stored {
        let deadlines = match self.deadlines(false, None) {
            Some(copy) => Deadlines {
                written: record.deadlines.written,
                fresh_until: copy.fresh_until.min(record.deadlines.expires_at),
                stale_until: copy.stale_until.min(record.deadlines.expires_at),
                expires_at: copy.expires_at.min(record.deadlines.expires_at),
            },
            None => Deadlines::ttl(self.clock.now(), Duration::ZERO),
        };
        Stored { deadlines, ..record }
    }

    /// Keeps what was found in the near tier, and off the callers' path in the tiers that missed.
    fn copy_nearer(self: &Arc<Self>, chain: &Arc<Chain>, errand: Errand, keys: &mut [Sought<K, V>]) {
        let mut copies = Vec::new();
        for sought in keys {
            let Some(Looked::Found(entry, _)) = &sought.found else {
                if sought.found.is_none() {
                    self.forget_near(chain, sought);
                    // A load that follows needs the leases, and replaces what the tiers have.
                    if matches!(errand, Errand::Read | Errand::Renew) {
                        copies.extend(self.no_row(chain, sought));
                    }
                }
                continue;
            };
            let size = sought.copy.as_ref().and_then(|copy| copy.body.as_ref()).map(bytes::Bytes::len);
            let admitted = self.admits(super::inner::NEAR, size);
            let keep = || self.keep_near(&sought.seat.key, entry, admitted);
            let kept = self.flights.while_attached(&sought.seat.key, sought.seat.id, keep);
            self.tell_kept(kept.unwrap_or_default());
            if let Some(stored) = sought.copy.take()
                && sought.missed.fences.iter().any(Option::is_some)
            {
                let fences = std::mem::take(&mut sought.missed.fences);
                let (key, renews) = (sought.key.clone(), sought.missed.renews);
                let mut copy = super::fill::Copy { key, fences, renews, stored, open: None };
                if self.begin_fill(&sought.seat.key, sought.seat.id, &mut copy) {
                    copies.push(copy);
                }
            }
        }
        self.fill_later(chain, copies);
    }

    /// A plain read's 'no row' as a negative entry for the tiers that missed, where the expiry
    /// policy gives one a life.
    fn no_row(&self, chain: &Chain, sought: &Sought<K, V>) -> Option<super::fill::Copy> {
        chain.store.as_ref()?;
        let observed = sought.missed.store?;
        let renews = sought.missed.renews;
        let deadlines = self.deadlines(true, None).or_else(|| renews.then(|| self.no_life()))?;
        let stored = Stored { version: observed.version, deadlines, body: None };
        let fences: Vec<Option<Fence>> = sought.missed.fences.clone();
        Some(super::fill::Copy { key: sought.key.clone(), fences, renews, stored, open: None })
    }

    /// What near still has of a record that the store has no more.
    fn forget_near(&self, chain: &Chain, sought: &Sought<K, V>) {
        if chain.store.is_some() && self.near.is_enabled() {
            let forget = || self.drop_near(&sought.seat.key);
            self.flights.while_attached(&sought.seat.key, sought.seat.id, forget);
        }
    }
}

impl<K, V> Sought<K, V> {
    fn fail(&mut self, error: Error) {
        self.found = Some(Looked::Failed(error, self.missed.stale.take()));
    }
}
