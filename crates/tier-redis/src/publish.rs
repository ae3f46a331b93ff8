//! A relay's step in one script: it invalidates copies, clears tenants and advances the watermark.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;
use terrace_tier::{
    Deadlines, ErrorKind, Namespace, Publication, Publish, Reply, Result, Timestamp, Watermark,
};
use tokio::time::Instant;

use crate::{
    connection::within,
    error::{Effect, during, error, server_error, unexpected_reply},
    log,
    namespace::Layout,
    scripts::{
        Call, Script, condition_args, deadline_bytes, decode_reply, millis, random_number, version_or_empty,
    },
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
    let call = CallBuilder::new(writer, &publication).build(&publication);
    let deadline = Instant::now() + writer.namespace.budget_for(drops);
    let reply = match within(deadline, Effect::Write, call.run(&writer.manager, Effect::Write)).await? {
        Value::BulkString(bytes) => decode_reply(&Bytes::from(bytes))?.1,
        Value::ServerError(answer) => return Err(server_error(&answer)),
        _ => return Err(unexpected_reply()),
    };
    if let Reply::Kept(_) = reply {
        writer.after_clear(&publication.clears);
    }
    Ok(reply)
}

/// Collects the KEYS and ARGV of `publish.lua`.
struct CallBuilder<'a> {
    writer: &'a CellWriter,
    /// The watermark's keys, then epochs.
    keys: Vec<Bytes>,
    /// The arguments of the clears.
    clears: Vec<Bytes>,
    tenants: HashMap<Option<&'a str>, TenantKeys>,
}

/// The keys of a tenant whose copies are invalidated.
struct TenantKeys {
    namespace: Namespace,
    layout: Layout,
    /// The indexes of its two epochs among the KEYS, counted from 1.
    epochs: [Bytes; 2],
}

impl<'a> CallBuilder<'a> {
    fn new(writer: &'a CellWriter, publication: &'a Publication) -> Self {
        let watermark = writer.state.layout.for_namespace(&Watermark::namespace(&writer.namespace));
        let [epoch, shared_epoch] = watermark.epochs();
        let keys = vec![watermark.cell(&publication.watermark_key), epoch, shared_epoch];
        let mut builder = Self { writer, keys, clears: Vec::new(), tenants: HashMap::new() };
        for tenant in &publication.clears {
            builder.add_clear(tenant.as_deref());
        }
        for drop in &publication.drops {
            builder.add_tenant(drop.tenant.as_deref());
        }
        builder
    }

    /// Adds the change of one epoch, or of two. Only the first change has a log entry, for both.
    fn add_clear(&mut self, tenant: Option<&str>) {
        let namespace = self.namespace(tenant);
        let mut entry_tail = log::entry_tail(0, &namespace, b"");
        for epoch in self.writer.state.layout.for_namespace(&namespace).clear_epochs() {
            let index = self.add_key(epoch);
            self.clears.extend([index, random_number(), std::mem::take(&mut entry_tail)]);
        }
    }

    fn add_tenant(&mut self, tenant: Option<&'a str>) {
        if !self.tenants.contains_key(&tenant) {
            let namespace = self.namespace(tenant);
            let layout = self.writer.state.layout.for_namespace(&namespace);
            let epochs = layout.epochs().map(|epoch| self.add_key(epoch));
            self.tenants.insert(tenant, TenantKeys { namespace, layout, epochs });
        }
    }

    /// Adds a key and returns its index, counted from 1.
    fn add_key(&mut self, key: Bytes) -> Bytes {
        self.keys.push(key);
        self.keys.len().to_string().into()
    }

    fn namespace(&self, tenant: Option<&str>) -> Namespace {
        Namespace::clone(&self.writer.namespace).with_tenant(tenant.map(str::to_owned))
    }

    fn build(self, publication: &'a Publication) -> Call {
        let Self { writer, mut keys, clears, tenants } = self;
        let (condition, version) = condition_args(publication.expected);
        let mut args = vec![
            random_number(),
            condition,
            version,
            millis(publication.tombstone_ttl),
            deadline_bytes(&Deadlines::forever(Timestamp::default())),
            publication.body.clone(),
            (clears.len() / 3).to_string().into(),
            (keys.len() + 1).to_string().into(),
        ];
        args.extend(clears);
        for drop in &publication.drops {
            let Some(tenant) = tenants.get(&drop.tenant.as_deref()) else { continue };
            keys.push(tenant.layout.cell(&drop.key));
            args.extend(tenant.epochs.clone());
            let entry_tail = log::entry_tail(0, &tenant.namespace, &drop.key.bytes);
            args.extend([version_or_empty(drop.version), entry_tail]);
        }
        keys.extend([writer.log.keys.head.clone(), writer.log.keys.entries.clone()]);
        let watermark = Watermark::namespace(&writer.namespace);
        args.push(log::entry_tail(0, &watermark, &publication.watermark_key.bytes));
        Call { script: Script::Publish, keys, args }
    }
}
