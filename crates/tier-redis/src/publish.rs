//! A relay's step in one script: it invalidates copies, clears tenants and advances the watermark.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicU64},
};

use async_trait::async_trait;
use bytes::Bytes;
use redis::{Cmd, Value};
use terrace_tier::{
    Deadlines, ErrorKind, Namespace, Op, Order, Publication, Publish, Reply, Result, TierKey, Timestamp,
    Watermark,
};
use tokio::time::Instant;

use crate::{
    connection::within,
    error::{Effect, during, error, server_error, unexpected_reply},
    namespace::NamespaceState,
    scripts::{CellCall, CellOp, CellOwner, Script, ScriptCall, ScriptReply, random_number},
    write::CellWriter,
};

#[async_trait]
impl Publish for CellWriter {
    async fn publish(&self, publication: Publication) -> Result<Reply> {
        publish(self, publication).await.map_err(|error| during(error, "publish"))
    }
}

async fn publish(writer: &CellWriter, publication: Publication) -> Result<Reply> {
    let drops = publication.drops.len();
    if drops > Publication::MAX_DROPS {
        let message = format!("{drops} invalidations are more than one step may contain");
        return Err(error(ErrorKind::TooLarge, message));
    }
    let step = Step::new(writer, &publication);
    let sent_at = Instant::now();
    let deadline = sent_at + writer.owner.namespace.budget_for(drops);
    let reply = match within(deadline, Effect::Write, step.run(&writer.manager, Effect::Write)).await? {
        Value::Array(mut replies) => {
            let value = replies.pop().ok_or_else(unexpected_reply)?;
            ScriptReply { value, sent_at }.decode(&step.watermark.owner.state)?
        }
        Value::ServerError(answer) => return Err(server_error(&answer)),
        _ => return Err(unexpected_reply()),
    };
    if let Reply::Kept(_) = reply {
        writer.after_clear(&publication.clears);
    }
    Ok(reply)
}

/// The call of `publish.lua`.
struct Step {
    watermark: CellOp,
    clears: Vec<Clear>,
    /// The invalidations, those of each tenant together.
    drops: Vec<CellOp>,
}

/// The change of one epoch.
struct Clear {
    epoch: Bytes,
    new: Bytes,
    /// The beginning of the log entry. Empty for the second epoch of a clear, which has no entry of its own.
    entry_head: Bytes,
}

impl Step {
    fn new(writer: &CellWriter, publication: &Publication) -> Self {
        let owner = |namespace: Namespace| {
            let state = NamespaceState::detached(writer.owner.state.layout.for_namespace(&namespace));
            Arc::new(CellOwner {
                namespace: Arc::new(namespace),
                state: Arc::new(state),
                log_keys: Arc::clone(&writer.log.keys),
                origin: AtomicU64::new(0),
            })
        };
        let of_tenant = |tenant: Option<&str>| {
            owner(Namespace::clone(&writer.owner.namespace).with_tenant(tenant.map(str::to_owned)))
        };
        let op = |owner: &Arc<CellOwner>, key: &TierKey, op| {
            let (cell, key) = (owner.state.layout.cell(key), key.bytes.clone());
            CellOp { owner: Arc::clone(owner), cell, key, op }
        };
        let tombstone_ttl = publication.tombstone_ttl;
        let put = Op::Put {
            order: Order::Author(publication.expected),
            deadlines: Deadlines::forever(Timestamp::default()),
            body: Some(publication.body.clone()),
            tombstone_ttl,
        };
        let watermark = owner(Watermark::namespace(&writer.owner.namespace));
        let mut tenants = HashMap::new();
        let mut drops: Vec<_> = publication.drops.iter().collect();
        drops.sort_by_key(|drop| drop.tenant.as_deref());
        let drops = drops.into_iter().map(|drop| {
            let tenant = drop.tenant.as_deref();
            let owner = tenants.entry(tenant).or_insert_with(|| of_tenant(tenant));
            op(owner, &drop.key, Op::Invalidate { version: drop.version, tombstone_ttl })
        });
        let drops = drops.collect();
        let clears = publication.clears.iter().flat_map(|tenant| {
            let owner = of_tenant(tenant.as_deref());
            let mut entry_head = owner.entry_head();
            let epochs = owner.state.layout.clear_epochs().into_iter();
            let clear = move |epoch| Clear {
                epoch,
                new: random_number(),
                entry_head: std::mem::take(&mut entry_head),
            };
            epochs.map(clear).collect::<Vec<_>>()
        });
        Self { watermark: op(&watermark, &publication.watermark_key, put), clears: clears.collect(), drops }
    }
}

impl ScriptCall for Step {
    fn script(&self) -> Script {
        Script::Publish
    }

    fn command(&self, name: &str, script: &str) -> Cmd {
        let watermark = CellCall { script: Script::Put, ops: std::slice::from_ref(&self.watermark) };
        let drops = CellCall { script: Script::Invalidate, ops: &self.drops };
        let log = &self.watermark.owner.log_keys;
        let keys = watermark.keys() + self.clears.len() + drops.keys() + 2;
        let mut command = Cmd::with_capacity(8 + 4 * keys, script.len() + watermark.size() + drops.size());
        command.arg(name).arg(script).arg(keys);
        watermark.push_keys(&mut command);
        self.clears.iter().for_each(|clear| _ = command.arg(&clear.epoch[..]));
        drops.push_keys(&mut command);
        command.arg(&log.head[..]).arg(&log.entries[..]);
        command.arg(&random_number()[..]).arg(self.clears.len());
        watermark.push_args(&mut command);
        for clear in &self.clears {
            command.arg(&clear.new[..]).arg(&clear.entry_head[..]);
        }
        drops.push_args(&mut command);
        command
    }
}
