//! Writes that a cache tier did not confirm: reads of this process go past the tier for those
//! keys, until a tombstone is confirmed there (rule 7).
//!
//! What a tier may still have comes nearer with the next read of any process. So nearer tiers are
//! owed the key as well, and repaid after the tier itself.

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

/// Keys owed to one tier; beyond, the whole tier is owed a clear.
const MOST_KEYS: usize = 10_000;

/// Tenants' tiers owed a clear; beyond, the tier stays distrusted until the process ends.
const MOST_CLEARS: usize = MOST_KEYS;

const BATCH: usize = 500;

/// The unconfirmed writes of one tier.
#[derive(Default)]
pub(crate) struct Debts {
    owed: AtomicUsize,
    state: Mutex<State>,
    /// Those of the tiers beyond, which are repaid first.
    beyond: Vec<Arc<Debts>>,
}

#[derive(Default)]
struct State {
    keys: BTreeMap<[u8; 16], Debt>,
    /// The last one that was tried: the next ones come first, whatever the tier said of it.
    tried: [u8; 16],
    /// By tenant: each handle of one has a tier of its own, and they are one debt.
    clears: BTreeMap<Option<String>, OwedClear>,
    /// Everything is owed: the bound was passed.
    all: bool,
    beyond_repair: bool,
    repaying: bool,
    sequence: u64,
}

/// To whom something is owed.
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
    /// Tells a debt from a later one for the same key.
    sequence: u64,
}

impl Debts {
    /// None yet, of the tier that has `beyond` behind it.
    pub(crate) fn before(beyond: Vec<Arc<Debts>>) -> Self {
        Self { beyond, ..Self::default() }
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

    /// Notes a write that was not confirmed; true if the caller is to start [`repay`].
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

    /// Notes a clear that was not confirmed; true if the caller is to start [`repay`].
    pub(crate) fn add_clear(&self, to: &Creditor) -> bool {
        let mut state = self.state.lock();
        state.sequence += 1;
        state.owe_clears(to);
        self.started(&mut state)
    }

    fn started(&self, state: &mut State) -> bool {
        self.owed.store(state.count(), Ordering::Release);
        !std::mem::replace(&mut state.repaying, true)
    }

    /// Tries to confirm what is owed; true when nothing is left and no task is needed any more.
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
            // One that failed while this one was under way is owed all the same.
            if state.clears.get(&tenant).is_some_and(|owed| owed.sequence == clear.sequence) {
                state.clears.remove(&tenant);
            }
        }
        for debt in keys.into_iter().filter(|debt| !unpaid_beyond(&debt.key)) {
            let purge = Op::Invalidate { version: None, tombstone_ttl: TOMBSTONE_TTL };
            match debt.to.within_budget(debt.to.tier.apply(&debt.key, purge)).await {
                Ok(Reply::Done { .. }) => {}
                Err(error) if error.is_transient() => break,
                // A key that the tier refuses for good must not hold up the others.
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
    /// The outcome of `call`: a tier that never answers, or panics, must not end the repayments.
    async fn within_budget<T>(&self, call: impl Future<Output = Result<T>>) -> Result<T> {
        let budget = self.namespace.budget_for(100);
        match tokio::time::timeout(budget, guarded("the tier panicked", call)).await {
            Ok(result) => result?,
            Err(_elapsed) => Err(Error::timeout(budget)),
        }
    }
}

/// How long the tombstones of repaid debts live. A fill that comes later is refused all the same:
/// its lease is gone.
const TOMBSTONE_TTL: Duration = Duration::from_secs(60);

impl State {
    fn count(&self) -> usize {
        self.keys.len() + self.clears.len() + usize::from(self.all)
    }

    /// The keys to try now, in turn.
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
