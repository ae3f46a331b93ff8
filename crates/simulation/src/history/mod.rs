//! What a run did, as lists of facts, and the checkers of such a history. Nothing here knows how a
//! cache works.
//!
//! A [`History`] is recorded by a [simulation](crate) or by workers on real servers, or it is written
//! by hand. The checkers are functions of it:
//!
//! | checker | what it checks |
//! |---|---|
//! | [`fenced`] | level `Fenced`: no process reads a value older than a change that it made or was notified of, and no tier shows an old value again |
//! | [`bounded`] | level `Bounded`: no read gives a value that was superseded more than a given time before the call |
//! | [`lives`] | a time to live: no value is served longer than that after it was obtained, nor stale for longer than allowed |
//! | [`linear`] | level `Strong`: each key is one linearizable register |
//!
//! Values are numbers that are written once in a history, so that a value names its write.

mod bounded;
mod fenced;
mod linear;
mod lives;
mod timeline;

pub use bounded::bounded;
pub use fenced::fenced;
pub use linear::{Linear, linear};
pub use lives::lives;

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};
use terrace_core::{Cached, ErrorKind, Result, Served, Source};

/// A moment, in nanoseconds of one clock for the whole history. Of two facts the earlier one has the
/// lower number; in a simulation no two facts have the same number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct At(pub u64);

impl At {
    /// The whole milliseconds.
    pub const fn millis(self) -> u64 {
        self.0 / 1_000_000
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06} ms", self.0 / 1_000_000, self.0 % 1_000_000)
    }
}

/// A process from its start to its death; a process that is started again has another number.
pub type Process = u32;
/// A key.
pub type Key = u64;
/// What was written, as a number that is written once; `None` is absence.
pub type Value = Option<u64>;

/// What orders the values of a history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Truth {
    /// The store's commits.
    #[default]
    Store,
    /// The changes of the origin behind the loader.
    Origin,
}

/// Where a read was answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum From {
    /// The process's own near tier.
    Near,
    /// A shared cache tier.
    Tier,
    /// The store.
    Store,
    /// A loader.
    Loader,
    /// Not known: a cache does not say where an absence comes from.
    Unknown,
}

impl From {
    /// The source of an answer; an absence has no `served`.
    fn of(served: Option<&Served>) -> Self {
        match served.map(|served| &served.from) {
            Some(Source::Near) => Self::Near,
            Some(Source::Tier(_)) => Self::Tier,
            Some(Source::Store(_)) => Self::Store,
            Some(Source::Loader) => Self::Loader,
            _ => Self::Unknown,
        }
    }
}

/// One key of a read that was answered with a value or an absence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Read {
    /// The process that read.
    pub process: Process,
    /// The key.
    pub key: Key,
    /// When the call was made.
    pub call: At,
    /// When it returned.
    pub ret: At,
    /// The answer.
    pub value: Value,
    /// Where it came from.
    pub from: From,
    /// It shared a trip or load that may have begun before the call.
    pub joined: bool,
    /// It was marked stale; [`Newness`] says what is promised of it then.
    pub stale: bool,
    /// It asked the truth past all copies (`refresh`).
    pub anew: bool,
    /// It brought a loader.
    pub loads: bool,
    /// How new the answer had to be.
    #[serde(default)]
    pub asked: Newness,
}

/// How new the answer to a read had to be. An answer that is marked stale may be older, except where
/// [`Newness::Truth`] was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Newness {
    /// As new as the level promises that the cache was built with.
    #[default]
    Built,
    /// Any copy within its life: level `Ttl`.
    Life,
    /// As new as the changes that its process was notified of: level `Fenced`.
    Heard,
    /// True this long before the call, or later: level `Bounded`.
    Within(Duration),
    /// True at the call, or later: level `Strong` in a cache of another level.
    Truth,
}

impl Read {
    /// An answer to a read that shared no trip, asked for no more than the cache promises, and had no
    /// loader.
    pub const fn plain(process: Process, key: Key, (call, ret): (At, At), value: Value, from: From) -> Self {
        let (joined, stale, anew, loads, asked) = (false, false, false, false, Newness::Built);
        Self { process, key, call, ret, value, from, joined, stale, anew, loads, asked }
    }

    /// The answer of a cache of numbers, with its source.
    pub fn answered(process: Process, key: Key, moments: (At, At), got: Option<&Cached<u64>>) -> Self {
        let served = got.map(Cached::served);
        Self {
            // An absence may be the answer of a shared trip.
            joined: served.as_ref().is_none_or(|served| served.coalesced),
            stale: served.as_ref().is_some_and(|served| served.stale),
            ..Self::plain(process, key, moments, got.map(|got| **got), From::of(served.as_ref()))
        }
    }

    /// Whether it is marked stale, and may be.
    pub(crate) fn is_excused(&self) -> bool {
        self.stale && self.asked != Newness::Truth
    }
}

/// What a write asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// `put`.
    Put(u64),
    /// `put_if_absent`.
    PutIfAbsent(u64),
    /// `replace` of the first value by the second.
    Replace(u64, u64),
    /// A load that offered a value to the store, which may have refused it.
    Create(u64),
    /// `remove`.
    Remove,
    /// `invalidate`, or `clear` where the write has no key.
    Invalidate,
}

