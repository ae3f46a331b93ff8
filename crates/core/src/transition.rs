//! The one pure function that says what every operation does to a key's cell.
//!
//! [`Swapping`](crate::Swapping) tiers and the SQLite tier run it; the Redis scripts and Postgres
//! statements are compared with it, operation by operation.

use std::time::Duration;

use bytes::Bytes;

use crate::{Cell, Deadlines, Epoch, State, Timestamp, Token, Version};

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
    pub certified: Option<Version>,
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
pub enum Order {
    /// This tier issues the version: it is the cache's authority.
    Author(Condition),
    /// The authority issued this version: only an older value is replaced; where there is none, a
    /// tombstone is left, since a late put must not bring an old value back (anomaly 26). A lease
    /// that was given when the tier knew of this version already stays.
    Follow(Version),
    /// No order, the last one wins: caches of level `Ttl`.
    Open(Version),
}

/// One operation on one key.
#[derive(Clone, Debug, PartialEq, Eq)]
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
        instead: Token,
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
        }
    }
}

/// The answer to one [`Op`].
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// What `op` does to `cell` at `moment`, and its answer. Pure: the caller makes it atomic.
///
/// # Cost
/// No allocation but the clone of a cell, whose envelope is shared.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use terrace_core::{Change, Deadlines, Epoch, Moment, Op, Reply, Role, Timestamp, Token, transition};
///
/// let now = Timestamp::from_millis(1_700_000_000_000);
/// let moment = Moment { role: Role::Cache, now, micros: now.as_millis() * 1000, epoch: Epoch::from_u64(1) };
/// let minute = Duration::from_secs(60);
///
/// // A miss leaves a lease ...
/// let lease = Op::Lease { token: Token::from_u64(7), ttl: minute, over: None, instead: Token::NONE };
/// let (Change::Write(leased), Reply::Miss(fence)) = transition(None, &lease, &moment) else { panic!() };
/// let fill = Op::Fill {
///     fence,
///     version: fence.version,
///     deadlines: Deadlines::ttl(now, minute),
///     body: Some(Bytes::from_static(b"envelope")),
/// };
/// // ... over which the fill is kept, and without which it is not.
/// assert_eq!(transition(Some(&leased), &fill, &moment).1, Reply::Kept(fence.version));
/// assert_eq!(transition(None, &fill, &moment).1, Reply::Refused(None));
/// ```
pub fn transition(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    let key = Key { cell, moment };
    match op {
        Op::Get => (Change::Keep, key.hit().map_or(Reply::Miss(Fence::default()), Reply::Hit)),
        Op::Lease { token, ttl, over, instead } => key.lease(*token, *ttl, *over, *instead),
        Op::Fill { fence, version, deadlines, body } => key.fill(*fence, *version, *deadlines, body),
        Op::Put { order, deadlines, body, tombstone_ttl } => {
            key.put(*order, *deadlines, body, *tombstone_ttl)
        }
        Op::Invalidate { version, tombstone_ttl } => key.invalidate(*version, *tombstone_ttl),
        Op::Remove { tombstone_ttl } => {
            let version = key.floor().next(moment.micros);
            let done = Reply::Done { existed: key.value().is_some(), version };
            (Change::Write(key.tombstone(version, *tombstone_ttl)), done)
        }
        Op::Expire { deadlines } => key.expire(*deadlines),
    }
}

/// A key's cell as the operations look at it.
struct Key<'a> {
    cell: Option<&'a Cell>,
    moment: &'a Moment,
}

impl<'a> Key<'a> {
    /// The highest version known of the key; a dead cell still knows it.
    fn floor(&self) -> Version {
        self.cell.map_or(Version::NONE, |cell| cell.version)
    }

