//! Fills of level `Ttl`, which no lease fences.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::TierKey;

type Digest = [u8; 16];

/// The fills of level `Ttl` under way. A write of this process waits for those of its key to end, and
/// none begins while it is under way: a tier that takes whatever comes last must not take the older
/// value last. A wait is as long as the tiers' budgets at most.
#[derive(Default)]
pub(crate) struct UnfencedFills {
    state: Mutex<State>,
    ended: Notify,
}

#[derive(Default)]
struct State {
    fills: HashMap<Digest, usize>,
    /// Clears under way.
    clears: usize,
}

/// One fill under way.
pub(crate) struct UnfencedFill {
    fills: Arc<UnfencedFills>,
    key: Digest,
}

/// A clear under way.
pub(crate) struct ClearGuard<'a>(&'a UnfencedFills);

impl UnfencedFills {
    /// Begins a fill, if no clear is under way. Whether a write is, the caller asks afterwards.
    pub(crate) fn begin(self: &Arc<Self>, key: &TierKey) -> Option<UnfencedFill> {
        let mut state = self.state.lock();
        if state.clears > 0 {
            return None;
        }
        *state.fills.entry(key.digest).or_default() += 1;
        Some(UnfencedFill { fills: Arc::clone(self), key: key.digest })
    }

    /// Waits until no fill of the keys is under way. The caller has begun its write.
    pub(crate) async fn ended(&self, keys: impl Iterator<Item = &TierKey> + Clone) {
        self.until(|state| !keys.clone().any(|key| state.fills.contains_key(&key.digest))).await;
    }

    /// Begins a clear, once no fill is under way; none begins until it ends.
    pub(crate) async fn clear(&self) -> ClearGuard<'_> {
        self.state.lock().clears += 1;
        let clearing = ClearGuard(self);
        self.until(|state| state.fills.is_empty()).await;
        clearing
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
