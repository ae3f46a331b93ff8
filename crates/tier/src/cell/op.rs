//! The operations on a key's cell, and their answers.

use std::time::Duration;

use bytes::Bytes;

use crate::{Cell, Deadlines, Epoch, Error, ErrorKind, Result, Term, Timestamp, Token, Version};

/// What a tier is to its cache. The user's order of tiers decides it.
///
/// There are two roles and there will be no third, so that tiers may match all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The tier holds copies, which expire and may be forgotten at any time.
    Cache,
    /// The tier holds the records themselves.
    Store,
}

/// What a tier returns of a value that it keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stored {
    /// The version of the value.
    pub version: Version,
    /// When the value was written and how long it lives.
    pub deadlines: Deadlines,
    /// The value's envelope, or `None` for a negative entry.
    pub body: Option<Bytes>,
    /// The version of the relay's watermark that covers this copy: every change that the source had
    /// committed before the watermark's cell got this version has reached the copy (see
    /// [`Publish`](crate::Publish)). `None` from a tier that keeps no watermark or was not opened at level
    /// `Bounded`, and where no watermark was found.
    pub watermark: Option<Version>,
}

impl Stored {
    /// A value that no watermark covers. It is a negative entry if `body` is `None`.
    pub fn new(version: Version, deadlines: Deadlines, body: Option<Bytes>) -> Self {
        Self { version, deadlines, body, watermark: None }
    }

    /// The same value, covered by the watermark of this version.
    #[must_use]
    pub fn with_watermark(self, watermark: Option<Version>) -> Self {
        Self { watermark, ..self }
    }
}

/// What a reader that missed must show to fill the cell.
///
/// From a cache tier it is the token of the lease, and the version that the fill takes if this tier is the
/// authority. From a store it is no token, and the version that the reader has seen (zero for a key that
/// was never written). These two numbers are all that a tier gives; there will be no other field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fence {
    /// The lease. [`Token::NONE`] permits no fill of a cache tier.
    pub token: Token,
    /// The version that was issued with the lease, or seen in the store.
    pub version: Version,
}

/// The condition on which an authority takes a put.
///
/// Tiers match all three. Another condition would come as another [`Order`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// There is none.
    Always,
    /// There is no value.
    Absent,
    /// There is a value of this version.
    Version(Version),
}

/// How a put is ordered among the key's writes. A tier refuses an order that it does not know with
/// [`ErrorKind::Unsupported`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// This tier is the cache's authority, and issues the version.
    Author(Condition),
    /// The authority has issued this version. The put replaces only an older value. Where there is no
    /// value it leaves a tombstone, since a late put must not bring an old value back (anomaly 26). A
    /// lease stays if the tier already knew of this version when it gave the lease.
    Follow(Version),
    /// There is no order, and the last write wins. Caches of level `Ttl` use it.
    Unfenced(Version),
    /// A write-behind front has acknowledged the write and issued its version. Only stores take it. The put
    /// replaces only an older record or tombstone, and counts as kept where the store has this version. A put
    /// without a body is a removal, which leaves a tombstone. Where the store knows nothing of the key, a
    /// version older than half the life of the tombstone is [`Reply::TooOld`]: the tombstone of a later
    /// removal may be gone already.
    ///
    /// The store refuses another term than that of the front's last opening with
    /// [`ErrorKind::FrontLost`] ([`FrontStore`](crate::FrontStore)).
    Behind {
        /// The version that the front has issued.
        version: Version,
        /// The front's term.
        term: Term,
    },
}

