//! The contract of a relay's step: drops copies and moves the mark that says so, in one.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{Condition, Reply, Result, TierKey, Version};

/// One step of a relay in one tier.
///
/// The *mark* is a cell of the namespace `terrace.relay` whose key is the cache's namespace and whose
/// value is a [`Watermark`](crate::Watermark). Its `watermark` is the version that the mark
/// had before the relay read the changes that this step drops. So a mark says: all that the truth had
/// committed before the mark moved to the version `watermark` has been dropped here. It is lost and
/// goes back in time together with the copies, whatever the server's clock says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The mark's key.
    pub mark: TierKey,
    /// What must be there for the step to be made: [`Absent`](Condition::Absent), or this version.
    pub expected: Condition,
    /// The mark's new value.
    pub body: Bytes,
    /// The copies to drop, of the tier's own namespace.
    pub drops: Vec<Invalidation>,
    /// Whose copies are all to be dropped; `None` for those of all tenants.
    pub clears: Vec<Option<String>>,
    /// How long tombstones live.
    pub tombstone_ttl: Duration,
}

impl Publication {
    /// The most drops of one step; who has more clears. A server does nothing else meanwhile: Redis for
    /// about 13 microseconds a drop.
    pub const MAX_DROPS: usize = 2_000;
}

/// One copy to drop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalidation {
    /// Whose, where the cache is built per tenant.
    pub tenant: Option<String>,
    /// Its key.
    pub key: TierKey,
    /// Keep what is at least as new; `None` drops whatever is there.
    pub version: Option<Version>,
}

/// A tier that can make a relay's step in one. Reached from [`Tier::publish`](crate::Tier::publish).
#[async_trait]
pub trait Publish: Send + Sync {
    /// Drops what `publication` names and moves the mark, if that is as expected: one atomic step of
    /// the server, which also replicates as one. Answers [`Reply::Kept`] with the mark's new version,
    /// or [`Reply::Refused`], and then nothing was done.
    ///
    /// Each drop does what [`Op::Invalidate`](crate::Op::Invalidate) does, each clear what
    /// [`Tier::clear`](crate::Tier::clear) does. The invalidation log tells of both, and then of the mark
    /// as of a put in its namespace.
    ///
    /// # Errors
    /// As [`Tier::apply`](crate::Tier::apply); [`ErrorKind::TooLarge`](crate::ErrorKind::TooLarge) for
    /// more than [`Publication::MAX_DROPS`].
    async fn publish(&self, publication: Publication) -> Result<Reply>;
}
