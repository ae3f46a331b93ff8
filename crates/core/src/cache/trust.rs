//! Whether copies in the near tier may still be believed: what the log of a shared tier says of them.
//!
//! A copy rests on the log, if that was heard when the copy was kept and lately, or on its own
//! reading for as long. A log that is not heard so leaves a near tier of short lives.

use std::{
    hash::Hash,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use super::{
    inner::{DISTRUST, Inner},
    level::Grounds,
    proof::{ANY, Within, dated},
};
use crate::{
    Clock, Entry, Follower, InvalidationLog, Level, Near, Notice, Timestamp, Version,
    chain::Chain,
    near::{Probe, Scoped, TenantId},
    switch::{Defence, stands},
};

/// What is known of the log, on the cache's own clock: that one goes on while a process is stopped.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    /// All that had happened before was told; in milliseconds, zero for never.
    heard_at: AtomicU64,
    /// When it last had a gap: what was read before does not rest on it.
    since: AtomicU64,
    /// Whether a copy may rest on it since then.
    rests: AtomicBool,
}

impl Trust {
    /// Whether a copy is good at `now`: one load and one compare where the log is heard.
    #[inline]
    pub(crate) fn covers<V>(&self, entry: &Entry<V>, now: Timestamp, within: Within) -> bool {
        within.reaches(self.heard_at.load(Ordering::Relaxed), now)
            || within.reaches(entry.proven_at().as_millis(), now)
    }

    /// Whether a copy is good at `now` within another time than the one that it was admitted for.
    pub(crate) fn proves<V>(&self, entry: &Entry<V>, now: Timestamp, within: Within) -> bool {
        let heard = || within.reaches(self.heard_at.load(Ordering::Relaxed), now);
        within.reaches(entry.proven_at().as_millis(), now) || (entry.rests() && heard())
    }

    /// Notes that an entry was as new as the truth at `proven_at`; one that the log does not vouch
    /// for lives on that alone. To be called under the key's slot, before the entry is kept.
    pub(crate) fn admit<V>(&self, entry: &Entry<V>, proven_at: Timestamp, now: Timestamp, within: Within) {
        let heard_at = self.heard_at.load(Ordering::Acquire);
        let since = self.since.load(Ordering::Relaxed);
        let gapless = proven_at.as_millis() > since || !stands(Defence::BeforeGap);
        let rests = (within.reaches(heard_at, now) && gapless) || !stands(Defence::OwnEnd);
        entry.prove(proven_at, within.end(proven_at, rests), rests);
    }

    fn hear(&self, at: Timestamp) {
        self.rests.store(true, Ordering::Relaxed);
        // Who sees this sees since when the log is without a gap.
        self.heard_at.store(at.as_millis(), Ordering::Release);
    }

    /// The log has a gap; whether copies rested on it.
    fn lose(&self, now: Timestamp) -> bool {
        self.heard_at.store(0, Ordering::Relaxed);
        self.since.store(now.as_millis(), Ordering::Relaxed);
        self.rests.swap(false, Ordering::Relaxed)
    }
}

impl Chain {
    /// The log that a near tier in front of this chain follows: the nearest, which is the last to
    /// tell of a write.
    pub(crate) fn log(&self) -> Option<&dyn InvalidationLog> {
        let log = self.tiers.iter().chain(&self.store).find_map(|place| place.log());
        log.or(self.changes.as_deref())
    }
}

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Hears what other processes change in the tiers of `chain`, if there is a near tier to
    /// care for.
    pub(crate) fn listen(self: &Arc<Self>, chain: &Chain) {
        let follows = self.near.is_enabled() && self.level.is_fenced();
        if let Some(log) = chain.log().filter(|_| follows) {
            let follower = Arc::downgrade(self);
            log.follow(&self.monitor.namespace, follower as Weak<dyn Follower>);
        }
    }

    fn tenant_of(&self, tenant: Option<&str>) -> TenantId {
        let namespace = &self.monitor.namespace;
        tenant.map_or(TenantId::NONE, |tenant| TenantId::named(namespace, tenant))
    }

    /// Drops a copy that is older than a change, and keeps what is on its way from being kept.
    fn hear_of(&self, key: &Scoped<K>, version: Option<Version>) {
        let probe = Probe { tenant: key.tenant, key: &key.key };
        // What is as new came in after the change, and so did what is on its way.
        let is_as_new = |version| self.near.get(&probe).is_some_and(|entry| entry.version() >= version);
        match version {
            Some(version) => {
                let outdated = || !is_as_new(version);
                self.flights.hear(key, version.as_u64(), outdated, || self.drop_near(key));
            }
            None => self.flights.write_now(key, || self.drop_near(key)),
        }
    }

    fn drop_copies(&self, tenant: Option<TenantId>) {
        self.flights.detach_all(|key| tenant.is_none_or(|tenant| key.tenant == tenant));
        self.near.clear(tenant);
    }
}

