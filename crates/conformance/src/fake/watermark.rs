//! The relay's watermarks in a fake.

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
        let clears = publication.clears.clone();
        let reply = self.server.publish(&mut self.server.data.lock(), &self.namespace, publication);
        for tenant in clears {
            self.process.epochs.forget(&self.namespace.name, tenant.as_deref());
        }
        self.server.log.deliver();
        Ok(reply)
    }
}

impl Server {
    /// Adds the version that the watermark proves to a hit in a tier at level `Bounded`.
    pub(crate) fn with_watermark(&self, data: &mut Data, namespace: &Namespace, stored: Stored) -> Stored {
        if !matches!(namespace.level, Level::Bounded(_)) || namespace.role == Role::Store {
            return stored;
        }
        let watermark = self.watermark(data, namespace).and_then(|(_, body)| Watermark::version_in(&body));
        stored.with_watermark(watermark)
    }

    /// The version and the bytes of a namespace's watermark.
    fn watermark(&self, data: &mut Data, namespace: &Namespace) -> Option<(Version, Bytes)> {
        let address =
            (self.hooks.address)(&Watermark::namespace(namespace), &Watermark::key(&namespace.name));
        let epoch = data.epochs.get(&(address.0.clone(), None)).copied();
        let cell = data.cells.get(&address).filter(|cell| Some(cell.epoch) == epoch)?;
        let alive = cell.state == State::Value && !cell.deadlines.is_expired(self.clock.now());
        alive.then(|| (cell.version, cell.bytes.clone()))
    }

    fn publish(&self, data: &mut Data, namespace: &Namespace, publication: Publication) -> Reply {
        let Publication { watermark_key, expected, body, drops, clears, tombstone_ttl, .. } = publication;
        let found = self.watermark(data, namespace).map(|(version, _)| version);
        let as_expected = match expected {
            Condition::Always => true,
            Condition::Absent => found.is_none(),
            Condition::Version(version) => found == Some(version),
        };
        if !as_expected && self.hooks.refuses {
            return Reply::Refused(None);
        }
        for tenant in clears {
            self.clear_all(data, &namespace.clone().with_tenant(tenant));
        }
        for Invalidation { tenant, key, version } in drops {
            let namespace = namespace.clone().with_tenant(tenant);
            self.step(data, &namespace, NO_FOLLOWER, &key, &Op::Invalidate { version, tombstone_ttl });
        }
        let put = Op::Put {
            order: Order::Author(Condition::Always),
            deadlines: Deadlines::forever(Timestamp::default()),
            body: Some(body),
            tombstone_ttl,
        };
        self.step(data, &Watermark::namespace(namespace), NO_FOLLOWER, &watermark_key, &put)
    }

    /// Clears the copies of one tenant, or of all tenants where the namespace names none.
    fn clear_all(&self, data: &mut Data, namespace: &Namespace) {
        let tenants: Vec<Option<String>> = match &namespace.tenant {
            Some(tenant) => vec![Some(tenant.clone())],
            None => {
                let scopes = data.epochs.keys().filter(|(name, _)| *name == namespace.name);
                scopes.map(|(_, tenant)| tenant.clone()).collect()
            }
        };
        for tenant in tenants {
            (self.hooks.clear)(data, &namespace.clone().with_tenant(tenant));
        }
        self.log.append_clear(NO_FOLLOWER, namespace);
    }
}

/// The origin of a change that the log reports to all followers.
const NO_FOLLOWER: u64 = 0;

/// Advances the watermark of a namespace in a step that drops nothing; returns its new version.
///
/// # Panics
/// Panics where the fake itself is broken: under the lock no other call changes the watermark.
pub(crate) fn advance(server: &Server, name: &str) -> Version {
    let namespace = Namespace::new(name, Role::Cache).with_budget(std::time::Duration::ZERO);
    let mut data = server.data.lock();
    let before = server.watermark(&mut data, &namespace).map(|(version, _)| version);
    let watermark = before.unwrap_or(Version::NONE);
    let publication = Publication::new(
        Watermark::key(name),
        before.map_or(Condition::Absent, Condition::Version),
        Watermark { relay: 1, version: watermark, position: Bytes::new() }.encode(),
        std::time::Duration::from_secs(60),
    )
    .with_clears(if before.is_none() { vec![None] } else { Vec::new() });
    let reply = server.publish(&mut data, &namespace, publication);
    drop(data);
    server.log.deliver();
    match reply {
        Reply::Kept(version) => version,
        other => panic!("the watermark did not advance: {other:?}"),
    }
}
