//! The operations on a key's cell and their answers.

use std::time::Duration;

use bytes::Bytes;

use crate::{Cell, Deadlines, Epoch, Error, ErrorKind, Result, Timestamp, Token, Version};

/// What a tier is to its cache; its place in the chain says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Copies that expire and may be forgotten at any time.
    Cache,
    /// The records themselves.
    Store,
}

/// What a tier gives back of a value that it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The version of the value.
    pub version: Version,
    /// When it was written and how long it lives.
    pub deadlines: Deadlines,
    /// The value's envelope; `None` for a negative entry.
    pub body: Option<Bytes>,
    /// The version of the relay's mark before whose move every change of the truth has reached this
    /// copy (see [`Publish`](crate::Publish)). `None` from a tier that keeps no mark, from one that was
    /// not opened at level `Bounded`, and where no mark was there.
    pub watermark: Option<Version>,
}

impl Stored {
    /// A value, or with `body` as `None` a negative entry, that no watermark covers.
    pub fn new(version: Version, deadlines: Deadlines, body: Option<Bytes>) -> Self {
        Self { version, deadlines, body, watermark: None }
    }

    /// The same value, covered by the watermark of this version.
    #[must_use]
    pub fn with_watermark(self, watermark: Option<Version>) -> Self {
        Self { watermark, ..self }
    }
}

/// What a reader that missed must show to fill: the lease's token, and the version that the fill
/// takes if this tier is the authority. In a store: no token, and the version observed (zero for
/// a key never written).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// The lease; [`Token::NONE`] permits no fill of a cache tier.
    pub token: Token,
    /// The version issued with the lease, or observed in the store.
    pub version: Version,
}

/// On what condition an authority takes a put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Whatever is there.
    Always,
    /// Only where there is no value.
    Absent,
    /// Only over the value of this version.
    Version(Version),
}

/// How a put is ordered among the key's writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// This tier issues the version: it is the cache's authority.
    Author(Condition),
    /// The authority issued this version: only an older value is replaced; where there is none, a
    /// tombstone is left, since a late put must not bring an old value back (anomaly 26). A lease
    /// that was given when the tier knew of this version already stays.
    Follow(Version),
    /// No order, the last one wins: caches of level `Ttl`.
    Unfenced(Version),
}

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// The value, or a miss that permits no fill.
    Get,
    /// The value, or a miss with a fence that permits one fill.
    ///
    /// The lease is a fence, not a lock: while one lives, every reader gets the same token, and
    /// the first fill wins. Any write or invalidation kills it, but for news of a version that the
    /// tier knew of when it gave it. Source: Nishtala et al., Scaling
    /// Memcache at Facebook, NSDI 2013, section 3.2.1 (leases).
    Lease {
        /// The token to set where no lease lives.
        token: Token,
        /// How long the lease may live.
        ttl: Duration,
        /// Grant a lease over the value of this version too: the caller is about to replace it.
        over: Option<Version>,
        /// Set the token also where this one lives: its holder is known to be gone, and may fill no
        /// more. [`Token::NONE`] replaces none.
        replaces: Token,
    },
    /// Keeps a loaded value, if nothing happened to the key since its fence was given.
    Fill {
        /// The fence that the miss gave.
        fence: Fence,
        /// The value's version, as the authority gave it.
        version: Version,
        /// Its deadlines.
        deadlines: Deadlines,
        /// Its envelope; `None` for a negative entry.
        body: Option<Bytes>,
    },
    /// Writes a value.
    Put {
        /// How it is ordered.
        order: Order,
        /// Its deadlines.
        deadlines: Deadlines,
        /// Its envelope; `None` for a negative entry.
        body: Option<Bytes>,
        /// How long a tombstone lives, where one is left instead.
        tombstone_ttl: Duration,
    },
    /// Drops the copy and kills the lease.
    Invalidate {
        /// Keep what is at least as new, a lease too; `None` drops whatever is there.
        version: Option<Version>,
        /// How long the tombstone lives.
        tombstone_ttl: Duration,
    },
    /// Deletes as the authority: leaves a tombstone of a version issued here.
    Remove {
        /// How long the tombstone lives.
        tombstone_ttl: Duration,
    },
    /// Gives a value other deadlines.
    Expire {
        /// The new deadlines.
        deadlines: Deadlines,
    },
    /// Stands for every operation that a later version adds. No cache sends it; the conformance suite
    /// does, since a tier answers an operation that it does not know with [`ErrorKind::Unsupported`].
    ///
    /// [`ErrorKind::Unsupported`]: crate::ErrorKind::Unsupported
    #[doc(hidden)]
    Unknown,
}

impl Op {
    /// Its name, as in errors and events: `get`, `lease`, `fill`, ...
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Lease { .. } => "lease",
            Self::Fill { .. } => "fill",
            Self::Put { .. } => "put",
            Self::Invalidate { .. } => "invalidate",
            Self::Remove { .. } => "remove",
            Self::Expire { .. } => "expire",
            Self::Unknown => "unknown",
        }
    }

    /// Refuses an operation that this version of the crate does not know.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`].
    pub fn ensure_known(&self) -> Result<()> {
        match self {
            Self::Unknown => Err(self.unsupported()),
            _ => Ok(()),
        }
    }

    /// The error of a tier that does not know this operation.
    pub fn unsupported(&self) -> Error {
        Error::new(ErrorKind::Unsupported, format!("the tier does not know the operation `{}`", self.name()))
    }
}

/// The answer to one [`Op`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// `Get`, `Lease`: a live value or negative entry.
    Hit(Stored),
    /// `Get`, `Lease`: none; the fence is [`Fence::default`] for `Get`.
    Miss(Fence),
    /// `Fill`, `Put`: kept, with this version.
    Kept(Version),
    /// `Fill`, `Put`: not kept. A store tells the record that won, where there is one; a cache
    /// tier may leave it out.
    Refused(Option<Stored>),
    /// `Invalidate`, `Remove`, `Expire`: done.
    Done {
        /// Whether a live value was there to be changed.
        existed: bool,
        /// The version of the tombstone or of the value that stayed.
        version: Version,
    },
}

/// The tier's own view at the moment of an operation.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// What the tier is to its cache.
    pub role: Role,
    /// The tier's clock, in milliseconds, for deadlines.
    pub now: Timestamp,
    /// The tier's clock, in microseconds, for versions.
    pub micros: u64,
    /// The current epoch of the namespace; stores keep it at one value.
    pub epoch: Epoch,
}

/// What to do with the cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Leave it.
    Keep,
    /// Write this one.
    Write(Cell),
}
