//! All handles of a cache share the state in `Inner`.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use terrace_tier::{Deadlines, TierKey, Timestamp, Token, Version, runtime::current_runtime};

use super::{classes::Classes, loader::BoundLoader, near_expiry::NearExpiry, tasks::Tasks};
use crate::{
    Admission, AdmitContext, Clock, Coalesce, Copies, Error, ErrorKind, Event, Expiry, Freshness, Key, Level,
    OnStale, Result, StaleHit, Value, WriteContext,
    behind::Behind,
    chain::{Chain, Monitor, TierCounters, TierSlot, Warnings},
    fencing::Fencing,
    freshness::{AppliedChanges, Coherence, MaxStaleness, ProofSource},
    near::{Entry, Near, TenantId, TenantKey, TenantKeyRef},
    overload::{BackOff, LoadLimit},
    read::CacheFlights,
    recorder::{RecordedOp, Recorder},
    relay::RunningRelay,
    typed_codec::{KeyCodec, TypedCodec},
    write::Renewals,
};

/// The name of the near tier in stats and events.
pub(crate) const NEAR: &str = "near";

/// The key of a lookup that sends no request.
pub(crate) const UNUSED_KEY: TierKey = TierKey { bytes: Bytes::new(), digest: [0; 16] };

/// The policies of a cache.
pub(crate) struct Policies {
    pub(crate) expiry: Arc<dyn Expiry>,
    pub(crate) freshness: Option<Arc<dyn Freshness>>,
    pub(crate) admission: Option<Arc<dyn Admission>>,
    pub(crate) copies: Copies,
    pub(crate) coalesce: Coalesce,
}

/// The durations that a cache uses for lives, loads, leases and tombstones.
pub(crate) struct Periods {
    /// The longest life of an entry in the near tier.
    pub(crate) near_ttl: Option<Duration>,
    /// How long a loader may take.
    pub(crate) load: Duration,
    /// How long a caller waits for a load where a stale value may be served.
    pub(crate) soft: Duration,
    /// How long a lease lives, which is longer than any load.
    pub(crate) lease: Duration,
    /// How long a cache tier's tombstone lives, which is longer than any lease.
    pub(crate) tombstone: Duration,
    /// How long a store keeps the tombstone of a removed record.
    pub(crate) removed: Duration,
}

