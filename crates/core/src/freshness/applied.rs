//! The changes of the truth that this process has applied before the log reports them.
//!
//! A transaction of the application leaves a row in the log of the truth, and the application drops the copies
//! itself once the transaction has committed. When the log reports the same row a moment later, the copies
//! that came in meanwhile are new: they were read after the commit. They may stay, and copies that are older
//! than any other change must not.
//!
//! - In the near tier, the drop has detached the flights of its time, so every copy there came after it. A
//!   report of the same change drops nothing.
//! - In a shared tier, a failover may undo the drop. So the relay still sends the change there, and names the
//!   first version that may stay: the one after the tombstone that the drop left. A copy that a failover
//!   brought back has a lower version.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use terrace_tier::{Notice, Version};
use tokio::time::Instant;

/// How long an applied change is known. The log reports a change within a second, and a relay within a minute.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// The most changes that are known. The log drops the copies of an older one again.
const MOST: usize = 10_000;

/// The changes that this process has applied.
#[derive(Default)]
pub(crate) struct AppliedChanges(Mutex<State>);

#[derive(Default)]
struct State {
    by_number: HashMap<u64, AppliedChange>,
    order: VecDeque<(Instant, u64)>,
}

/// A change that was applied to every tier.
pub(crate) struct AppliedChange {
    pub(crate) tenant: Option<String>,
    pub(crate) key: Bytes,
    /// The first version of copies in the shared tier that may stay, where one is known.
    pub(crate) first_version: Option<Version>,
}

impl AppliedChanges {
    /// Notes the change that the log reports under this number.
    pub(crate) fn add(&self, number: u64, change: AppliedChange) {
        let now = Instant::now();
        let mut state = self.0.lock();
        while let Some(&(added, oldest)) = state.order.front()
            && (state.order.len() >= MOST || now.duration_since(added) >= KNOWN_FOR)
        {
            state.order.pop_front();
            state.by_number.remove(&oldest);
        }
        if state.by_number.insert(number, change).is_none() {
            state.order.push_back((now, number));
        }
    }

    /// Whether this is the report of an applied change.
    pub(crate) fn has(&self, number: u64, notice: &Notice) -> bool {
        self.find(number, notice, |_| ()).is_some()
    }

    /// The notice for a shared tier. That of an applied change lets newer copies stay.
    pub(crate) fn for_shared_tier(&self, number: Option<u64>, notice: Notice) -> Notice {
        let first_version = |number| self.find(number, &notice, |change| change.first_version).flatten();
        match (number.and_then(first_version), notice) {
            (Some(first), Notice::Key { tenant, key, version: None }) => {
                Notice::Key { tenant, key, version: Some(first) }
            }
            (_, notice) => notice,
        }
    }

    /// Forgets all changes, since the log may be another one now.
    pub(crate) fn forget(&self) {
        *self.0.lock() = State::default();
    }

    fn find<T>(&self, number: u64, notice: &Notice, of: impl FnOnce(&AppliedChange) -> T) -> Option<T> {
        let Notice::Key { tenant, key, version: None } = notice else { return None };
        let state = self.0.lock();
        let change = state.by_number.get(&number)?;
        (change.tenant == *tenant && change.key == *key).then(|| of(change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    fn notice(text: &'static str, version: Option<u64>) -> Notice {
        Notice::Key { tenant: None, key: key(text), version: version.map(Version::from_u64) }
    }

    fn change(text: &'static str) -> AppliedChange {
        AppliedChange { tenant: None, key: key(text), first_version: Some(Version::from_u64(8)) }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_same_change_of_the_same_key_is_known() {
        let applied = AppliedChanges::default();
        applied.add(1, change("a"));
        assert!(applied.has(1, &notice("a", None)));
        assert!(!applied.has(2, &notice("a", None)), "another change of the key");
        assert!(!applied.has(1, &notice("b", None)), "the number of another log");
        assert!(!applied.has(1, &notice("a", Some(9))), "a change with a version of its own");
        assert_eq!(applied.for_shared_tier(Some(1), notice("a", None)), notice("a", Some(8)));
        for other in [Some(2), None] {
            assert_eq!(applied.for_shared_tier(other, notice("a", None)), notice("a", None));
        }
        applied.forget();
        assert!(!applied.has(1, &notice("a", None)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_has_a_bound_in_number_and_time() {
        let applied = AppliedChanges::default();
        (0..=MOST as u64).for_each(|number| applied.add(number, change("a")));
        assert_eq!(applied.0.lock().by_number.len(), MOST);
        assert!(!applied.has(0, &notice("a", None)) && applied.has(1, &notice("a", None)));
        tokio::time::advance(KNOWN_FOR).await;
        applied.add(1 << 40, change("a"));
        assert_eq!(applied.0.lock().by_number.len(), 1);
    }
}
