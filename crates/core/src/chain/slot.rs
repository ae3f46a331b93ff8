//! A slot of a chain holds one remote tier. The budget, health and debts of the tier apply to each of
//! its calls.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::future::BoxFuture;
use hashbrown::HashSet;
use terrace_tier::{
    Finding, FindingWatcher, FrontStore, InvalidationLog, LeaseWaiter, Namespace, Op, Reply, Role, Tier,
    TierKey,
    defence::{Defence, enabled},
    runtime::current_runtime,
    unexpected,
};
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use super::{
    debt::{Creditor, Debts, Repayer, repay},
    health::{Health, is_read},
    monitor::{Monitor, TierCounters},
    names::interned,
    probe::{Probing, probe},
    warnings::Warnings,
};
use crate::{
    Error, ErrorKind, Event, Result,
    latency::LatencyCounter,
    overload::{Limit, Permit},
};

/// The time that a request has spent of a tier's budget before its first round trip.
pub(crate) const FULL_BUDGET: Duration = Duration::ZERO;

/// The part of a tier that all tenants of a cache share.
pub(crate) struct TierShared {
    pub(crate) name: &'static str,
    pub(crate) role: Role,
    /// The longest life of a copy in this tier, if the tier was given one.
    pub(crate) ttl: Option<Duration>,
    pub(crate) counters: TierCounters,
    pub(crate) times: CallTimes,
    /// The bound on calls under way of a store. It is for tiers that do not bound their calls themselves.
    calls: Option<Limit>,
    pub(crate) health: Health,
    debts: Arc<Debts>,
    monitor: Arc<Monitor>,
    warnings: Warnings,
    /// The tier that is probed while it is lost. It is set before the first call.
    probed: OnceLock<Arc<dyn Tier>>,
    is_probing: AtomicBool,
}

/// The times of the calls of a tier, by what the tier answered.
#[derive(Debug, Default)]
pub(crate) struct CallTimes {
    pub(crate) reads: LatencyCounter,
    pub(crate) writes: LatencyCounter,
    pub(crate) failures: LatencyCounter,
}

/// A tier as one tenant of a cache uses it.
#[derive(Clone)]
pub(crate) struct TierSlot {
    pub(crate) shared: Arc<TierShared>,
    tier: Arc<dyn Tier>,
    namespace: Arc<Namespace>,
    /// The nearer tiers, in no order.
    nearer: Arc<[TierSlot]>,
}

impl TierShared {
    pub(crate) fn new(
        name: &str,
        role: Role,
        ttl: Option<Duration>,
        monitor: Arc<Monitor>,
        beyond: &[Arc<Self>],
        max_calls: usize,
    ) -> Self {
        let beyond = beyond.iter().map(|shared| Arc::clone(&shared.debts)).collect();
        let (health, debts) = (Health::new(), Arc::new(Debts::before(beyond)));
        let name = interned(name);
        let warnings = Warnings::new(Arc::clone(&monitor.namespace), name);
        Self {
            name,
            role,
            ttl,
            counters: TierCounters::default(),
            times: CallTimes::default(),
            calls: (role == Role::Store).then(|| Limit::new(max_calls)),
            health,
            debts,
            monitor,
            warnings,
            probed: OnceLock::new(),
            is_probing: AtomicBool::new(false),
        }
    }

    pub(crate) fn pending_invalidations(&self) -> u64 {
        self.debts.len() as u64
    }

    /// Counts the time of one call.
    fn time(&self, operation: &str, succeeded: bool, elapsed: Duration) {
        let times = match succeeded {
            false => &self.times.failures,
            true if is_read(operation) => &self.times.reads,
            true => &self.times.writes,
        };
        times.add(elapsed);
    }

    pub(crate) fn tell(&self, event: &Event<'_>) {
        if let Event::Undecodable { error, .. } = event {
            self.warnings.undecodable(error);
        }
        self.monitor.tell_tier(&self.counters, event);
    }