/// The state that all handles of a cache share.
pub(crate) struct Inner<K, V, N> {
    pub(crate) near: N,
    pub(crate) near_counters: TierCounters,
    pub(crate) near_expiry: NearExpiry,
    /// Writes which keys the cache is asked for.
    pub(crate) recorder: Option<Recorder>,
    /// Whether an observer, the log, a recorder or the count by class receives near hits.
    pub(crate) observed: bool,
    pub(crate) classes: Option<Classes<K>>,
    pub(crate) clock: Clock,
    pub(crate) coherence: Coherence,
    /// How long near copies are valid after the log's last heartbeat.
    pub(crate) max_staleness: MaxStaleness,
    pub(crate) proof_source: ProofSource,
    pub(crate) monitor: Arc<Monitor>,
    pub(crate) flights: Arc<CacheFlights<K, V>>,
    /// The changes of the truth that this process has applied before the log reports them.
    pub(crate) applied: Arc<AppliedChanges>,
    /// The warnings of what no shared tier can keep.
    pub(crate) warnings: Warnings,
    /// The codec of keys and values, in a cache with remote tiers.
    pub(crate) codec: Option<TypedCodec<K, V>>,
    /// The codec of keys that a log names, in a cache with remote tiers or a log of the origin.
    pub(crate) key_codec: Option<KeyCodec<K>>,
    pub(crate) tasks: Tasks,
    pub(crate) fencing: Fencing,
    pub(crate) policies: Arc<Policies>,
    /// The front, in a cache with write-behind.
    pub(crate) behind: Option<Arc<Behind>>,
    pub(crate) periods: Periods,
    pub(crate) level: Level,
    pub(crate) loader: Option<BoundLoader<K, V>>,
    pub(crate) load_limit: LoadLimit,
    pub(crate) back_off: BackOff,
    /// The relay, which carries the log of the source of truth into the cache tiers.
    pub(crate) relay: Option<RunningRelay>,
    pub(crate) renewals: Renewals<K>,
    pub(crate) closed: AtomicBool,
    pub(crate) versions: AtomicU64,
}

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    /// Begins a call that near does not answer. Where it needs a runtime, what the cache does in the
    /// background runs from then on: it may have ended with another runtime, or there was none yet. A cache
    /// that has only a near tier needs a runtime for a call that spawns a task.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::Closed`] after the end of the cache, and with [`ErrorKind::Config`]
    /// where it needs a runtime and has none.
    ///
    /// # Cost
    /// Some atomic loads.
    pub(crate) fn begin_call(&self, chain: &Chain, spawns: bool) -> Result<()> {
        self.check_open()?;
        if chain.is_local() && !spawns {
            return Ok(());
        }
        current_runtime()?;
        if let Some(behind) = &self.behind {
            behind.keep_restoring();
        }
        if let Some(relay) = &self.relay {
            relay.keep_running();
        }
        if let Some(log) = chain.log().filter(|_| self.follows_log()) {
            log.keep_following();
        }
        chain.far_to_near().for_each(TierSlot::keep_repaying);
        Ok(())
    }

    /// Whether this process follows the log of its tiers, because another process can outdate near copies.
    pub(crate) fn follows_log(&self) -> bool {
        self.near.is_enabled() && self.fencing.has_leases()
    }

    pub(crate) fn check_open(&self) -> Result<()> {
        if self.closed.load(Ordering::Acquire) {
            return Err(Error::new(ErrorKind::Closed, "the cache was closed; build a new one"));
        }
        Ok(())
    }

    /// The key as the remote tiers of the chain see it.
    pub(crate) fn tier_key(&self, chain: &Chain, key: &TenantKey<K>) -> Result<TierKey> {
        match &self.codec {
            Some(codec) => codec.tier_key(&key.key, &chain.scope),
            None => Ok(UNUSED_KEY),
        }
    }

    /// Records a request, if the cache has a recorder.
    #[inline]
    pub(crate) fn note_request<Q: Hash + ?Sized>(&self, op: RecordedOp, tenant: TenantId, key: &Q) {
        if let Some(recorder) = &self.recorder {
            recorder.note(op, &TenantKeyRef { tenant, key });
        }
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        self.monitor.tell(event);
    }

    pub(crate) fn tell_near(&self, event: &Event<'_>) {
        self.monitor.tell_tier(&self.near_counters, event);
    }

    /// The next version, in a cache where this process is the authority.
    pub(crate) fn next_version(&self) -> Version {
        let micros = self.clock.micros();
        let next = |last: u64| Some(Version::from_u64(last).next(micros).as_u64());
        let last = self.versions.fetch_update(Ordering::AcqRel, Ordering::Acquire, next).unwrap_or_default();
        Version::from_u64(last).next(micros)
    }

    /// Makes a token to propose for a lease. Where processes wait for each other's loads, the token says
    /// whether other processes must wait for this process.
    pub(crate) fn new_token(&self, loads: bool) -> Token {
        match loads && self.policies.coalesce.waits() {
            true => Token::of_loader(),
            false => Token::of_reader(),
        }
    }

    /// The deadlines of an item that is written now, or `None` if the item must not be kept at all.
    pub(crate) fn deadlines(&self, negative: bool, ttl: Option<Duration>) -> Option<Deadlines> {
        self.deadlines_from(self.clock.now(), negative, ttl)
    }

    /// The deadlines of an item that was written at `written`, or `None` if the item must not be kept at
    /// all.
    pub(crate) fn deadlines_from(
        &self,
        written: Timestamp,
        negative: bool,
        ttl: Option<Duration>,
    ) -> Option<Deadlines> {
        let writing = WriteContext { negative, ttl, chance: fastrand::f64() };
        let life = self.policies.expiry.lifetime(&writing);
        (life.fresh > Duration::ZERO).then(|| life.deadlines(written))
    }

    /// The deadlines of a copy in a tier, which may have a longest life of its own.
    pub(crate) fn copy_deadlines(&self, entry: Deadlines, tier_ttl: Option<Duration>) -> Deadlines {
        match tier_ttl {
            None => entry,
            Some(ttl) => {
                let ttl = self.policies.expiry.cap(ttl, fastrand::f64());
                entry.capped(self.clock.now(), ttl)
            }
        }
    }

    /// The deadlines of a copy in the near tier. The deadlines of a near copy are never later than the
    /// entry's own, less the lag of the clock that judges near hits.
    pub(crate) fn near_deadlines(&self, entry: Deadlines, cap: Option<Duration>) -> Deadlines {
        let ttl = match (self.periods.near_ttl, cap) {
            (Some(ttl), Some(cap)) => Some(ttl.min(cap)),
            (ttl, cap) => ttl.or(cap),
        };
        let copy = self.copy_deadlines(entry, ttl);
        let now = self.clock.now();
        let lag = self.clock.granularity();
        let sooner = |end: Timestamp| match end {
            Timestamp::NEVER => end,
            end => Timestamp::from_millis(end.as_millis().saturating_sub(lag.as_millis() as u64)),
        };
        let written = copy.written.min(now);
        Deadlines {
            written,
            fresh_until: sooner(copy.fresh_until).max(written),
            stale_until: sooner(copy.stale_until).max(written),
            expires_at: sooner(copy.expires_at).max(written),
        }
    }

    pub(crate) fn admits(&self, tier: &str, size_bytes: Option<usize>) -> bool {
        self.policies.admission.as_ref().is_none_or(|admission| {
            admission.admits(&AdmitContext { namespace: &self.monitor.namespace, tier, size_bytes })
        })
    }

    /// What the freshness policy does with an entry past its fresh time.
    pub(crate) fn on_stale(&self, deadlines: &Deadlines, renewable: bool) -> OnStale {
        match (&self.policies.freshness, self.stale_hit(deadlines, renewable)) {
            (Some(freshness), Some(hit)) => freshness.on_stale(&hit),
            _ => OnStale::Miss,
        }
    }

    /// Whether a stale entry may be served after its renewal has failed.
    pub(crate) fn serves_on_error(&self, deadlines: &Deadlines) -> bool {
        match (&self.policies.freshness, self.stale_hit(deadlines, true)) {
            (Some(freshness), Some(hit)) => freshness.on_error(&hit),
            _ => false,
        }
    }

    fn stale_hit(&self, deadlines: &Deadlines, renewable: bool) -> Option<StaleHit> {
        let now = self.clock.now();
        (now < deadlines.stale_until).then(|| StaleHit {
            stale_for: now.since(deadlines.fresh_until),
            remaining: deadlines.stale_until.since(now),
            renewable,
        })
    }

    /// The deadlines of an entry that must not be kept.
    pub(crate) fn no_life(&self) -> Deadlines {
        Deadlines::ttl(self.clock.now(), Duration::ZERO)
    }

    /// Puts an entry into the near tier in place of the older one, which is dropped even if the near
    /// tier must not keep the new entry. The result says whether the near tier keeps the entry. The
    /// entry was as new as the source of truth at `proven_at`.
    ///
    /// The caller holds the lock of the key's slot in the flight table. `keep_near` reports no event
    /// under the slot's lock, because an observer may call the cache.
    pub(crate) fn keep_near(
        &self,
        key: &TenantKey<K>,
        entry: &Arc<Entry<V>>,
        keeps: bool,
        proven_at: Timestamp,
    ) -> bool {
        let now = self.clock.now();
        let keeps = keeps && self.near.is_enabled() && now < entry.deadlines().expires_at;
        if keeps {
            self.coherence.wake_log();
            let covered = self.is_named_by_logs(key);
            self.coherence.admit(entry, proven_at, now, self.max_staleness, covered);
            if let Some(classes) = &self.classes {
                entry.set_class(classes.of(&key.key));
            }
            self.near.insert(key.clone(), Arc::clone(entry));
            // After the insertion: a pass in between would not see the entry, and forget its end.
            self.near_expiry.note(entry.deadlines().expires_at, &self.tasks);
        } else {
            self.drop_near(key);
        }
        keeps
    }

    /// Keeps a stale entry in the near tier, unless the near tier has one as new. The caller holds the lock
    /// of the key's slot in the flight table.
    pub(crate) fn keep_stale(&self, key: &TenantKey<K>, stale: &Arc<Entry<V>>) -> bool {
        let held = self.near.get(&TenantKeyRef { tenant: key.tenant, key: &key.key });
        let is_newer = held.is_none_or(|held| held.version() < stale.version());
        is_newer && self.keep_near(key, stale, true, stale.proven_at())
    }

    /// Whether the log can name the key, which this process then finds in its near tier. A long key has only
    /// a digest in the log, so each copy of it is valid for the time of its own proof.
    fn is_named_by_logs(&self, key: &TenantKey<K>) -> bool {
        let is_long = |codec: &KeyCodec<K>| codec.is_long(&key.key);
        self.max_staleness == MaxStaleness::UNLIMITED || !self.key_codec.as_ref().is_some_and(is_long)
    }

    /// Reports a loaded value that cannot be encoded. Its callers get it, and no shared tier keeps it.
    pub(crate) fn tell_unencodable(&self, error: &Error) {
        self.tell(&Event::Unencodable { error });
        self.warnings.unencodable(error);
    }

    /// Reports a fill by [`keep_near`](Self::keep_near), after the slot's lock was released.
    pub(crate) fn tell_kept(&self, kept: bool) {
        if kept {
            self.tell_near(&Event::Filled { tier: NEAR });
        }
    }

    pub(crate) fn drop_near(&self, key: &TenantKey<K>) {
        if self.near.is_enabled() {
            self.near.remove(&TenantKeyRef { tenant: key.tenant, key: &key.key });
        }
    }
}
