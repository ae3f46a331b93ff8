//! The tier of one namespace: each operation goes to the reader, the writer, the log or the leases.

use std::{
    fmt,
    sync::{Arc, Weak, atomic::Ordering},
};

use async_trait::async_trait;
use redis::Value;
use terrace_tier::{
    Finding, FindingWatcher, Follower, InvalidationLog, LeaseWaiter, Level, Namespace, Op, Publish, Reply,
    Result, Tier, TierKey,
};
use tokio::time::Instant;

use crate::{
    connection::{ConnectionManager, within},
    doctor::Doctor,
    error::{Effect, during, server_error},
    leases::TierLeases,
    namespace::NamespaceState,
    options::register_options,
    read::CellReader,
    write::CellWriter,
};

/// A cache tier in Redis. Scripts on the server fence its writes.
pub(crate) struct RedisTier {
    pub(crate) namespace: Arc<Namespace>,
    pub(crate) state: Arc<NamespaceState>,
    pub(crate) manager: Arc<ConnectionManager>,
    pub(crate) prefix: String,
    pub(crate) reader: CellReader,
    pub(crate) writer: CellWriter,
    pub(crate) leases: TierLeases,
}

#[async_trait]
impl Tier for RedisTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let operation = op.name();
        let reply = match op {
            Op::Get => self.reader.get(key).await,
            Op::Lease { .. } => self.reader.lease(key, op).await,
            // Boxed, so that the future of a read stays small.
            _ => Box::pin(self.writer.write(key, op)).await,
        };
        reply.map_err(|error| during(error, operation))
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let operation = batch.first().map_or("get", |(_, op)| op.name());
        let deadline = Instant::now() + self.namespace.budget_for(batch.len());
        let replies = match batch.first() {
            Some((_, Op::Get | Op::Lease { .. })) => self.reader.read_batch(batch, deadline).await,
            _ => self.writer.write_batch(batch, deadline).await,
        };
        replies.into_iter().map(|reply| reply.map_err(|error| during(error, operation))).collect()
    }

    async fn clear(&self) -> Result<()> {
        self.writer.clear().await.map_err(|error| during(error, "clear"))
    }

    async fn ping(&self) -> Result<()> {
        let ping = redis::cmd("PING");
        let sent = self.manager.send(&ping, Effect::Read);
        match within(Instant::now() + self.namespace.budget, Effect::Read, sent).await {
            Ok(Value::ServerError(answer)) => Err(during(server_error(&answer), "ping")),
            Ok(_) => Ok(()),
            Err(error) => Err(during(error, "ping")),
        }
    }

    async fn ready(&self) -> Result<Vec<Finding>> {
        self.manager.wait_connected().await.map_err(|error| during(error, "ready"))?;
        let (manager, log) = (&self.manager, &self.writer.log);
        let doctor = Doctor { manager, log, prefix: &self.prefix, level: self.namespace.level };
        let findings = doctor.examine().await.map_err(|error| during(error, "ready"))?;
        let registered = register_options(&self.manager, &self.state, &self.namespace).await;
        registered.map_err(|error| during(error, "ready"))?;
        *self.state.registered_at.lock() = Some(Instant::now());
        Ok(findings)
    }

    fn watch_findings(&self, watcher: Weak<dyn FindingWatcher>) {
        self.manager.watchers.add(watcher);
    }

    fn keeps_budget(&self) -> bool {
        true
    }

    /// A call waits for a reply, and holds neither a lock nor the connection, which all calls share.
    fn may_be_held(&self) -> bool {
        true
    }

    fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        Some(&self.leases)
    }

    fn log(&self) -> Option<&dyn InvalidationLog> {
        if self.namespace.level == Level::Ttl { None } else { Some(self) }
    }

    fn publish(&self) -> Option<&dyn Publish> {
        if self.namespace.level == Level::Ttl { None } else { Some(&self.writer) }
    }
}

impl InvalidationLog for RedisTier {
    fn follow(&self, namespace: &str, follower: Weak<dyn Follower>) {
        let origin = self.writer.log.follow(namespace, follower);
        self.writer.owner.origin.store(origin, Ordering::Relaxed);
    }

    fn keep_following(&self) {
        self.writer.log.keep_reading();
    }
}

impl fmt::Debug for RedisTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisTier")
            .field("namespace", &self.namespace)
            .field("connection", &self.manager)
            .finish_non_exhaustive()
    }
}
