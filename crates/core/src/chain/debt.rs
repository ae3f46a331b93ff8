//! Writes that a cache tier did not confirm: reads of this process go past the tier for those
//! keys, until a tombstone is confirmed there (rule 7).

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use crate::{Op, Tier, TierKey};

/// Keys owed to one tier; beyond, the whole tier is owed a clear.
const MOST_KEYS: usize = 10_000;

/// Tenants' tiers owed a clear; beyond, the tier stays distrusted until the process ends.
const MOST_CLEARS: usize = 1_000;

const BATCH: usize = 500;

/// The unconfirmed writes of one tier.
#[derive(Default)]
pub(crate) struct Debts {
    owed: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: HashMap<[u8; 16], Debt>,
    clears: Vec<Arc<dyn Tier>>,
    /// Everything is owed: the bound was passed.
    all: bool,
    beyond_repair: bool,
    repaying: bool,
    sequence: u64,
}

#[derive(Clone)]
struct Debt {
    key: TierKey,
    tier: Arc<dyn Tier>,
    /// Tells a debt from a later one for the same key.
    sequence: u64,
}

impl Debts {
    /// Whether reads of the key must go past the tier.
    #[inline]
    pub(crate) fn owes(&self, key: &TierKey) -> bool {
        if self.owed.load(Ordering::Acquire) == 0 {
            return false;
        }
        let state = self.state.lock();
        state.all || state.keys.contains_key(&key.digest)
    }

    /// Notes a write that was not confirmed; true if the caller is to start [`repay`].
    pub(crate) fn add(&self, tier: &Arc<dyn Tier>, key: &TierKey) -> bool {
        let mut state = self.state.lock();
        state.sequence += 1;
        let sequence = state.sequence;
        let known = state.keys.contains_key(&key.digest);
        if !known && state.keys.len() >= MOST_KEYS {
            state.owe_clears(tier);
        } else {
            let debt = Debt { key: key.clone(), tier: Arc::clone(tier), sequence };
            state.keys.insert(key.digest, debt);
        }
        self.started(&mut state)
    }

    /// Notes a clear that was not confirmed; true if the caller is to start [`repay`].
    pub(crate) fn add_clear(&self, tier: &Arc<dyn Tier>) -> bool {
        let mut state = self.state.lock();
        state.owe_clears(tier);
        self.started(&mut state)
    }

    fn started(&self, state: &mut State) -> bool {
        self.owed.store(state.count(), Ordering::Release);
        !std::mem::replace(&mut state.repaying, true)
    }

    /// Tries to confirm what is owed; true when nothing is left and no task is needed any more.
    async fn pay(&self) -> bool {
        let (clears, keys) = {
            let state = self.state.lock();
            let keys: Vec<Debt> = state.keys.values().take(BATCH).cloned().collect();
            (state.clears.clone(), keys)
        };
        for tier in clears {
            if tier.clear().await.is_ok() {
                self.state.lock().clears.retain(|owed| !Arc::ptr_eq(owed, &tier));
            }
        }
        for debt in keys {
            let purge = Op::Invalidate { version: None, mark_ttl: MARK_TTL };
            if debt.tier.apply(&debt.key, purge).await.is_err() {
                break;
            }
            let mut state = self.state.lock();
            if state.keys.get(&debt.key.digest).is_some_and(|owed| owed.sequence == debt.sequence) {
                state.keys.remove(&debt.key.digest);
            }
        }
        let mut state = self.state.lock();
        if state.clears.is_empty() && !state.beyond_repair {
            state.all = false;
        }
        self.owed.store(state.count(), Ordering::Release);
        state.repaying = state.count() > 0;
        !state.repaying
    }
}

/// How long the tombstones of repaid debts live: longer than any load.
const MARK_TTL: Duration = Duration::from_secs(60);

impl State {
    fn count(&self) -> usize {
        self.keys.len() + self.clears.len() + usize::from(self.all)
    }

    fn owe_clears(&mut self, tier: &Arc<dyn Tier>) {
        let mut tiers: Vec<Arc<dyn Tier>> = vec![Arc::clone(tier)];
        if !self.all && self.keys.len() >= MOST_KEYS {
            tiers.extend(self.keys.drain().map(|(_, debt)| debt.tier));
        }
        for tier in tiers {
            if self.clears.iter().any(|owed| Arc::ptr_eq(owed, &tier)) {
                continue;
            }
            if self.clears.len() < MOST_CLEARS {
                self.clears.push(tier);
            } else {
                self.beyond_repair = true;
            }
        }
        self.all = true;
    }
}

/// Repays until nothing is owed, or until nobody holds the debts any more.
pub(crate) async fn repay(debts: Weak<Debts>) {
    let mut pause = Duration::from_millis(50);
    loop {
        tokio::time::sleep(pause).await;
        let Some(debts) = debts.upgrade() else { return };
        if debts.pay().await {
            return;
        }
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}
