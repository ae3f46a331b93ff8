//! At level `Ttl` no lease fences a fill. A write waits until the unfenced fills of its key have ended.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use terrace_tier::{KeyDigest, TierKey};
use tokio::sync::Notify;

/// The fills of level `Ttl` that are under way in this process. A tier keeps the value that arrives
/// last, so a write waits until the fills of its key have ended, and no fill begins while a write is
/// under way. The wait of a write for these fills lasts at most as long as the tiers' budgets.
#[derive(Default)]
pub(crate) struct UnfencedFills {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    fills: HashMap<KeyDigest, usize>,
    /// The number of clears under way.
    clears: usize,
}

/// The record of one unfenced fill under way.
pub(crate) struct UnfencedFill {
    fills: Arc<UnfencedFills>,
    key: KeyDigest,
}

/// The guard of a clear under way.
pub(crate) struct ClearGuard<'a>(&'a UnfencedFills);

impl UnfencedFills {
    /// Begins a fill, if no clear is under way. After this call the caller checks that no write is under
    /// way.
    pub(crate) fn begin(self: &Arc<Self>, key: &TierKey) -> Option<UnfencedFill> {
        let mut state = self.state.lock();
        if state.clears > 0 {
            return None;
        }
        *state.fills.entry(key.digest).or_default() += 1;
        Some(UnfencedFill { fills: Arc::clone(self), key: key.digest })
    }

    /// Waits until no fill of the keys is under way. The caller has begun its write before this call.
    pub(crate) async fn ended(&self, keys: impl Iterator<Item = &TierKey> + Clone) {
        self.until(|state| !keys.clone().any(|key| state.fills.contains_key(&key.digest))).await;
    }

    /// Begins a clear after all fills under way have ended. No other fill begins until the clear ends.
    pub(crate) async fn clear(&self) -> ClearGuard<'_> {
        self.state.lock().clears += 1;
        let guard = ClearGuard(self);
        self.until(|state| state.fills.is_empty()).await;
        guard
    }

    async fn until(&self, reached: impl Fn(&State) -> bool) {
        loop {
            let ended = self.ended.notified();
            if reached(&self.state.lock()) {
                return;
            }
            ended.await;
        }
    }
}

impl Drop for UnfencedFill {
    fn drop(&mut self) {
        let mut state = self.fills.state.lock();
        if let Some(count) = state.fills.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                state.fills.remove(&self.key);
            }
        }
        drop(state);
        self.fills.ended.notify_waiters();
    }
}

impl Drop for ClearGuard<'_> {
    fn drop(&mut self) {
        self.0.state.lock().clears -= 1;
    }
}