/// One operation on one key.
///
/// More operations may come; the fields of an operation never change. A tier answers an operation that it
/// does not know with [`Op::unsupported`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Returns the value, or a miss that permits no fill.
    Get,
    /// Returns the value, or a miss with a fence that permits one fill.
    ///
    /// The lease is a fence, not a lock: while it lives, every reader gets the same token, and the first
    /// fill wins. Every write or invalidation ends the lease, except an invalidation or a put of a version
    /// that the tier already knew of when it gave the lease. Source: Nishtala et al., Scaling Memcache at
    /// Facebook, NSDI 2013, section 3.2.1 (leases).
    Lease {
        /// The token of the new lease, which is set where no lease lives.
        token: Token,
        /// How long the lease may live.
        ttl: Duration,
        /// Gives a lease over the value of this version too, since the caller is about to replace it.
        over: Option<Version>,
        /// Sets the new token also where this lease lives. Its holder is known to be gone, and can no
        /// longer fill. [`Token::NONE`] replaces no lease.
        replaces: Token,
    },
    /// Keeps a loaded value, if nothing has happened to the key since the fence was given.
    Fill {
        /// The fence that the miss gave.
        fence: Fence,
        /// The version that the authority gave the value.
        version: Version,
        /// The deadlines of the value.
        deadlines: Deadlines,
        /// The envelope, or `None` for a negative entry.
        body: Option<Bytes>,
    },
    /// Writes a value.
    Put {
        /// How the put is ordered.
        order: Order,
        /// The deadlines of the value.
        deadlines: Deadlines,
        /// The envelope, or `None` for a negative entry.
        body: Option<Bytes>,
        /// How long a tombstone lives, if the put leaves one instead of the value.
        tombstone_ttl: Duration,
    },
    /// Drops the copy and ends the lease.
    Invalidate {
        /// A copy of this version or a later one stays, and so does a lease that was given when the tier
        /// knew of this version. `None` drops the copy and the lease in any case.
        version: Option<Version>,
        /// How long the tombstone lives.
        tombstone_ttl: Duration,
    },
    /// Deletes the value as its authority, and leaves a tombstone whose version this tier issues.
    Remove {
        /// How long the tombstone lives.
        tombstone_ttl: Duration,
    },
    /// Gives a value other deadlines.
    Expire {
        /// The new deadlines.
        deadlines: Deadlines,
    },
    /// Stands for every operation that a later version adds. No cache sends it. The conformance suite
    /// does, to see that the tier answers an unknown operation with [`ErrorKind::Unsupported`].
    ///
    /// [`ErrorKind::Unsupported`]: crate::ErrorKind::Unsupported
    #[doc(hidden)]
    Unknown,
}

impl Op {
    /// The operation's name in errors and events: `get`, `lease`, `fill`, ...
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

    /// Refuses an operation that this version of the crate does not know. A tier that runs
    /// [`transition`](crate::transition) calls it first.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`] for an unknown operation.
    pub fn ensure_known(&self) -> Result<()> {
        match self {
            Self::Unknown => Err(self.unsupported()),
            _ => Ok(()),
        }
    }

    /// Whether a store refuses the operation while a write-behind front holds the namespace
    /// ([`FrontStore`](crate::FrontStore)).
    pub const fn is_direct_write(&self) -> bool {
        match self {
            Self::Put { order, .. } => !matches!(order, Order::Behind { .. }),
            Self::Fill { .. } | Self::Remove { .. } | Self::Expire { .. } => true,
            _ => false,
        }
    }

    /// The term of a write behind.
    pub const fn term(&self) -> Option<Term> {
        match self {
            Self::Put { order: Order::Behind { term, .. }, .. } => Some(*term),
            _ => None,
        }
    }

    /// The error of a tier that does not know this operation: [`ErrorKind::Unsupported`].
    pub fn unsupported(&self) -> Error {
        Error::new(ErrorKind::Unsupported, format!("the tier does not know the operation `{}`", self.name()))
    }
}

/// The answer to one [`Op`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// To `Get` and `Lease`: there is a live value or negative entry.
    Hit(Stored),
    /// To `Get` and `Lease`: there is none. For `Get` the fence is [`Fence::default`].
    Miss(Fence),
    /// To `Fill` and `Put`: the value is kept, with this version.
    Kept(Version),
    /// To `Fill` and `Put`: the value is not kept. A store returns the record that won, if there is one. A
    /// cache tier may leave it out.
    Refused(Option<Stored>),
    /// To a `Put` with [`Order::Behind`]: the store has no record or tombstone of the key, and the write is so
    /// old that the tombstone of a later removal may be gone. Nothing was done.
    TooOld,
    /// To `Invalidate`, `Remove` and `Expire`: it is done.
    Done {
        /// Whether there was a live value to change.
        existed: bool,
        /// The version of the tombstone, or of the value that stayed.
        version: Version,
    },
}

/// What the tier knows at the moment of an operation, beside the cell.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Moment {
    /// Whether the tier is a cache or a store.
    pub role: Role,
    /// The tier's clock, in milliseconds, for deadlines.
    pub now: Timestamp,
    /// The tier's clock, in microseconds, for versions.
    pub micros: u64,
    /// The current epoch of the namespace. A store never changes it.
    pub epoch: Epoch,
}

impl Moment {
    /// The moment at which the tier's clock shows `now` and, more exactly, `micros` microseconds since the
    /// Unix epoch.
    pub const fn new(role: Role, now: Timestamp, micros: u64, epoch: Epoch) -> Self {
        Self { role, now, micros, epoch }
    }
}

/// What a tier does with the cell after a [`transition`](crate::transition). A cell is left or written as a
/// whole, so there will be no third variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The tier leaves it as it is.
    Keep,
    /// The tier writes this cell instead.
    Write(Cell),
}
