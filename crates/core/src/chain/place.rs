//! A remote tier in its place in a chain: budget, health and debts around its calls.

use std::{collections::HashSet, sync::Arc, time::Duration};

use tokio::{runtime::Handle, time::timeout};

use super::{
    debt::{Creditor, Debts, repay},
    health::Health,
    monitor::{Monitor, TierCounters},
    name::interned,
};
use terrace_tier::unexpected;

use crate::{
    Error, ErrorKind, Event, InvalidationLog, LeaseWaiter, Namespace, Op, Reply, Result, Role, Tier, TierKey,
    defence::{Defence, enabled},
};

/// What all tenants of a cache share of one tier.
pub(crate) struct TierShared {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    /// The longest life of a copy here, where the tier was given one.
    pub(crate) ttl: Option<Duration>,
    pub(crate) counters: TierCounters,
    pub(crate) health: Health,
    debts: Arc<Debts>,
    monitor: Arc<Monitor>,
    runtime: Handle,
}

/// A tier of one tenant in its place.
#[derive(Clone)]
pub(crate) struct TierSlot {
    pub(crate) line: Arc<TierShared>,
    tier: Arc<dyn Tier>,
    space: Arc<Namespace>,
    /// The tiers before it, in no order.
    nearer: Arc<[TierSlot]>,
}

impl TierShared {
    pub(crate) fn new(
        name: &str,
        role: Role,
        ttl: Option<Duration>,
        monitor: Arc<Monitor>,
        runtime: Handle,
        beyond: &[Arc<Self>],
    ) -> Self {
        let beyond = beyond.iter().map(|line| Arc::clone(&line.debts)).collect();
        let (health, debts) = (Health::new(), Arc::new(Debts::before(beyond)));
        Self {
            name: interned(name),
            role,
            ttl,
            counters: TierCounters::default(),
            health,
            debts,
            monitor,
            runtime,
        }
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        self.monitor.tell_tier(&self.counters, event);
    }

    /// The results of one trip for `keys` keys: it is judged once, since its keys fail together.
    fn judge_trip(
        &self,
        results: Vec<Result<Reply>>,
        keys: usize,
        operation: &'static str,
    ) -> Vec<Result<Reply>> {
        let missing = || Err(Error::new(ErrorKind::Backend, "the tier gave no reply for a key of a batch"));
        let mut judged: Option<bool> = None;
        let results = results.into_iter().chain(std::iter::repeat_with(missing)).take(keys);
        let judge = |result: Result<Reply>| match (&result, judged) {
            (Err(_), Some(false)) => result.map_err(|error| self.told(error, operation)),
            (Ok(_), Some(true)) => result,
            _ => {
                judged = Some(result.is_ok());
                self.judge(result, operation)
            }
        };
        results.map(judge).collect()
    }

    fn told(&self, error: Error, operation: &'static str) -> Error {
        let error = error.at_tier(self.name).during(operation);
        self.tell(&Event::Failed { tier: self.name, error: &error });
        error
    }

    fn judge<T>(&self, result: Result<T>, operation: &'static str) -> Result<T> {
        match result {
            Ok(value) => {
                if self.health.answered() {
                    self.tell(&Event::Back { tier: self.name });
                }
                Ok(value)
            }
            Err(error) => {
                let error = self.told(error, operation);
                if self.health.failed(&error) {
                    self.tell(&Event::Lost { tier: self.name, error: &error });
                }
                Err(error)
            }
        }
    }
}

impl TierSlot {
    pub(crate) fn new(
        line: Arc<TierShared>,
        tier: Arc<dyn Tier>,
        space: Arc<Namespace>,
        nearer: &[Self],
    ) -> Self {
        Self { line, tier, space, nearer: nearer.into() }
    }

    /// Whether reads of the key may use this tier now: it is there, or due to be tried, and owes
    /// the key nothing.
    pub(crate) fn permits_read(&self, key: &TierKey) -> bool {
        !self.owes(key) && self.line.health.permits_read()
    }

    /// Whether what is here of the key is not to be read.
    pub(crate) fn owes(&self, key: &TierKey) -> bool {
        self.line.debts.owes(key)
    }

    /// One operation on one key, within the budget.
    pub(crate) fn call<'a>(&'a self, key: &'a TierKey, op: Op) -> impl Future<Output = Result<Reply>> + 'a {
        self.call_after(Duration::ZERO, key, op)
    }

