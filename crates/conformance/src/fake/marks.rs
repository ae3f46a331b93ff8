//! The relay's marks in a fake.

use async_trait::async_trait;
use bytes::Bytes;
use terrace_tier::{
    Condition, Deadlines, Invalidation, Level, Namespace, Op, Order, Publication, Publish, Reply, Result,
    Role, State, Stored, Timestamp, Version, Watermark,
};

use super::{Data, Server, tier::FakeTier};
use crate::calls::Call;

#[async_trait]
impl Publish for FakeTier {
    async fn publish(&self, publication: Publication) -> Result<Reply> {
        self.process.trip(&self.server).await?;
        self.server.counters.add(Call::Publish);
        self.server.counters.trip();
        let reply = self.server.publish(&mut self.server.data.lock(), &self.space, publication);
        self.server.log.deliver();
        Ok(reply)
    }
}

impl Server {
    /// What an answer says of the mark, of which it is part.
    pub(crate) fn certify(&self, data: &mut Data, space: &Namespace, stored: Stored) -> Stored {
        if !matches!(space.level, Level::Bounded(_)) || space.role == Role::Store {
            return stored;
        }
        let watermark = self.mark(data, space).and_then(|(_, body)| Watermark::version_in(&body));
        stored.with_watermark(watermark)
    }

    /// The mark of a namespace: its version and bytes.
    fn mark(&self, data: &mut Data, space: &Namespace) -> Option<(Version, Bytes)> {
        let address = (self.hooks.address)(&Watermark::namespace(space), &Watermark::key(&space.name));
        let epoch = data.epochs.get(&(address.0.clone(), None)).copied();
        let cell = data.cells.get(&address).filter(|cell| Some(cell.epoch) == epoch)?;
        let alive = cell.state == State::Value && !cell.deadlines.is_expired(self.clock.now());
        alive.then(|| (cell.version, cell.bytes.clone()))
    }

    fn publish(&self, data: &mut Data, space: &Namespace, publication: Publication) -> Reply {
        let Publication { watermark_key: mark, expected, body, drops, clears, tombstone_ttl, .. } =
            publication;
        let found = self.mark(data, space).map(|(version, _)| version);
        let as_expected = match expected {
            Condition::Always => true,
            Condition::Absent => found.is_none(),
            Condition::Version(version) => found == Some(version),
        };
        if !as_expected && self.hooks.refuses {
            return Reply::Refused(None);
        }
        for tenant in clears {
            self.clear_all(data, &space.clone().with_tenant(tenant));
        }
        for Invalidation { tenant, key, version } in drops {
            let space = space.clone().with_tenant(tenant);
            self.step(data, &space, NOBODY, &key, &Op::Invalidate { version, tombstone_ttl });
        }
        let put = Op::Put {
            order: Order::Author(Condition::Always),
            deadlines: Deadlines::forever(Timestamp::default()),
            body: Some(body),
            tombstone_ttl,
        };
        self.step(data, &Watermark::namespace(space), NOBODY, &mark, &put)
    }

    /// Clears one tenant's copies, or those of all.
    fn clear_all(&self, data: &mut Data, space: &Namespace) {
        let tenants: Vec<Option<String>> = match &space.tenant {
            Some(tenant) => vec![Some(tenant.clone())],
            None => {
                let of_this = data.epochs.keys().filter(|(namespace, _)| *namespace == space.name);
                of_this.map(|(_, tenant)| tenant.clone()).collect()
            }
        };
        for tenant in tenants {
            (self.hooks.clear)(data, &space.clone().with_tenant(tenant));
        }
        self.log.append_clear(NOBODY, space);
    }
}

/// The origin of what all followers are to be told of.
const NOBODY: u64 = 0;

/// # Panics
/// Where the fake itself is broken: nobody else is at the mark under its lock.
pub(crate) fn move_mark(server: &Server, namespace: &str) -> Version {
    let space = Namespace::new(namespace.to_owned(), Role::Cache).with_budget(std::time::Duration::ZERO);
    let mut data = server.data.lock();
    let before = server.mark(&mut data, &space).map(|(version, _)| version);
    let watermark = before.unwrap_or(Version::NONE);
    let publication = Publication::new(
        Watermark::key(namespace),
        before.map_or(Condition::Absent, Condition::Version),
        Watermark { relay: 1, version: watermark, position: Bytes::new() }.encode(),
        std::time::Duration::from_secs(60),
    )
    .with_clears(if before.is_none() { vec![None] } else { Vec::new() });
    let reply = server.publish(&mut data, &space, publication);
    drop(data);
    server.log.deliver();
    match reply {
        Reply::Kept(version) => version,
        other => panic!("the mark was not moved: {other:?}"),
    }
}
