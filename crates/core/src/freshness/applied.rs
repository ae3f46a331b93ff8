//! The changes of the truth that this process has applied before the log reports them.
//!
//! A transaction of the application leaves a row in the log of the truth, and the application drops the copies
//! itself once the transaction has committed. When the log reports the same row a moment later, the copies
//! that came in meanwhile are new: they were read after the commit. They may stay, and copies that are older
//! than any other change must not.
//!
//! - In the near tier, the drop has detached the flights of its time, so every copy there came after it. A
//!   report of the same change drops nothing.
//! - The relay of this process waits a moment for a call that is about to apply a change that it has read.
//!   Where the relay came first all the same, the call changes no shared tier, and drops the near copy.
//! - In a shared tier, a failover may undo the drop. So the relay still sends the change there, and names the
//!   first version that may stay: that of the tombstone that the drop left. A copy that a failover brought
//!   back has a lower version.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    fmt,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use parking_lot::Mutex;
use terrace_tier::{Notice, Version};
use tokio::{
    sync::{Notify, RwLock, RwLockReadGuard, RwLockWriteGuard},
    time::{Instant, timeout},
};

/// How long an applied change is known. The log reports a change within a second, and a relay within a minute.
const KNOWN_FOR: Duration = Duration::from_secs(60);
/// The most changes that are known. The log drops the copies of an older one again.
const MOST: usize = 10_000;

/// The changes that this process has applied, itself or by its relay.
#[derive(Default)]
pub(crate) struct AppliedChanges {
    state: Mutex<State>,
    /// A step of the relay is the writer, and a call that applies a change is a reader, so that one of them
    /// knows what the other has done. A call that waits too long for it goes on without.
    steps: RwLock<()>,
    /// Wakes the relay when a guard of an expected change is dropped.
    ended: Notify,
}

#[derive(Default)]
struct State {
    by_number: HashMap<u64, AppliedChange>,
    order: VecDeque<(Instant, u64)>,
    /// The tombstones of applied changes whose own report the tier's log has not made yet, by tenant and key.
    own: HashMap<(Option<String>, Bytes), Version>,
    /// The changes that a call will apply soon. Each belongs to a guard.
    expected: HashSet<u64>,
}

/// A change that this process is about to apply itself. Until the guard is dropped, the relay of this process
/// waits a moment for it.
pub struct ExpectedChange {
    changes: Arc<AppliedChanges>,
    number: u64,
}

impl Drop for ExpectedChange {
    fn drop(&mut self) {
        self.changes.state.lock().expected.remove(&self.number);
        self.changes.ended.notify_waiters();
    }
}

impl fmt::Debug for ExpectedChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExpectedChange").field("number", &self.number).finish_non_exhaustive()
    }
}

/// A change that was applied to every tier.
#[derive(Clone)]
pub(crate) struct AppliedChange {
    pub(crate) tenant: Option<String>,
    pub(crate) key: Bytes,
    /// The first version of copies in the shared tier that may stay, where one is known.
    pub(crate) first_version: Option<Version>,
    /// Whether the relay of this process has applied it.
    pub(crate) by_relay: bool,
}

/// How long the relay waits for the calls that will apply what it has read. Other changes wait as long.
const EXPECTED_WAIT: Duration = Duration::from_millis(50);
/// How long a call waits for the end of a step of the relay.
const STEP_WAIT: Duration = Duration::from_millis(100);

impl AppliedChanges {
    /// Notes the change that the log reports under this number.
    pub(crate) fn add(&self, number: u64, change: AppliedChange) {
        let now = Instant::now();
        let mut state = self.state.lock();
        while let Some(&(added, oldest)) = state.order.front()
            && (state.order.len() >= MOST || now.duration_since(added) >= KNOWN_FOR)
        {
            state.order.pop_front();
            if let Some(change) = state.by_number.remove(&oldest) {
                state.own.remove(&(change.tenant, change.key));
            }
        }
        if let (Some(version), false) = (change.first_version, change.by_relay) {
            state.own.insert((change.tenant.clone(), change.key.clone()), version);
        }
        if state.by_number.insert(number, change).is_none() {
            state.order.push_back((now, number));
        }
    }

    /// Says that a call will apply the change.
    pub(crate) fn announce(self: &Arc<Self>, number: u64) -> ExpectedChange {
        self.state.lock().expected.insert(number);
        ExpectedChange { changes: Arc::clone(self), number }
    }

    /// Waits for a moment until the calls have ended that apply some of these changes.
    pub(crate) async fn await_expected(&self, changes: &[(Option<u64>, Notice)]) {
        let is_expected = || {
            let state = self.state.lock();
            let expects =
                |number: &Option<u64>| number.is_some_and(|number| state.expected.contains(&number));
            !state.expected.is_empty() && changes.iter().any(|(number, _)| expects(number))
        };
        let none_left = async {
            loop {
                let ended = self.ended.notified();
                if !is_expected() {
                    return;
                }
                ended.await;
            }
        };
        // A change that nobody applies in time is dropped as any other.
        let _ = timeout(EXPECTED_WAIT, none_left).await;
    }