    /// Reports the results of one round trip for `keys` keys. The round trip counts once for the tier's
    /// health, since the keys of a batch fail together.
    fn judge_trip(
        self: &Arc<Self>,
        results: Vec<Result<Reply>>,
        keys: usize,
        operation: &'static str,
    ) -> Vec<Result<Reply>> {
        let missing = || Err(Error::new(ErrorKind::Backend, "the tier gave no reply for a key of a batch"));
        let mut judged: Option<bool> = None;
        let results = results.into_iter().chain(std::iter::repeat_with(missing)).take(keys);
        let judge = |result: Result<Reply>| match (&result, judged) {
            (Err(_), Some(false)) => result.map_err(|error| self.report(error, operation)),
            (Ok(_), Some(true)) => result,
            _ => {
                judged = Some(result.is_ok());
                self.judge(result, operation)
            }
        };
        results.map(judge).collect()
    }

    fn report(&self, error: Error, operation: &'static str) -> Error {
        let error = error.at_tier(self.name).during(operation);
        self.tell(&Event::Failed { tier: self.name, error: &error });
        error
    }

    fn judge<T>(self: &Arc<Self>, result: Result<T>, operation: &'static str) -> Result<T> {
        match result {
            Ok(value) => {
                self.answered();
                // A server that took no writes may have answered reads all the time.
                if !is_read(operation) {
                    self.warnings.back();
                }
                Ok(value)
            }
            Err(error) => {
                let error = self.report(error, operation);
                if self.health.failed(&error) {
                    self.warnings.lost(&error);
                    self.tell(&Event::Lost { tier: self.name, error: &error });
                    self.start_probe();
                } else {
                    self.warnings.failed(&error);
                    // A probe ends with its runtime, and the calls of another one begin it again.
                    if self.health.is_lost() {
                        self.start_probe();
                    }
                }
                Err(error)
            }
        }
    }

    /// Notes an answer of the tier.
    pub(super) fn answered(&self) {
        if self.health.answered() {
            self.warnings.back();
            self.tell(&Event::Back { tier: self.name });
        }
    }

    fn start_probe(self: &Arc<Self>) {
        if let Some(tier) = self.probed.get()
            && !self.is_probing.swap(true, Ordering::AcqRel)
        {
            let probing = Probing { shared: Arc::downgrade(self), ended: false };
            if let Ok(runtime) = current_runtime() {
                runtime.spawn(probe(probing, Arc::clone(tier)));
            }
        }
    }

    /// Notes that no probe runs any more, since it was dropped with its runtime.
    pub(super) fn lost_probe(&self) {
        self.is_probing.store(false, Ordering::Release);
    }

    /// Ends the probe unless the tier is lost. A tier that is lost from now on starts another one.
    pub(super) fn ends_probe(&self) -> bool {
        if self.health.is_lost() {
            return false;
        }
        self.is_probing.store(false, Ordering::Release);
        !self.health.is_lost() || self.is_probing.swap(true, Ordering::AcqRel)
    }
}

impl FindingWatcher for TierShared {
    fn found(&self, finding: &Finding) {
        self.warnings.found(finding);
    }
}

impl TierSlot {
    pub(crate) fn new(
        shared: Arc<TierShared>,
        tier: Arc<dyn Tier>,
        namespace: Arc<Namespace>,
        nearer: &[Self],
    ) -> Self {
        Self { shared, tier, namespace, nearer: nearer.into() }
    }

    /// Begins to hear what the tier finds, and to probe the tier while it is lost.
    pub(crate) fn watch(&self) {
        let watcher = Arc::downgrade(&self.shared);
        self.tier.watch_findings(watcher);
        let _ = self.shared.probed.set(Arc::clone(&self.tier));
    }

    /// Whether reads of the key may use this tier now. A tier that serves a read must not be lost,
    /// unless it is due for a probe, and must have no debt for the key.
    pub(crate) fn permits_read(&self, key: &TierKey) -> bool {
        !self.owes(key) && self.shared.health.permits_read()
    }

    /// Whether the tier may hold an old value of the key, which a read must not use.
    pub(crate) fn owes(&self, key: &TierKey) -> bool {
        self.shared.debts.owes(key)
    }