    /// A further trip of a request that has spent some of its budget here.
    pub(crate) fn call_after<'a>(
        &'a self,
        spent: Duration,
        key: &'a TierKey,
        op: Op,
    ) -> impl Future<Output = Result<Reply>> + 'a {
        // The tier's future takes the operation: here it would only make each lookup's larger.
        let (operation, budget) = (op.name(), self.space.budget);
        let call = self.tier.apply(key, op);
        async move {
            let reply = self.timed(call, budget, spent).await;
            let reply = reply.unwrap_or_else(|| Err(late(operation, budget)));
            self.line.judge(reply.and_then(|reply| fitting(reply, operation)), operation)
        }
    }

    /// Operations of one kind on many keys, within the budget of a batch. A key that comes twice
    /// waits for the next batch: tiers are promised distinct keys.
    pub(crate) async fn call_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        self.call_many_after(Duration::ZERO, batch).await
    }

    /// [`call_after`](Self::call_after) on many keys.
    pub(crate) async fn call_many_after(
        &self,
        spent: Duration,
        mut batch: Vec<(TierKey, Op)>,
    ) -> Vec<Result<Reply>> {
        if batch.len() < 2 {
            let Some((key, op)) = batch.pop() else { return Vec::new() };
            return vec![self.call_after(spent, &key, op).await];
        }
        let mut seen = HashSet::with_capacity(batch.len());
        let Some(twice) = batch.iter().position(|(key, _)| !seen.insert(key.digest)) else {
            return self.call_distinct(spent, batch).await;
        };
        let rest = batch.split_off(twice);
        let mut replies = self.call_distinct(spent, batch).await;
        replies.extend(Box::pin(self.call_many_after(spent, rest)).await);
        replies
    }

    async fn call_distinct(&self, spent: Duration, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let Some(operation) = batch.first().map(|(_, op)| op.name()) else { return Vec::new() };
        let (keys, budget) = (batch.len(), self.space.budget_for(batch.len()));
        let replies = self.timed(self.tier.apply_many(batch), budget, spent).await;
        let replies = replies.unwrap_or_else(|| (0..keys).map(|_| Err(late(operation, budget))).collect());
        let replies = replies.into_iter().map(|reply| reply.and_then(|reply| fitting(reply, operation)));
        self.line.judge_trip(replies.collect(), keys, operation)
    }

    /// The outcome of a call within what is left of the budget. Tiers that keep theirs need no timer,
    /// but know nothing of earlier trips.
    async fn timed<T>(&self, call: impl Future<Output = T>, budget: Duration, spent: Duration) -> Option<T> {
        if spent.is_zero() && self.tier.keeps_budget() {
            return Some(call.await);
        }
        timeout(budget.saturating_sub(spent), call).await.ok()
    }

    /// Waiting for the leases of other processes, where the tier can.
    pub(crate) fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        self.tier.lease_waiter()
    }

    /// Notes that a write of the key was not confirmed here: what is here still may come nearer.
    pub(crate) fn owe(&self, key: &TierKey) {
        let nearer = self.nearer.iter().filter(|_| enabled(Defence::NearerOwed));
        for place in nearer.chain([self]) {
            if place.line.debts.add(&place.creditor(), key) {
                place.repay();
            }
        }
    }

    fn repay(&self) {
        self.line.runtime.spawn(repay(Arc::downgrade(&self.line.debts)));
    }

    fn creditor(&self) -> Creditor {
        Creditor { tier: Arc::clone(&self.tier), space: Arc::clone(&self.space) }
    }

    /// Makes the copies of the namespace dead; a clear that is not confirmed is owed.
    pub(crate) async fn clear(&self) -> Result<()> {
        let result = self.within_budget(self.tier.clear(), "clear").await;
        if result.is_err() && self.line.role == Role::Cache {
            for place in self.nearer.iter().chain([self]) {
                if place.line.debts.add_clear(&place.creditor()) {
                    place.repay();
                }
            }
        }
        result
    }

    pub(crate) fn log(&self) -> Option<&dyn InvalidationLog> {
        self.tier.log()
    }

    /// Whether a relay's mark is kept here.
    pub(crate) fn publishes(&self) -> bool {
        self.tier.publish().is_some()
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        self.within_budget(self.tier.ping(), "ping").await
    }

    /// As long as the server takes: for those who want to wait for it.
    pub(crate) async fn ready(&self) -> Result<()> {
        self.line.judge(self.tier.ready().await, "ready")
    }

    async fn within_budget(
        &self,
        call: impl Future<Output = Result<()>>,
        operation: &'static str,
    ) -> Result<()> {
        let budget = self.space.budget_for(100);
        let result = timeout(budget, call).await.unwrap_or_else(|_| Err(late(operation, budget)));
        self.line.judge(result, operation)
    }
}

/// A read that is late failed; a write that is late may still happen.
fn late(operation: &str, budget: Duration) -> Error {
    match operation {
        "get" | "lease" | "ping" => Error::timeout(budget),
        _ => Error::new(
            ErrorKind::Unknown,
            format!("no answer within {budget:?}: the write may or may not have happened"),
        ),
    }
}

/// A reply that fits its operation; any other one confirms nothing.
fn fitting(reply: Reply, operation: &str) -> Result<Reply> {
    let fits = match operation {
        "get" | "lease" => matches!(reply, Reply::Hit(_) | Reply::Miss(_)),
        "fill" | "put" => matches!(reply, Reply::Kept(_) | Reply::Refused(_)),
        _ => matches!(reply, Reply::Done { .. }),
    };
    if fits { Ok(reply) } else { Err(unexpected(&reply)) }
}