    /// Waits for the end of the relay's step, and keeps the next one from beginning.
    pub(crate) async fn between_steps(&self) -> Option<RwLockReadGuard<'_, ()>> {
        timeout(STEP_WAIT, self.steps.read()).await.ok()
    }

    /// Waits until no call applies a change, and keeps the next one waiting.
    pub(crate) async fn begin_step(&self) -> RwLockWriteGuard<'_, ()> {
        self.steps.write().await
    }

    /// Notes what a step of the relay has dropped from every shared tier.
    pub(crate) fn relayed(&self, changes: &[(Option<u64>, Notice)]) {
        for (number, notice) in changes {
            if let (Some(number), Notice::Key { tenant, key, version: None }) = (number, notice) {
                let (tenant, key) = (tenant.clone(), key.clone());
                self.add(*number, AppliedChange { tenant, key, first_version: None, by_relay: true });
            }
        }
    }

    /// Whether the relay of this process has dropped this change from every shared tier.
    pub(crate) fn is_relayed(&self, number: u64, tenant: Option<&str>, key: &Bytes) -> bool {
        let state = self.state.lock();
        let is_same = |change: &AppliedChange| change.tenant.as_deref() == tenant && change.key == *key;
        state.by_number.get(&number).is_some_and(|change| change.by_relay && is_same(change))
    }

    /// Whether this is the report of a change that a call has applied, near copies included.
    pub(crate) fn has(&self, number: u64, notice: &Notice) -> bool {
        self.find(number, notice, |change| !change.by_relay).unwrap_or_default()
    }

    /// Whether this is the first report of the tombstone that an applied change left in the shared tier. The
    /// call has dropped the near copy already. A later report may be the relay's, after a failover has brought
    /// an old copy back; the loss of the log in a failover forgets all tombstones.
    pub(crate) fn is_own_tombstone(&self, notice: &Notice) -> bool {
        let Notice::Key { tenant, key, version: Some(version) } = notice else { return false };
        let mut state = self.state.lock();
        if state.own.is_empty() {
            return false;
        }
        let name = (tenant.clone(), key.clone());
        let is_own = state.own.get(&name) == Some(version);
        if is_own {
            state.own.remove(&name);
        }
        is_own
    }

    /// The notice for a shared tier. That of an applied change lets newer copies stay.
    pub(crate) fn for_shared_tier(&self, number: Option<u64>, notice: &Notice) -> Notice {
        let first_version = |number| self.find(number, notice, |change| change.first_version).flatten();
        match (number.and_then(first_version), notice.clone()) {
            (Some(first), Notice::Key { tenant, key, version: None }) => {
                Notice::Key { tenant, key, version: Some(first) }
            }
            (_, notice) => notice,
        }
    }

    /// Forgets all changes, since the log may be another one now.
    pub(crate) fn forget(&self) {
        let mut state = self.state.lock();
        (state.by_number, state.order, state.own) = Default::default();
    }

    fn find<T>(&self, number: u64, notice: &Notice, of: impl FnOnce(&AppliedChange) -> T) -> Option<T> {
        let Notice::Key { tenant, key, version: None } = notice else { return None };
        let state = self.state.lock();
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
        AppliedChange {
            tenant: None,
            key: key(text),
            first_version: Some(Version::from_u64(8)),
            by_relay: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn only_the_same_change_of_the_same_key_is_known() {
        let applied = AppliedChanges::default();
        applied.add(1, change("a"));
        assert!(applied.has(1, &notice("a", None)));
        assert!(!applied.has(2, &notice("a", None)), "another change of the key");
        assert!(!applied.has(1, &notice("b", None)), "the number of another log");
        assert!(!applied.has(1, &notice("a", Some(9))), "a change with a version of its own");
        assert_eq!(applied.for_shared_tier(Some(1), &notice("a", None)), notice("a", Some(8)));
        for other in [Some(2), None] {
            assert_eq!(applied.for_shared_tier(other, &notice("a", None)), notice("a", None));
        }
        applied.forget();
        assert!(!applied.has(1, &notice("a", None)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_report_of_an_own_tombstone_is_known_once() {
        let applied = AppliedChanges::default();
        applied.add(1, change("a"));
        assert!(!applied.is_own_tombstone(&notice("a", Some(7))), "another write of the key");
        assert!(
            !applied.is_own_tombstone(&notice("b", Some(8))) && !applied.is_own_tombstone(&notice("a", None))
        );
        assert!(applied.is_own_tombstone(&notice("a", Some(8))));
        assert!(!applied.is_own_tombstone(&notice("a", Some(8))), "the report of the relay");
        applied.add(2, change("a"));
        applied.forget();
        assert!(!applied.is_own_tombstone(&notice("a", Some(8))), "the log was lost");
    }

    #[tokio::test(start_paused = true)]
    async fn what_the_relay_has_dropped_is_not_dropped_from_the_shared_tiers_again() {
        let applied = AppliedChanges::default();
        applied.relayed(&[
            (Some(1), notice("a", None)),
            (Some(2), notice("b", Some(9))),
            (None, notice("c", None)),
        ]);
        assert!(applied.is_relayed(1, None, &key("a")));
        assert!(!applied.is_relayed(1, Some("tenant"), &key("a")) && !applied.is_relayed(1, None, &key("b")));
        assert!(!applied.is_relayed(2, None, &key("b")), "it may have left newer copies");
        assert!(!applied.has(1, &notice("a", None)), "near copies are another matter");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_has_a_bound_in_number_and_time() {
        let applied = AppliedChanges::default();
        (0..=MOST as u64).for_each(|number| applied.add(number, change("a")));
        assert_eq!(applied.state.lock().by_number.len(), MOST);
        assert!(!applied.has(0, &notice("a", None)) && applied.has(1, &notice("a", None)));
        tokio::time::advance(KNOWN_FOR).await;
        applied.add(1 << 40, change("a"));
        assert_eq!(applied.state.lock().by_number.len(), 1);
    }
}
