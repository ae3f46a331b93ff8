//! The contract of a relay's step: it drops copies and advances the watermark, both in one.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Condition, Reply, Result, TierKey, Version};

/// One step of a relay in one tier.
///
/// The cell of the watermark is in the namespace `terrace.relay`. Its key is the name of the cache's
/// namespace, and its value is a [`Watermark`](crate::Watermark). That value names the version that the
/// cell had before the relay read the changes that this step drops. So the watermark says: every change
/// that the source had committed before the cell got that version has been dropped here. The cell is lost
/// or goes back in time together with the copies, so this holds whatever the server's clock says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Publication {
    /// The key of the watermark's cell.
    pub watermark_key: TierKey,
    /// What the cell must hold for the step to be made: nothing ([`Absent`](Condition::Absent)), or a
    /// value of this version.
    pub expected: Condition,
    /// The new value of the cell: an encoded [`Watermark`](crate::Watermark).
    pub body: Bytes,
    /// The copies to drop, all in the namespace of the tier.
    pub drops: Vec<Invalidation>,
    /// The tenants whose copies are all dropped. `None` drops the copies of all tenants.
    pub clears: Vec<Option<String>>,
    /// How long tombstones live.
    pub tombstone_ttl: Duration,
}

impl Publication {
    /// The most drops in one step. A relay with more of them clears instead. The server does nothing else
    /// meanwhile: Redis takes about 13 microseconds for a drop.
    pub const MAX_DROPS: usize = 2_000;

    /// A step that advances the watermark and drops nothing.
    pub fn new(watermark_key: TierKey, expected: Condition, body: Bytes, tombstone_ttl: Duration) -> Self {
        Self { watermark_key, expected, body, drops: Vec::new(), clears: Vec::new(), tombstone_ttl }
    }

    /// The same step, which drops these copies.
    #[must_use]
    pub fn with_drops(self, drops: Vec<Invalidation>) -> Self {
        Self { drops, ..self }
    }

    /// The same step, which drops all copies of these tenants.
    #[must_use]
    pub fn with_clears(self, clears: Vec<Option<String>>) -> Self {
        Self { clears, ..self }
    }
}

/// One copy to drop. It has the same content as [`Op::Invalidate`](crate::Op::Invalidate), and like an
/// operation it never gets another field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// The tenant of the key, where the cache is built per tenant.
    pub tenant: Option<String>,
    /// The key of the copy.
    pub key: TierKey,
    /// A copy of this version or a later one stays. `None` drops the copy in any case.
    pub version: Option<Version>,
}

/// A tier that can make a relay's step atomic. It is reached from [`Tier::publish`](crate::Tier::publish).
#[async_trait]
pub trait Publish: Send + Sync {
    /// If the cell of the watermark is as expected, drops the copies that `publication` names and writes
    /// the cell. Both are one atomic step of the server, which is also replicated as one. The answer is
    /// [`Reply::Kept`] with the cell's new version, or [`Reply::Refused`] if nothing was done.
    ///
    /// Each drop does what [`Op::Invalidate`](crate::Op::Invalidate) does, and each clear what
    /// [`Tier::clear`](crate::Tier::clear) does. The invalidation log reports the drops and clears, and
    /// after them the write of the cell as a put in the namespace of watermarks.
    ///
    /// # Errors
    /// As [`Tier::apply`](crate::Tier::apply), and [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) for
    /// more than [`Publication::MAX_DROPS`] drops.
    ///
    /// # Cost
    /// One round trip.
    async fn publish(&self, publication: Publication) -> Result<Reply>;
}
