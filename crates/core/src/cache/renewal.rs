//! When a hit renews an entry that is still fresh: before its life ends, or because a read extends an idle life.

use std::{sync::Arc, time::Duration};

use terrace_tier::{Deadlines, Timestamp, Version};

use super::Inner;
use crate::{
    Key, Value,
    near::{Entry, Near},
    policy::{RenewalContext, WriteContext},
};

/// The part of an idle life that passes until a read renews it again.
pub(crate) const TOUCHES_PER_LIFE: u32 = 10;

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    /// The entry of a value for readers and the near tier. `deadlines` are those of the value itself, and `cap` is
    /// the longest life of the near copy.
    pub(crate) fn near_entry(
        &self,
        value: Option<V>,
        version: Version,
        deadlines: Deadlines,
        cap: Option<Duration>,
    ) -> Entry<V> {
        let entry = Entry::new(value, version, self.near_deadlines(deadlines, cap));
        if entry.value().is_some() {
            entry.set_renewal(self.renews_from(&deadlines, version));
        }
        entry
    }

    /// From when on a hit renews a value with these deadlines and this version. All processes find the same time as
    /// long as their loads take the same time, since the random number of the time comes from the version.
    pub(crate) fn renews_from(&self, deadlines: &Deadlines, version: Version) -> Timestamp {
        if deadlines.fresh_until == Timestamp::NEVER {
            return Timestamp::NEVER;
        }
        if let Some(idle) = self.policies.idle {
            return before(deadlines.fresh_until, idle - idle / TOUCHES_PER_LIFE);
        }
        let Some(freshness) = &self.policies.freshness else { return Timestamp::NEVER };
        // A copy of a record was written when the record was, so its life is the one that the policy gives.
        let usual = self.policies.expiry.lifetime(&WriteContext::value()).fresh;
        let life = deadlines.fresh_until.since(deadlines.written).min(usual);
        let load_time = self.monitor.load_times.read().mean();
        let lead = freshness.lead(&RenewalContext { life, load_time, chance: chance_of(version) });
        lead.map_or(Timestamp::NEVER, |lead| before(deadlines.fresh_until, lead.min(life / 2)))
    }

    /// Whether a hit of a near entry renews it and is an ordinary hit otherwise. `proven` says that the entry is as
    /// new as the call demands.
    pub(crate) fn is_renewing_hit(&self, entry: &Arc<Entry<V>>, proven: bool) -> bool {
        proven && entry.value().is_some() && entry.is_renewal_due(self.clock.now())
    }
}

fn before(end: Timestamp, lead: Duration) -> Timestamp {
    let lead = u64::try_from(lead.as_millis()).unwrap_or(u64::MAX);
    Timestamp::from_millis(end.as_millis().saturating_sub(lead))
}

/// A number from 0 to below 1 that looks random, by the finalizer of splitmix64.
fn chance_of(version: Version) -> f64 {
    let mut bits = version.as_u64().wrapping_add(0x9E37_79B9_7F4A_7C15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chances_of_following_versions_are_spread_evenly() {
        let mut counts = [0_u32; 10];
        (0..100_000).for_each(|version| counts[(chance_of(Version::from_u64(version)) * 10.0) as usize] += 1);
        assert!(counts.iter().all(|count| (9_600..=10_400).contains(count)), "{counts:?}");
    }
}