    /// Runs one operation on one key, within the rest of the request's budget.
    pub(crate) fn call<'a>(
        &'a self,
        spent: Duration,
        key: &'a TierKey,
        op: Op,
    ) -> impl Future<Output = Result<Reply>> + 'a {
        // The tier's future owns the operation. If the async block here owned the operation, the future
        // of each lookup would be larger.
        let (operation, budget) = (op.name(), self.namespace.budget);
        let call = self.in_span(operation, self.tier.apply(key, op));
        async move {
            let began = Instant::now();
            let reply = match self.enter(budget, spent).await {
                Ok((spent, _permit)) => self.timed(call, budget, spent).await,
                Err(busy) => Some(Err(busy)),
            };
            let reply = reply.unwrap_or_else(|| Err(late(operation, budget)));
            let reply = reply.and_then(|reply| fitting(reply, operation));
            self.shared.time(operation, reply.is_ok(), began.elapsed());
            self.shared.judge(reply, operation)
        }
    }

    /// Runs operations of one kind on many keys, within the rest of a batch's budget. A key that comes
    /// twice waits for the next batch, because a tier must get distinct keys.
    pub(crate) async fn call_many(
        &self,
        spent: Duration,
        mut batch: Vec<(TierKey, Op)>,
    ) -> Vec<Result<Reply>> {
        if batch.len() < 2 {
            let Some((key, op)) = batch.pop() else { return Vec::new() };
            return vec![self.call(spent, &key, op).await];
        }
        let mut seen = HashSet::with_capacity(batch.len());
        let Some(twice) = batch.iter().position(|(key, _)| !seen.insert(key.digest)) else {
            return self.call_distinct(spent, batch).await;
        };
        let rest = batch.split_off(twice);
        let mut replies = self.call_distinct(spent, batch).await;
        replies.extend(Box::pin(self.call_many(spent, rest)).await);
        replies
    }

    async fn call_distinct(&self, spent: Duration, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let Some(operation) = batch.first().map(|(_, op)| op.name()) else { return Vec::new() };
        let (keys, budget) = (batch.len(), self.namespace.budget_for(batch.len()));
        let began = Instant::now();
        let replies = match self.enter(budget, spent).await {
            Ok((spent, _permit)) => {
                self.timed(self.in_span(operation, self.tier.apply_many(batch)), budget, spent).await
            }
            Err(busy) => Some((0..keys).map(|_| Err(busy.clone())).collect()),
        };
        let replies = replies.unwrap_or_else(|| (0..keys).map(|_| Err(late(operation, budget))).collect());
        let replies = replies.into_iter().map(|reply| reply.and_then(|reply| fitting(reply, operation)));
        let replies: Vec<_> = replies.collect();
        self.shared.time(operation, replies.iter().any(Result::is_ok), began.elapsed());
        self.shared.judge_trip(replies, keys, operation)
    }

    /// The call in a span of its own, where spans are switched on. Other calls do not carry the size of a span.
    fn in_span<'a, T: 'a>(&self, operation: &str, call: BoxFuture<'a, T>) -> BoxFuture<'a, T> {
        match self.shared.monitor.call_span(self.shared.name, operation) {
            Some(span) => Box::pin(call.instrument(span)),
            None => call,
        }
    }

    /// The permission for a call of a store, where the tier does not bound its calls itself, and the time
    /// of the budget that is spent by then.
    async fn enter(&self, budget: Duration, spent: Duration) -> Result<(Duration, Option<Permit>)> {
        let limit = self.shared.calls.as_ref().filter(|_| !self.tier.keeps_budget());
        let Some(limit) = limit else { return Ok((spent, None)) };
        if let Some(permit) = limit.try_enter() {
            return Ok((spent, Some(permit)));
        }
        let began = Instant::now();
        // The wait is boxed, so that calls which do not wait do not pay for its stack size.
        let permit = Box::pin(limit.enter(budget.saturating_sub(spent))).await;
        let spent = spent + began.elapsed();
        // A call that has no time left is not sent: a write would not know whether it happened.
        let permit = permit.filter(|_| spent < budget).ok_or_else(|| {
            let max = limit.max();
            Error::new(
                ErrorKind::Busy,
                format!("{max} calls are under way, which is the limit; nothing was sent"),
            )
        })?;
        Ok((spent, Some(permit)))
    }

    /// Gives the output of a call, or `None` after the budget is spent. A tier that keeps its budget
    /// itself needs no timer, but does not know how much time earlier calls of the request took.
    async fn timed<T>(&self, call: impl Future<Output = T>, budget: Duration, spent: Duration) -> Option<T> {
        if spent.is_zero() && self.tier.keeps_budget() {
            return Some(call.await);
        }
        timeout(budget.saturating_sub(spent), call).await.ok()
    }

    /// Whether a call of the tier that is held and not polled keeps no other call waiting.
    pub(crate) fn may_be_held(&self) -> bool {
        self.tier.may_be_held()
    }

    /// The waiter for the leases of other processes, if the tier has one.
    pub(crate) fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        self.tier.lease_waiter()
    }

    /// Notes a debt of this tier, which did not confirm a write of the key. Nearer tiers get the debt,
    /// too, since the old value may be copied into them.
    pub(crate) fn owe(&self, key: &TierKey) {
        let nearer = self.nearer.iter().filter(|_| enabled(Defence::NearerOwed));
        for slot in nearer.chain([self]) {
            if slot.shared.debts.add(&slot.creditor(), key) {
                slot.repay();
            }
        }
    }

    fn repay(&self) {
        let repayer = Repayer::of(&self.shared.debts);
        if let Ok(runtime) = current_runtime() {
            runtime.spawn(repay(repayer));
        }
    }

    /// Repays the debts of the tier, if the task that does so has ended with its runtime.
    pub(crate) fn keep_repaying(&self) {
        if self.shared.debts.must_start() {
            self.repay();
        }
    }

    fn creditor(&self) -> Creditor {
        Creditor { tier: Arc::clone(&self.tier), namespace: Arc::clone(&self.namespace) }
    }

    /// Clears the copies of the namespace. A clear that the tier does not confirm becomes a debt.
    pub(crate) async fn clear(&self) -> Result<()> {
        let result = self.within_budget(self.tier.clear(), "clear").await;
        if result.is_err() && self.shared.role == Role::Cache {
            for slot in self.nearer.iter().chain([self]) {
                if slot.shared.debts.add_clear(&slot.creditor()) {
                    slot.repay();
                }
            }
        }
        result
    }

    /// The store's part of write-behind, if the tier has it.
    pub(crate) fn front_store(&self) -> Option<&dyn FrontStore> {
        self.tier.front_store()
    }

    pub(crate) fn log(&self) -> Option<&dyn InvalidationLog> {
        self.tier.log()
    }

    /// Whether the tier keeps a relay's watermark.
    pub(crate) fn publishes(&self) -> bool {
        self.tier.publish().is_some()
    }

    pub(crate) async fn ping(&self) -> Result<()> {
        self.within_budget(self.tier.ping(), "ping").await
    }

    /// Waits until the tier is ready. No budget limits `ready`, because its caller wants to wait.
    pub(crate) async fn ready(&self) -> Result<Vec<Finding>> {
        let findings = self.shared.judge(self.tier.ready().await, "ready")?;
        Ok(findings.into_iter().map(|finding| finding.at_tier(self.shared.name)).collect())
    }

    async fn within_budget(
        &self,
        call: impl Future<Output = Result<()>>,
        operation: &'static str,
    ) -> Result<()> {
        let budget = self.namespace.budget_for(100);
        if self.tier.keeps_budget() {
            return self.shared.judge(call.await, operation);
        }
        let result = timeout(budget, call).await.unwrap_or_else(|_| Err(late(operation, budget)));
        self.shared.judge(result, operation)
    }
}

/// The error of a late call. A late read has failed, but a late write may still happen.
fn late(operation: &str, budget: Duration) -> Error {
    match operation {
        "get" | "lease" | "ping" => Error::timeout(budget),
        _ => Error::new(
            ErrorKind::Unknown,
            format!("no answer within {budget:?}: the write may or may not have happened"),
        )
        .with_cure("read the value before you try again, and check the load of the server"),
    }
}

/// Returns the reply if it fits its operation. A reply of another kind confirms nothing.
fn fitting(reply: Reply, operation: &str) -> Result<Reply> {
    let fits = match operation {
        "get" | "lease" => matches!(reply, Reply::Hit(_) | Reply::Miss(_)),
        "fill" | "put" => matches!(reply, Reply::Kept(_) | Reply::Refused(_) | Reply::TooOld),
        _ => matches!(reply, Reply::Done { .. }),
    };
    if fits { Ok(reply) } else { Err(unexpected(&reply)) }
}
