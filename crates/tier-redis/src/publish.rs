//! A relay's step: drops, clears and the move of the mark in one script.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use redis::Value;
use terrace_tier::{
    Deadlines, Epoch, ErrorKind, Namespace, Publication, Publish, Reply, Result, Timestamp, Watermark,
};
use tokio::time::Instant;

use crate::{
    fault::{self, Effect, error},
    layout::Layout,
    link::within,
    log, reclaim,
    script::{Call, Name},
    send,
    tier::{RedisTier, located},
    write::{self, condition_words, deadline_bytes, millis, number, version_or_none},
};

#[async_trait]
impl Publish for RedisTier {
    async fn publish(&self, publication: Publication) -> Result<Reply> {
        self.make(publication).await.map_err(|error| located(error, "publish"))
    }
}

impl RedisTier {
    async fn make(&self, publication: Publication) -> Result<Reply> {
        let drops = publication.drops.len();
        if drops > Publication::MAX_DROPS {
            let message = format!("{drops} drops are more than one step may make");
            return Err(error(ErrorKind::TooLarge, message));
        }
        let call = Step::new(self, &publication).call(&publication);
        let deadline = Instant::now() + self.space.budget_for(drops);
        let sent = send::run(&self.link, &call, Effect::Write);
        let reply = match within(deadline, Effect::Write, sent).await? {
            Value::BulkString(bytes) => write::answer(&Bytes::from(bytes))?.1,
            Value::ServerError(answer) => return Err(fault::of_server(&answer)),
            _ => return Err(fault::unreadable()),
        };
        if let Reply::Kept(_) = reply {
            for state in self.log.cleared(&self.space.name, &publication.clears) {
                state.heard.forget();
                reclaim::start(&self.link, &state);
            }
        }
        Ok(reply)
    }
}

/// The script's KEYS and ARGV, as they are put together.
struct Step<'a> {
    tier: &'a RedisTier,
    /// The mark's, then epochs.
    keys: Vec<Bytes>,
    /// Of the clears.
    clears: Vec<Bytes>,
    owners: HashMap<Option<&'a str>, Owner>,
}

/// Whose copies are dropped.
struct Owner {
    space: Namespace,
    layout: Layout,
    /// The places of the epochs among the keys, as the script counts.
    epochs: [Bytes; 2],
}

impl<'a> Step<'a> {
    fn new(tier: &'a RedisTier, publication: &'a Publication) -> Self {
        let mark = tier.state.layout.of(&Watermark::namespace(&tier.space));
        let [epoch, common] = mark.epochs();
        let keys = vec![mark.cell(&publication.watermark_key), epoch, common];
        let mut step = Self { tier, keys, clears: Vec::new(), owners: HashMap::new() };
        for tenant in &publication.clears {
            step.clear(tenant.as_deref());
        }
        for drop in &publication.drops {
            step.meet(drop.tenant.as_deref());
        }
        step
    }

    /// One change of an epoch, or of two that are told as one.
    fn clear(&mut self, tenant: Option<&str>) {
        let space = self.space(tenant);
        let note = log::note(0, &space, b"");
        let notes = std::iter::once(note).chain(std::iter::repeat_with(Bytes::new));
        for (epoch, note) in self.tier.state.layout.of(&space).cleared().into_iter().zip(notes) {
            self.change(epoch, note);
        }
    }

    fn change(&mut self, epoch: Bytes, note: Bytes) {
        let place = self.place(epoch);
        self.clears.extend([place, number(Epoch::random().as_u64()), note]);
    }

    fn meet(&mut self, tenant: Option<&'a str>) {
        if !self.owners.contains_key(&tenant) {
            let space = self.space(tenant);
            let layout = self.tier.state.layout.of(&space);
            let epochs = layout.epochs().map(|epoch| self.place(epoch));
            self.owners.insert(tenant, Owner { space, layout, epochs });
        }
    }

    /// Adds a key; its place as the script counts.
    fn place(&mut self, key: Bytes) -> Bytes {
        self.keys.push(key);
        self.keys.len().to_string().into()
    }

    fn space(&self, tenant: Option<&str>) -> Namespace {
        self.tier.space.clone().with_tenant(tenant.map(str::to_owned))
    }

    fn call(self, publication: &'a Publication) -> Call {
        let Self { tier, mut keys, clears, owners } = self;
        let (order, expected) = condition_words(publication.expected);
        let forever = Deadlines::forever(Timestamp::default());
        let mut args = vec![
            number(Epoch::random().as_u64()),
            Bytes::from_static(order.as_bytes()),
            number(expected.as_u64()),
            millis(publication.tombstone_ttl),
            deadline_bytes(&forever),
            publication.body.clone(),
            (clears.len() / 3).to_string().into(),
            (keys.len() + 1).to_string().into(),
        ];
        args.extend(clears);
        for drop in &publication.drops {
            let Some(owner) = owners.get(&drop.tenant.as_deref()) else { continue };
            keys.push(owner.layout.cell(&drop.key));
            let note = log::note(0, &owner.space, &drop.key.bytes);
            args.extend(owner.epochs.clone());
            args.extend([version_or_none(drop.version), note]);
        }
        keys.extend([tier.log.keys.head.clone(), tier.log.keys.entries.clone()]);
        args.push(log::note(0, &Watermark::namespace(&tier.space), &publication.watermark_key.bytes));
        Call { script: Name::Publish, keys, args }
    }
}