    fn live(&self) -> Option<&'a Cell> {
        let same_epoch = |cell: &&Cell| self.moment.role == Role::Store || cell.epoch == self.moment.epoch;
        self.cell.filter(same_epoch).filter(|cell| !cell.deadlines.is_expired(self.moment.now))
    }

    /// The live value or negative entry.
    fn entry(&self) -> Option<&'a Cell> {
        self.live().filter(|cell| matches!(cell.state, State::Value | State::Negative))
    }

    fn value(&self) -> Option<&'a Cell> {
        self.live().filter(|cell| cell.state == State::Value)
    }

    fn hit(&self) -> Option<Stored> {
        self.entry().map(|cell| Stored {
            version: cell.version,
            deadlines: cell.deadlines,
            body: (cell.state == State::Value).then(|| cell.bytes.clone()),
            certified: None,
        })
    }

    fn written(&self, version: Version, deadlines: Deadlines, body: &Option<Bytes>) -> Cell {
        Cell {
            state: if body.is_some() { State::Value } else { State::Negative },
            version,
            epoch: self.moment.epoch,
            token: Token::NONE,
            deadlines,
            bytes: body.clone().unwrap_or_default(),
        }
    }

    /// A cell without a value.
    fn bare(&self, state: State, version: Version, token: Token, ttl: Duration) -> Cell {
        let deadlines = Deadlines::ttl(self.moment.now, ttl);
        Cell { state, version, epoch: self.moment.epoch, token, deadlines, bytes: Bytes::new() }
    }

    fn tombstone(&self, version: Version, ttl: Duration) -> Cell {
        self.bare(State::Tombstone, version, Token::NONE, ttl)
    }

    fn lease(&self, token: Token, ttl: Duration, over: Option<Version>, instead: Token) -> (Change, Reply) {
        if let Some(hit) = self.hit().filter(|hit| over != Some(hit.version)) {
            return (Change::Keep, Reply::Hit(hit));
        }
        if self.moment.role == Role::Store {
            let fence = Fence { token: Token::NONE, version: self.floor() };
            return (Change::Keep, Reply::Miss(fence));
        }
        let mut cell = match self.live() {
            Some(cell) if matches!(cell.state, State::Value | State::Negative | State::Lease) => cell.clone(),
            _ => self.bare(State::Lease, self.floor(), token, ttl),
        };
        if cell.token == Token::NONE || cell.token == instead {
            cell.token = token;
        }
        let prolonged = Deadlines::ttl(self.moment.now, ttl);
        if cell.state == State::Lease && prolonged.expires_at > cell.deadlines.expires_at {
            cell.deadlines = prolonged;
        }
        let fence = Fence { token: cell.token, version: self.floor().next(self.moment.micros) };
        (Change::Write(cell), Reply::Miss(fence))
    }

    fn fill(
        &self,
        fence: Fence,
        version: Version,
        deadlines: Deadlines,
        body: &Option<Bytes>,
    ) -> (Change, Reply) {
        let version = match self.moment.role {
            Role::Store if self.value().is_none() && self.floor() == fence.version => {
                self.floor().next(self.moment.micros)
            }
            Role::Cache if self.holds(fence.token) && version >= self.floor() => version,
            _ => return (Change::Keep, Reply::Refused(self.hit())),
        };
        (Change::Write(self.written(version, deadlines, body)), Reply::Kept(version))
    }

    fn holds(&self, token: Token) -> bool {
        token != Token::NONE && self.live().is_some_and(|cell| cell.token == token)
    }

    /// Whether nothing is here but a lease that was given when the tier knew of `version`, or of a
    /// later one: whoever holds it looked further after that had happened, and what it fills is no
    /// older, so that late news of it tells nothing new. A lease's version never grows.
    fn is_leased_knowing(&self, version: Version) -> bool {
        self.live().is_some_and(|cell| cell.state == State::Lease && cell.version >= version)
    }

    fn put(
        &self,
        order: Order,
        deadlines: Deadlines,
        body: &Option<Bytes>,
        tombstone_ttl: Duration,
    ) -> (Change, Reply) {
        let version = match order {
            Order::Author(condition) if self.permits(condition) => self.floor().next(self.moment.micros),
            Order::Author(_) => return (Change::Keep, Reply::Refused(self.hit())),
            Order::Open(version) => version,
            Order::Follow(version) => match self.entry() {
                Some(cell) if cell.version < version => version,
                Some(_) => return (Change::Keep, Reply::Refused(self.hit())),
                None if self.is_leased_knowing(version) => return (Change::Keep, Reply::Refused(None)),
                None => {
                    let tombstone = self.tombstone(self.floor().max(version), tombstone_ttl);
                    return (Change::Write(tombstone), Reply::Refused(None));
                }
            },
        };
        (Change::Write(self.written(version, deadlines, body)), Reply::Kept(version))
    }

    fn permits(&self, condition: Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::Absent => self.value().is_none(),
            Condition::Version(seen) => self.value().is_some_and(|cell| cell.version == seen),
        }
    }

    fn invalidate(&self, version: Option<Version>, tombstone_ttl: Duration) -> (Change, Reply) {
        let is_known = |version| match self.entry() {
            Some(entry) => entry.version >= version,
            None => self.is_leased_knowing(version),
        };
        if version.is_some_and(is_known) {
            return (Change::Keep, Reply::Done { existed: false, version: self.floor() });
        }
        let version = self.floor().max(version.unwrap_or(Version::NONE));
        let done = Reply::Done { existed: self.value().is_some(), version };
        (Change::Write(self.tombstone(version, tombstone_ttl)), done)
    }

    fn expire(&self, deadlines: Deadlines) -> (Change, Reply) {
        match self.value() {
            Some(cell) => {
                let done = Reply::Done { existed: true, version: cell.version };
                (Change::Write(Cell { deadlines, ..cell.clone() }), done)
            }
            None => (Change::Keep, Reply::Done { existed: false, version: self.floor() }),
        }
    }
}
