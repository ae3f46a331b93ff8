//! One step of a relay reads the log, drops the older copies, and advances the watermark.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;

use super::{Relay, RelayState, changes::PendingChanges};
use crate::{
    Backend, Condition, Deadlines, Error, Notice, Op, Order, Publication, Reply, Result, Tier, TierKey,
    Timestamp, Version, Watermark,
    defence::{Defence, enabled},
};

/// The most keys in one call to a tier that does not take the whole step at once.
const BATCH: usize = 500;

impl Relay {
    pub(super) async fn step(&mut self) -> Result<()> {
        match &self.state {
            RelayState::Leader { version, position } => {
                let (version, position) = (*version, position.clone());
                self.carry_on(version, &position).await
            }
            RelayState::Unknown | RelayState::Follower { .. } => self.watch_leader().await,
        }
    }

    /// Checks whether the watermark has advanced, and takes the watermark over if no relay advances it.
    async fn watch_leader(&mut self) -> Result<()> {
        let (tier, key) = self.watermark_cell()?;
        let (version, body) = match tier.apply(&key, Op::Get).await? {
            Reply::Hit(stored) => (stored.version, stored.body),
            _ => (Version::NONE, None),
        };
        let Some(body) = body else { return self.start_over(Condition::Absent).await };
        let watermark = Watermark::decode(&body);
        let since = match self.state {
            RelayState::Follower { version: seen, since } if seen == version => since,
            _ => Instant::now(),
        };
        let is_own = watermark.as_ref().is_some_and(|watermark| watermark.relay == self.id);
        if !is_own && since.elapsed() < self.takeover() {
            self.state = RelayState::Follower { version, since };
            return Ok(());
        }
        match watermark {
            Some(watermark) => self.carry_on(version, &watermark.position).await,
            // An older program wrote the watermark in another layout, and no relay advances it any more.
            None => self.start_over(Condition::Version(version)).await,
        }
    }

    /// Drops all copies, because nothing says up to which position of the log the copies were dropped.
    async fn start_over(&mut self, expected: Condition) -> Result<()> {
        let watermark = self.watermark(Version::NONE, self.log.end().await?);
        let begins = enabled(Defence::Begin);
        let changes = if begins { PendingChanges::everything() } else { PendingChanges::default() };
        self.advance(expected, &changes, watermark).await
    }

    /// Drops the copies that changed after `position`, and advances the watermark. The new watermark's
    /// proof dates from the advance to `version`, which the watermark had before the changes were read.
    async fn carry_on(&mut self, version: Version, position: &Bytes) -> Result<()> {
        let (applied, mut numbered) = (Arc::clone(&self.applied), Vec::new());
        let read = self.log.changes_since(&self.namespace.name, position).await?;
        if let Some((changes, _)) = &read {
            applied.await_expected(changes).await;
        }
        let _step = applied.begin_step().await;
        let (notices, next) = match read {
            Some((changes, next)) => {
                let of = |(number, notice): &(_, _)| applied.for_shared_tier(*number, notice);
                numbered = changes;
                (numbered.iter().map(of).collect(), next)
            }
            None if enabled(Defence::Missed) => (vec![Notice::Lost], self.log.end().await?),
            None => (Vec::new(), self.log.end().await?),
        };
        let watermark = self.watermark(version, next);
        self.advance(Condition::Version(version), &PendingChanges::of(&notices), watermark).await?;
        if let RelayState::Leader { .. } = self.state {
            applied.relayed(&numbered);
        }
        Ok(())
    }

    /// Drops the changed copies from every tier, far to near. Each tier must confirm the drops before
    /// the watermark advances.
    async fn advance(
        &mut self,
        expected: Condition,
        changes: &PendingChanges<'_>,
        watermark: Watermark,
    ) -> Result<()> {
        let (nearest, farther) = self.tiers.split_first().ok_or_else(no_tier)?;
        for tier in farther.iter().rev() {
            self.drop_copies(tier, changes).await?;
        }
        let tier = self.open(nearest, None)?;
        let (reply, position) = match tier.publish() {
            Some(publish) => {
                let (clears, drops) = changes.clears_and_drops(&self.namespace.name);
                let (key, body) = (Watermark::key(&self.namespace.name), watermark.encode());
                let tombstone_ttl = self.tombstone_ttl;
                let step = Publication::new(key, expected, body, tombstone_ttl);
                let step = step.with_drops(drops).with_clears(clears);
                (publish.publish(step).await?, watermark.position)
            }
            None => {
                self.drop_copies(nearest, changes).await?;
                let unproven = Watermark { version: Version::NONE, ..watermark };
                (self.put_watermark(expected, unproven.encode()).await?, unproven.position)
            }
        };
        self.state = match reply {
            Reply::Kept(version) => RelayState::Leader { version, position },
            _ => RelayState::Follower { version: Version::NONE, since: Instant::now() },
        };
        Ok(())
    }

    fn watermark(&self, version: Version, position: Bytes) -> Watermark {
        Watermark { relay: self.id, version, position }
    }

    /// Advances the watermark of a tier that cannot drop copies in the same step. The watermark of such
    /// a tier proves nothing.
    async fn put_watermark(&self, expected: Condition, body: Bytes) -> Result<Reply> {
        let (tier, key) = self.watermark_cell()?;
        let put = Op::Put {
            order: Order::Author(expected),
            deadlines: Deadlines::forever(Timestamp::default()),
            body: Some(body),
            tombstone_ttl: self.tombstone_ttl,
        };
        tier.apply(&key, put).await
    }

    /// Drops the changed copies from one tier, tenant by tenant.
    async fn drop_copies(
        &self,
        tier: &(Arc<dyn Backend>, Duration),
        changes: &PendingChanges<'_>,
    ) -> Result<()> {
        for (tenant, changed) in changes.tenants() {
            let tier = self.open(tier, tenant)?;
            if changed.all {
                tier.clear().await?;
                continue;
            }
            let drops = changed.drops(&self.namespace.name, tenant);
            let drop = |(key, version)| (key, Op::Invalidate { version, tombstone_ttl: self.tombstone_ttl });
            let drops: Vec<(TierKey, Op)> = drops.map(drop).collect();
            for batch in drops.chunks(BATCH) {
                for reply in tier.apply_many(batch.to_vec()).await {
                    reply?;
                }
            }
        }
        Ok(())
    }

    fn open(&self, tier: &(Arc<dyn Backend>, Duration), tenant: Option<&str>) -> Result<Arc<dyn Tier>> {
        let (backend, budget) = tier;
        backend.open(&self.namespace.clone().with_tenant(tenant.map(str::to_owned)).with_budget(*budget))
    }

    /// The tier and the key of the watermark's cell.
    fn watermark_cell(&self) -> Result<(Arc<dyn Tier>, TierKey)> {
        let (backend, budget) = self.tiers.first().ok_or_else(no_tier)?;
        let namespace = Watermark::namespace(&self.namespace.clone().with_budget(*budget));
        Ok((backend.open(&namespace)?, Watermark::key(&self.namespace.name)))
    }
}

fn no_tier() -> Error {
    Error::config("a relay needs a cache tier")
}
