//! A tier of a fake: one namespace of its server, opened by one cache.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use terrace_tier::{
    Finding, Follower, FrontStore, InvalidationLog, LeaseWaiter, Level, Moment, Namespace, NamespaceGuard,
    Op, Publish, Reply, Result, Role, Tier, TierKey, Token,
    lease::{LeaseEnd, LeaseGuard, LeaseRef},
};

use super::{
    Address, Data, Server,
    epochs::{HeardEpochs, scope},
    process::Process,
};
use crate::calls::Call;

pub(crate) struct FakeTier {
    pub(crate) server: Arc<Server>,
    pub(crate) namespace: Namespace,
    pub(crate) process: Process,
    guard: NamespaceGuard,
    agreed: Mutex<Option<NamespaceGuard>>,
    /// The number of the follower whose writes these are; zero where the cache follows no log.
    origin: AtomicU64,
}

impl fmt::Debug for FakeTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("FakeTier");
        out.field("name", &self.server.name).field("namespace", &self.namespace).field("guard", &self.guard);
        out.finish()
    }
}

#[async_trait]
impl Tier for FakeTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        self.process.trip(&self.server).await?;
        op.ensure_known()?;
        self.server.counters.add(Call::of(&op));
        self.server.counters.trip();
        let reply = self.step(key, &op);
        self.server.log.deliver();
        reply
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        if let Err(error) = self.process.trip(&self.server).await {
            return batch.iter().map(|_| Err(error.clone())).collect();
        }
        self.server.counters.trip();
        let answer = |(key, op): &(TierKey, Op)| {
            op.ensure_known()?;
            self.server.counters.add(Call::of(op));
            self.step(key, op)
        };
        let replies = batch.iter().map(answer).collect();
        self.server.log.deliver();
        (self.server.hooks.batch)(replies)
    }

    async fn clear(&self) -> Result<()> {
        self.process.trip(&self.server).await?;
        self.server.counters.add(Call::Clear);
        self.server.counters.trip();
        if self.namespace.role == Role::Cache {
            let mut data = self.server.data.lock();
            (self.server.hooks.clear)(&mut data, &self.namespace);
            if self.log().is_some() {
                self.server.log.append_clear(self.origin.load(Ordering::SeqCst), &self.namespace);
            }
            drop(data);
            self.process.epochs.forget(&self.namespace.name, self.namespace.tenant.as_deref());
            self.server.log.deliver();
        }
        Ok(())
    }

    async fn ping(&self) -> Result<()> {
        self.process.trip(&self.server).await?;
        self.server.counters.add(Call::Ping);
        self.server.counters.trip();
        Ok(())
    }

    async fn ready(&self) -> Result<Vec<Finding>> {
        self.ping().await?;
        let guard = self.server.agree(&self.namespace).map_err(|error| error.at_tier(&self.server.name))?;
        *self.agreed.lock() = Some(guard);
        Ok(Vec::new())
    }

    fn may_be_held(&self) -> bool {
        true
    }

    fn log(&self) -> Option<&dyn InvalidationLog> {
        if self.server.has_log(&self.namespace) { Some(self) } else { None }
    }

    fn front_store(&self) -> Option<&dyn FrontStore> {
        if self.namespace.role == Role::Store { Some(self) } else { None }
    }

    fn publish(&self) -> Option<&dyn Publish> {
        let has_watermark = self.namespace.role == Role::Cache && self.server.has_log(&self.namespace);
        if has_watermark { Some(self) } else { None }
    }

    fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        Some(self)
    }
}

impl LeaseWaiter for FakeTier {
    fn hold(&self, key: &TierKey, token: Token) -> LeaseGuard {
        self.process.lease_tracker.hold(LeaseRef { address: self.address(key), token })
    }

    fn wait(&self, key: &TierKey, token: Token) -> BoxFuture<'static, Result<LeaseEnd>> {
        self.process.lease_tracker.wait(LeaseRef { address: self.address(key), token })
    }
}

impl InvalidationLog for FakeTier {
    fn follow(&self, namespace: &str, follower: Weak<dyn Follower>) {
        let forgets = self.server.hooks.forgets;
        let epochs = if forgets { self.process.epochs.clone() } else { HeardEpochs::default() };
        self.origin.store(self.server.log.follow(namespace, follower, epochs), Ordering::SeqCst);
    }
}

impl FakeTier {
    pub(super) fn new(
        server: Arc<Server>,
        namespace: Namespace,
        process: Process,
        guard: NamespaceGuard,
    ) -> Self {
        Self { server, namespace, process, guard, agreed: Mutex::default(), origin: AtomicU64::new(0) }
    }

    fn address(&self, key: &TierKey) -> Address {
        (self.server.hooks.address)(&self.namespace, key)
    }

    fn step(&self, key: &TierKey, op: &Op) -> Result<Reply> {
        let mut data = self.server.data.lock();
        self.permit(&mut data, op)?;
        if let Some(hit) = self.hit_by_heard_epoch(&data, key, op) {
            return Ok(hit);
        }
        let origin = self.origin.load(Ordering::SeqCst);
        let reply = self.server.step(&mut data, &self.namespace, origin, key, op);
        let scope = scope(&self.namespace);
        if let Some(epoch) = data.epochs.get(&scope) {
            self.process.epochs.record(scope, *epoch, self.server.clock.now());
        }
        Ok(match reply {
            Reply::Hit(stored) => Reply::Hit(self.server.with_watermark(&mut data, &self.namespace, stored)),
            reply => reply,
        })
    }

    /// The hit of a read that judges the copy by the epoch that its process has heard, as a plain GET of
    /// Redis does. At level `Bounded`, and behind a nearer tier, a read asks for the epoch with the copy.
    fn hit_by_heard_epoch(&self, data: &Data, key: &TierKey, op: &Op) -> Option<Reply> {
        let asks_epoch = self.namespace.is_promoted || matches!(self.namespace.level, Level::Bounded(_));
        if self.namespace.role == Role::Store || asks_epoch || !matches!(op, Op::Get | Op::Lease { .. }) {
            return None;
        }
        let clock = &self.server.clock;
        let epoch = self.process.epochs.get(&scope(&self.namespace), clock.now())?;
        let moment = Moment::new(self.namespace.role, clock.now(), clock.micros(), epoch);
        let cell = data.cells.get(&self.address(key));
        let reply = (self.server.hooks.transition)(cell, op, &moment).1;
        matches!(reply, Reply::Hit(_)).then_some(reply)
    }
}
