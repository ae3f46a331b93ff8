//! The pure function that says what every operation does to a key's cell.
//!
//! [`Swapping`](crate::Swapping) tiers and the SQLite tier run it. Tests compare the Redis scripts and the
//! Postgres statements with it, operation by operation.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    Cell, Change, Condition, Deadlines, Fence, Moment, Op, Order, Reply, Role, State, Stored, Token, Version,
    defence::{Defence, enabled},
};

/// What `op` does to `cell` at `moment`, and the answer to it. The function is pure: the caller makes the
/// change atomic.
///
/// It knows every operation of its own version of this crate. A tier that runs it calls
/// [`Op::ensure_known`] first.
///
/// # Cost
/// No allocation: a cell that is cloned shares its envelope.
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use terrace_tier::{Change, Deadlines, Epoch, Moment, Op, Reply, Role, Timestamp, Token, transition};
///
/// let now = Timestamp::from_millis(1_700_000_000_000);
/// let moment = Moment::new(Role::Cache, now, now.as_millis() * 1000, Epoch::from_u64(1));
/// let minute = Duration::from_secs(60);
///
/// // A miss leaves a lease ...
/// let lease = Op::Lease { token: Token::from_u64(7), ttl: minute, over: None, replaces: Token::NONE };
/// let (Change::Write(leased), Reply::Miss(fence)) = transition(None, &lease, &moment) else { panic!() };
/// let fill = Op::Fill {
///     fence,
///     version: fence.version,
///     deadlines: Deadlines::ttl(now, minute),
///     body: Some(Bytes::from_static(b"envelope")),
/// };
/// // ... with which the fill is kept, and without which it is refused.
/// assert_eq!(transition(Some(&leased), &fill, &moment).1, Reply::Kept(fence.version));
/// assert_eq!(transition(None, &fill, &moment).1, Reply::Refused(None));
/// ```
pub fn transition(cell: Option<&Cell>, op: &Op, moment: &Moment) -> (Change, Reply) {
    let key = Key { cell, moment };
    match op {
        Op::Get => (Change::Keep, key.hit().map_or(Reply::Miss(Fence::default()), Reply::Hit)),
        Op::Lease { token, ttl, over, replaces } => key.lease(*token, *ttl, *over, *replaces),
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
        // `Op::ensure_known` has refused it.
        Op::Unknown => (Change::Keep, Reply::Refused(None)),
    }
}

/// A key's cell at the moment of an operation.
struct Key<'a> {
    cell: Option<&'a Cell>,
    moment: &'a Moment,
}

impl<'a> Key<'a> {
    /// The highest known version of the key. A dead cell still has it.
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
            watermark: None,
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

    fn lease(&self, token: Token, ttl: Duration, over: Option<Version>, replaces: Token) -> (Change, Reply) {
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
        if cell.token == Token::NONE || cell.token == replaces {
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

    /// Whether the cell is a lease that was given when the tier knew of `version`, or of a later one. Its
    /// holder began to load after that change, so what it fills is no older, and a late put or
    /// invalidation of `version` changes nothing. A lease's version never grows.
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
            Order::Unfenced(version) => version,
            Order::Behind { version, .. } => {
                return self.put_behind(version, deadlines, body, tombstone_ttl);
            }
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

    fn put_behind(
        &self,
        version: Version,
        deadlines: Deadlines,
        body: &Option<Bytes>,
        tombstone_ttl: Duration,
    ) -> (Change, Reply) {
        let is_older = |cell: &Cell| cell.version < version || !enabled(Defence::Behind);
        match self.cell {
            // A cache tier takes no write behind.
            _ if self.moment.role == Role::Cache => return (Change::Keep, Reply::Refused(None)),
            Some(cell) if cell.version == version => return (Change::Keep, Reply::Kept(version)),
            Some(cell) if !is_older(cell) => return (Change::Keep, Reply::Refused(self.hit())),
            None if self.is_too_old(version, tombstone_ttl) => return (Change::Keep, Reply::TooOld),
            Some(_) | None => {}
        }
        let cell = match body {
            Some(_) => self.written(version, deadlines, body),
            None => self.tombstone(version, tombstone_ttl),
        };
        (Change::Write(cell), Reply::Kept(version))
    }

    /// Whether the tombstone of a write that followed `version` may be gone already.
    fn is_too_old(&self, version: Version, tombstone_ttl: Duration) -> bool {
        let age = u128::from(self.moment.micros.saturating_sub(version.as_u64()));
        age > tombstone_ttl.as_micros() / 2 && enabled(Defence::TooOld)
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
