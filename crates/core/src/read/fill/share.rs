//! Programs whose value types differ share the cell of a key: a fill leaves the values of other types in it.
//!
//! The fence makes that safe. A load over the entry of another type holds a lease, and reads the cell again
//! before it fills. If anything changed the key since the lease was given, before that read or after it, the
//! lease is dead and the tier refuses the fill. So what stays in the cell is as valid as it was before.
//!
//! Only the authority of a cache without a store does that. The nearer tiers get what the authority got: a
//! nearer tier may not have heard yet of a change that the authority knows. In a cache with a store all
//! programs copy the same record.

use terrace_tier::{Deadlines, Op, Reply, Stored, TierKey};

use super::TierCopy;
use crate::{
    Key, Value,
    cache::Inner,
    chain::{FULL_BUDGET, TierSlot},
    near::Near,
};

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    /// Adds to each copy what the cell of its key holds of other types. This is one round trip more for
    /// the load that finds the value of another type, and none for any other.
    pub(super) async fn share_cells(&self, slot: &TierSlot, copies: &mut [TierCopy], wanted: &[usize]) {
        let sharing: Vec<usize> = wanted.iter().copied().filter(|&at| copies[at].shares).collect();
        let batch: Vec<(TierKey, Op)> = sharing.iter().map(|&at| (copies[at].key.clone(), Op::Get)).collect();
        for (at, reply) in sharing.into_iter().zip(slot.call_many(FULL_BUDGET, batch).await) {
            if let Ok(Reply::Hit(held)) = reply {
                self.share_cell(slot, &mut copies[at], &held);
            }
        }
    }

    /// The values of a cell have one life, so it ends when the first of them ends.
    fn share_cell(&self, slot: &TierSlot, copy: &mut TierCopy, held: &Stored) {
        let (Some(ours), Some(theirs)) = (&copy.stored.body, &held.body) else { return };
        let Some(codec) = self.codec.as_ref().filter(|_| self.clock.now() < held.deadlines.fresh_until)
        else {
            return;
        };
        let body = codec.together(ours, theirs, copy.key.digest);
        if body.len() > ours.len() && self.admits(slot.shared.name, Some(body.len())) {
            copy.stored.deadlines = earlier(copy.stored.deadlines, held.deadlines);
            copy.stored.body = Some(body);
        }
    }
}

/// The earlier one of each deadline.
fn earlier(one: Deadlines, other: Deadlines) -> Deadlines {
    Deadlines {
        written: one.written.min(other.written),
        fresh_until: one.fresh_until.min(other.fresh_until),
        stale_until: one.stale_until.min(other.stale_until),
        expires_at: one.expires_at.min(other.expires_at),
    }
}