impl<K, V, N> Follower for Inner<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Key { tenant, key, version } => {
                // Every key of this cache is read back from its bytes: others are not in near.
                let key = self.keys.as_ref().and_then(|keys| keys.key_in(key).ok());
                if let Some(key) = key.filter(|_| stands(Defence::Notice)) {
                    let tenant = self.tenant_of(tenant.as_deref());
                    self.hear_of(&Scoped { tenant, key }, *version);
                }
            }
            Notice::Clear { tenant } => {
                let tenant = tenant.as_deref().map(|tenant| self.tenant_of(Some(tenant)));
                self.drop_copies(tenant);
            }
            Notice::Lost => {
                if self.trust.lose(self.clock.now()) && stands(Defence::Gap) {
                    self.drop_copies(None);
                }
            }
        }
    }

    fn heard(&self, at: Instant) {
        let at = if stands(Defence::Dating) { at } else { Instant::now() };
        match &self.grounds {
            // This log tells of the truth as far as a relay has carried it.
            Grounds::Marks(marks) if stands(Defence::Marks) => {
                let told = marks.told();
                if told > ANY {
                    self.trust.hear(told);
                }
            }
            Grounds::None | Grounds::Log | Grounds::Marks(_) => self.trust.hear(dated(&self.clock, at)),
            Grounds::ReadAt | Grounds::Age => {}
        }
    }
}

/// How long near copies of a cache are good without a word from its log; [`Within::FOR_EVER`]
/// where there is no log to follow, and nothing to prove.
pub(crate) fn within(chain: &Chain, level: Level, near_is_enabled: bool, clock: &Clock) -> Within {
    match level {
        Level::Bounded(bound) => Within::of(bound, clock),
        Level::Fenced | Level::Strong if near_is_enabled && chain.log().is_some() => {
            let day = Duration::from_secs(86_400);
            Within::of(if stands(Defence::Distrust) { DISTRUST } else { day }, clock)
        }
        Level::Ttl | Level::Fenced | Level::Strong => Within::FOR_EVER,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Deadlines;

    const WITHIN: Within = Within::millis(1_000);

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(1_000_000 + millis)
    }

    fn entry() -> Entry<u8> {
        Entry::new(Some(1), Version::NONE, Deadlines::ttl(at(0), Duration::from_secs(60)))
    }

    #[test]
    fn a_copy_rests_on_the_log_while_that_is_heard() {
        let (trust, entry) = (Trust::default(), entry());
        trust.hear(at(10));
        trust.admit(&entry, at(10), at(20), WITHIN);
        assert!(entry.is_good(at(5_000)));
        assert!(trust.covers(&entry, at(1_009), WITHIN));
        assert!(!trust.covers(&entry, at(1_010), WITHIN));
        trust.hear(at(4_500));
        assert!(trust.covers(&entry, at(5_000), WITHIN), "heard again without a gap");
    }

    #[test]
    fn a_copy_that_no_log_vouches_for_ends_with_its_own_proof() {
        let (trust, entry) = (Trust::default(), entry());
        trust.admit(&entry, at(10), at(200), WITHIN);
        assert!(trust.covers(&entry, at(1_009), WITHIN) && entry.is_good(at(1_009)));
        trust.hear(at(1_010));
        assert!(!entry.is_good(at(1_010)), "the log does not know of it");
        assert!(entry.is_fresh(at(1_010)), "its life is another matter");
    }

    #[test]
    fn a_longer_life_proves_nothing() {
        let (trust, entry) = (Trust::default(), entry());
        let longer = Deadlines::ttl(at(0), Duration::from_secs(3_600));
        trust.admit(&entry, at(10), at(200), WITHIN);
        entry.expire(longer, WITHIN.end(entry.proven_at(), entry.rests()));
        trust.hear(at(1_010));
        assert!(entry.is_good(at(1_009)) && !entry.is_good(at(1_010)), "the log does not know of it");
        assert!(entry.is_fresh(at(3_599_999)));
        trust.admit(&entry, at(1_010), at(1_020), WITHIN);
        entry.expire(longer, WITHIN.end(entry.proven_at(), entry.rests()));
        assert!(entry.is_good(at(3_599_999)), "now it does");
    }

    #[test]
    fn what_was_read_before_a_gap_does_not_rest_on_the_log() {
        let (trust, entry) = (Trust::default(), entry());
        trust.hear(at(5));
        assert!(trust.lose(at(10)));
        trust.hear(at(20));
        trust.admit(&entry, at(10), at(30), WITHIN);
        assert!(!entry.is_good(at(1_010)));
        assert!(trust.lose(at(40)) && !trust.lose(at(50)), "copies rest on a log that was heard");
    }

    #[test]
    fn a_clock_that_goes_back_proves_nothing() {
        let (trust, entry) = (Trust::default(), entry());
        trust.hear(at(500));
        trust.admit(&entry, at(500), at(500), WITHIN);
        assert!(!trust.covers(&entry, at(400), WITHIN));
    }

    #[test]
    fn without_a_log_every_copy_is_good() {
        let (trust, entry) = (Trust::default(), entry());
        trust.admit(&entry, at(0), at(0), Within::FOR_EVER);
        assert!(trust.covers(&entry, at(50_000), Within::FOR_EVER) && entry.is_good(at(50_000)));
    }
}