impl Wish {
    /// The value to be written.
    pub const fn value(self) -> Option<u64> {
        match self {
            Self::Put(value) | Self::PutIfAbsent(value) | Self::Replace(_, value) | Self::Create(value) => {
                Some(value)
            }
            Self::Remove | Self::Invalidate => None,
        }
    }
}

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// Acknowledged.
    Done,
    /// Its condition did not hold.
    Refused,
    /// Every tier was tried, and not all confirmed.
    Partial,
    /// It failed, and did not happen.
    Failed,
    /// It failed, and may or may not have happened.
    Unknown,
}

impl End {
    /// The end of a write by its result, which says whether its condition held.
    pub fn of(held: Result<bool>) -> Self {
        match held {
            Ok(true) => Self::Done,
            Ok(false) => Self::Refused,
            Err(error) => match error.kind() {
                ErrorKind::Partial => Self::Partial,
                ErrorKind::Unknown | ErrorKind::Timeout => Self::Unknown,
                _ => Self::Failed,
            },
        }
    }
}

/// One key of a write.
#[derive(Clone, Copy, Debug)]
pub struct Write {
    /// The process that wrote.
    pub process: Process,
    /// The key; `None` is every key.
    pub key: Option<Key>,
    /// When the call was made.
    pub call: At,
    /// When it returned, and its end; `None` where the process died before.
    pub ret: Option<(At, End)>,
    /// What was asked for.
    pub wish: Wish,
}

/// A change of the truth.
///
/// A simulation knows its moment. On real servers the moment lies between two: the checkers accept the
/// value from the earlier one on, and demand it from the later one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The key that changed.
    pub key: Key,
    /// Before this moment the value was not true yet.
    pub since: At,
    /// From this moment on, at the latest, the value was true.
    pub at: At,
    /// The value that was true then.
    pub value: Value,
}

impl Change {
    /// A change whose moment is known.
    pub const fn exact(key: Key, at: At, value: Value) -> Self {
        Self { key, since: at, at, value }
    }
}

/// A fact about a shared cache tier or about what a process knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A tier began to show a value.
    Shown {
        /// The number of the tier.
        tier: usize,
        /// The key.
        key: Key,
        /// The value.
        value: u64,
    },
    /// A tier confirmed to a process that it has carried out a write, invalidation or clear.
    Confirmed {
        /// The number of the tier, from near to far.
        tier: usize,
        /// The process that got the confirmation.
        process: Process,
        /// The key; `None` is every key.
        key: Option<Key>,
        /// It was a put.
        put: bool,
        /// The tier has all changes of the truth up to this moment, where it is known: a drop that names
        /// no version covers all changes.
        covers: Option<At>,
    },
    /// A tier went back in time: promises of earlier changes are void.
    WentBack,
    /// A process got a value from the truth, from which its copies live.
    Obtained {
        /// The value.
        value: u64,
    },
    /// Some process got a value from the truth at a moment that lies between `since` and this fact.
    ObtainedSince {
        /// The value; `None` where it is not known which.
        value: Option<u64>,
        /// The earliest moment.
        since: At,
    },
    /// A key's copies were given another life by `expire`.
    Extended {
        /// The key.
        key: Key,
        /// Its new end.
        until: At,
    },
    /// A process was notified of all changes of a key that were made before `since`.
    Heard {
        /// The process.
        process: Process,
        /// The key; `None` is every key.
        key: Option<Key>,
        /// Values that were superseded earlier must not be served from now on.
        since: At,
    },
    /// A process has read all entries of its log from before `until`.
    Followed {
        /// The process.
        process: Process,
        /// When its request was sent.
        until: At,
    },
    /// A process found a gap in its log.
    Gap {
        /// The process.
        process: Process,
    },
    /// A tier was found to have lost its data or gone back in time, and its copies were made dead.
    Renewed {
        /// The number of the tier.
        tier: usize,
    },
}

/// Everything that a run did. Each list is in the order of time.
#[derive(Clone, Debug)]
pub struct History {
    /// What orders the values.
    pub truth: Truth,
    /// How many shared cache tiers there are.
    pub tiers: usize,
    /// How long near copies may be trusted after the last heartbeat of the log that covers them; `None`
    /// where there is no log.
    pub distrust: Option<Duration>,
    /// From this moment on no process writes and nothing fails.
    pub calm_from: At,
    /// The reads, in the order of their returns.
    pub reads: Vec<Read>,
    /// The writes, in the order of their returns; writes that have not returned come last.
    pub writes: Vec<Write>,
    /// The changes of the truth; changes of one key are in order.
    pub changes: Vec<Change>,
    /// Facts about tiers and processes.
    pub facts: Vec<(At, Fact)>,
    /// Values that loaders offered to a store, which may have refused them.
    pub offered: Vec<u64>,
}

impl Default for History {
    fn default() -> Self {
        Self {
            truth: Truth::Store,
            tiers: 0,
            distrust: None,
            calm_from: At(u64::MAX),
            reads: Vec::new(),
            writes: Vec::new(),
            changes: Vec::new(),
            facts: Vec::new(),
            offered: Vec::new(),
        }
    }
}

/// A promise that was broken.
#[derive(Clone, Debug)]
pub struct Violation {
    /// When it showed.
    pub at: At,
    /// The key.
    pub key: Key,
    /// What was promised, and what was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {}: {}", self.at, self.key, self.what)
    }
}
