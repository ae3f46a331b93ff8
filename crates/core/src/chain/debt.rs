//! A debt is a change of a key that a cache tier did not confirm.
//!
//! While a tier has a debt for a key, reads of this process go past the tier, since it may hold an old
//! value. A background task repays the debt: it repeats the invalidation until the tier confirms it.
//! Another process may copy the old value into a nearer tier, so nearer tiers get the debt as well. The
//! debt of a nearer tier is repaid after the farther tier's debt.

use std::{
    collections::BTreeMap,
    ops::Bound,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;

use terrace_tier::{Namespace, Op, Reply, Tier, TierKey};

use crate::{Error, Result, panics::guarded};

/// The most keys with a debt in one tier. With more such keys, the debt of the tier is a clear of the
/// whole tier.
const MOST_KEYS: usize = 10_000;

/// The most tenants whose debt is a clear. With more such tenants, reads go past the tier until the
/// process ends.
const MOST_CLEARS: usize = MOST_KEYS;

const BATCH: usize = 500;

/// The debts of one tier.
#[derive(Default)]
pub(crate) struct Debts {
    owed: AtomicUsize,
    state: Mutex<State>,
    /// The debts of the farther tiers, which are repaid first.
    beyond: Vec<Arc<Debts>>,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<[u8; 16], Debt>,
    /// The last key that was tried. The next round of repayments begins after the last tried key, even
    /// if the tier refused that key.
    tried: [u8; 16],
    /// The clears that are owed, by tenant: several handles of one tenant have one debt.
    clears: BTreeMap<Option<String>, OwedClear>,
    /// Whether the number of keys was above its bound, so that the debt is a clear of the whole tier.
    all: bool,
    beyond_repair: bool,
    repaying: bool,
    sequence: u64,
}

/// The tier that a debt belongs to, as one tenant uses it.
#[derive(Clone)]
pub(crate) struct Creditor {
    pub(crate) tier: Arc<dyn Tier>,
    pub(crate) namespace: Arc<Namespace>,
}

#[derive(Clone)]
struct OwedClear {
    to: Creditor,
    sequence: u64,
}

#[derive(Clone)]
struct Debt {
    key: TierKey,
    to: Creditor,
    /// A number that distinguishes a debt from a later one for the same key.
    sequence: u64,
}

impl Debts {
    /// Makes the empty debts of a tier. The farther tiers have the debts `beyond`.
    pub(crate) fn before(beyond: Vec<Arc<Debts>>) -> Self {
        Self { beyond, ..Self::default() }
    }

    /// The number of keys and clears that are owed.
    pub(crate) fn len(&self) -> usize {
        self.owed.load(Ordering::Acquire)
    }

    /// Whether reads of the key must go past the tier.
    #[inline]
    pub(crate) fn owes(&self, key: &TierKey) -> bool {
        if self.owed.load(Ordering::Acquire) == 0 {
            return false;
        }
        let state = self.state.lock();
        state.all || state.keys.contains_key(&key.digest)
    }

    /// Adds a debt for a key. The result is true if the caller must start [`repay`].
    pub(crate) fn add(&self, to: &Creditor, key: &TierKey) -> bool {
        let mut state = self.state.lock();
        state.sequence += 1;
        let sequence = state.sequence;
        let known = state.keys.contains_key(&key.digest);
        if !known && state.keys.len() >= MOST_KEYS {
            state.owe_clears(to);
        } else {
            let debt = Debt { key: key.clone(), to: to.clone(), sequence };
            state.keys.insert(key.digest, debt);
        }
        self.started(&mut state)
    }

    /// Adds a clear as debt. The result is true if the caller must start [`repay`].
    pub(crate) fn add_clear(&self, to: &Creditor) -> bool {
        let mut state = self.state.lock();
        state.sequence += 1;
        state.owe_clears(to);
        self.started(&mut state)
    }

    /// Whether there are debts that no task repays. The result is true for one caller, who must start [`repay`].
    pub(crate) fn must_start(&self) -> bool {
        self.owed.load(Ordering::Acquire) > 0 && !std::mem::replace(&mut self.state.lock().repaying, true)
    }

    fn started(&self, state: &mut State) -> bool {
        self.owed.store(state.count(), Ordering::Release);
        !std::mem::replace(&mut state.repaying, true)
    }

    /// Tries to repay every debt. The result is true when no debt is left, so that the repaying task can
    /// end.
    async fn pay(&self) -> bool {
        let (clears, keys) = {
            let mut state = self.state.lock();
            let keys = state.next_keys();
            (state.clears.clone(), keys)
        };
        let unpaid_beyond = |key: &TierKey| self.beyond.iter().any(|debts| debts.owes(key));
        let uncleared_beyond = self.beyond.iter().any(|debts| debts.state.lock().all);
        for (tenant, clear) in clears {
            if uncleared_beyond {
                break;
            }
            if clear.to.within_budget(clear.to.tier.clear()).await.is_err() {
                continue;
            }
            let mut state = self.state.lock();
            // A clear of the same tenant that failed meanwhile is still a debt.
            if state.clears.get(&tenant).is_some_and(|owed| owed.sequence == clear.sequence) {
                state.clears.remove(&tenant);
            }
        }
        for debt in keys.into_iter().filter(|debt| !unpaid_beyond(&debt.key)) {
            let purge = Op::Invalidate { version: None, tombstone_ttl: TOMBSTONE_TTL };
            match debt.to.within_budget(debt.to.tier.apply(&debt.key, purge)).await {
                Ok(Reply::Done { .. }) => {}
                Err(error) if error.is_transient() => break,
                // A key that the tier refuses permanently must not delay the other keys.
                Ok(_) | Err(_) => continue,
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

impl Creditor {
    /// Gives the outcome of `call` within the tier's budget. A tier that never answers or that panics
    /// must not end the repayments.
    async fn within_budget<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let budget = self.namespace.budget_for(100);
        match tokio::time::timeout(budget, guarded("the tier panicked", call)).await {
            Ok(result) => result?,
            Err(_elapsed) => Err(Error::timeout(budget)),
        }
    }
}

/// How long the tombstone of a repaid debt lives. The tier also refuses a later fill, since the fill's
/// lease has ended.
const TOMBSTONE_TTL: Duration = Duration::from_secs(60);

impl State {
    fn count(&self) -> usize {
        self.keys.len() + self.clears.len() + usize::from(self.all)
    }

    /// The debts of the keys that the next round of repayments tries.
    fn next_keys(&mut self) -> Vec<Debt> {
        let after = self.keys.range((Bound::Excluded(self.tried), Bound::Unbounded));
        let turn = after.chain(self.keys.range(..=self.tried)).map(|(_, debt)| debt.clone());
        let keys: Vec<Debt> = turn.take(BATCH).collect();
        self.tried = keys.last().map_or(self.tried, |last| last.key.digest);
        keys
    }

    fn owe_clears(&mut self, to: &Creditor) {
        let mut creditors = vec![to.clone()];
        if !self.all && self.keys.len() >= MOST_KEYS {
            creditors.extend(std::mem::take(&mut self.keys).into_values().map(|debt| debt.to));
        }
        for to in creditors {
            let tenant = to.namespace.tenant.clone();
            if self.clears.len() < MOST_CLEARS || self.clears.contains_key(&tenant) {
                self.clears.insert(tenant, OwedClear { to, sequence: self.sequence });
            } else {
                self.beyond_repair = true;
            }
        }
        self.all = true;
    }
}

/// The task that repays debts. Where it is dropped with its runtime, another one may start.
pub(crate) struct Repayer {
    debts: Weak<Debts>,
    ended: bool,
}

impl Repayer {
    pub(crate) fn of(debts: &Arc<Debts>) -> Self {
        Self { debts: Arc::downgrade(debts), ended: false }
    }
}

impl Drop for Repayer {
    fn drop(&mut self) {
        if let Some(debts) = self.debts.upgrade().filter(|_| !self.ended) {
            debts.state.lock().repaying = false;
        }
    }
}

/// Repays debts until none is left, or until the cache is dropped.
pub(crate) async fn repay(mut repayer: Repayer) {
    let mut pause = Duration::from_millis(50);
    loop {
        tokio::time::sleep(pause).await;
        let Some(debts) = repayer.debts.upgrade() else { return };
        if debts.pay().await {
            repayer.ended = true;
            return;
        }
        pause = (pause * 2).min(Duration::from_secs(1));
    }
}
