//! What a run did, as a list of facts, and what checks it: nothing here knows how a cache works.
//!
//! A [`History`] is recorded by a [simulation](crate), by workers on real servers, or
//! written by hand. The checkers are functions of it:
//!
//! | checker | what it holds a history to |
//! |---|---|
//! | [`fenced`] | level `Fenced`: no read older than a change heard or made, nothing old back in a tier |
//! | [`bounded`] | level `Bounded`: nothing superseded more than a given time before the call |
//! | [`lives`] | a time to live: nothing is served longer than it since it was obtained, nor stale longer than is allowed |
//! | [`linear`] | level `Strong`: one register a key, linearizable |
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

/// A moment: nanoseconds of one clock that everything in a history was read from. Of two facts
/// the earlier has the lower number; in a simulation no two have the same.
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

/// One life of a process; a restarted one has another number.
pub type Process = u32;
/// A key.
pub type Key = u64;
/// What was written, by a number of its own; `None` is absence.
pub type Value = Option<u64>;

/// What the values of a history are ordered by.
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
    /// Not known: an absence, for which a cache does not say.
    Unknown,
}

impl From {
    /// Of an answer; an absence comes without a word on it.
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
    /// Who read.
    pub process: Process,
    /// What.
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
    /// It was marked stale: what it may be held to is said by [`Newness`].
    pub stale: bool,
    /// It asked the truth anew (`refresh`).
    pub anew: bool,
    /// It brought a loader.
    pub loads: bool,
    /// How new the answer was to be.
    #[serde(default)]
    pub asked: Newness,
}

/// How new the answer to a read was to be. One that is marked stale may be older, but for
/// [`Newness::Truth`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Newness {
    /// As the cache promises.
    #[default]
    Built,
    /// Any copy within its life: level `Ttl`.
    Life,
    /// As its process has heard: level `Fenced`.
    Heard,
    /// True so long before the call, or later: level `Bounded`.
    Within(Duration),
    /// True at the call, or later: level `Strong` in a cache of another one.
    Truth,
}

impl Read {
    /// An answer to a process that asked alone, for no more than the cache promises, and brought nothing.
    pub const fn plain(process: Process, key: Key, (call, ret): (At, At), value: Value, from: From) -> Self {
        let (joined, stale, anew, loads, asked) = (false, false, false, false, Newness::Built);
        Self { process, key, call, ret, value, from, joined, stale, anew, loads, asked }
    }

    /// What a cache of numbers answered, and what it said of it.
    pub fn answered(process: Process, key: Key, moments: (At, At), got: Option<&Cached<u64>>) -> Self {
        let served = got.map(Cached::served);
        Self {
            // An absence may be another's.
            joined: served.as_ref().is_none_or(|served| served.coalesced),
            stale: served.as_ref().is_some_and(|served| served.stale),
            ..Self::plain(process, key, moments, got.map(|got| **got), From::of(served.as_ref()))
        }
    }

    /// Whether it says of itself that it may be old.
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
    /// Of a write's result: whether its condition held.
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
    /// Who wrote.
    pub process: Process,
    /// What; `None` is every key.
    pub key: Option<Key>,
    /// When the call was made.
    pub call: At,
    /// When it returned, and how; `None` where the process died before.
    pub ret: Option<(At, End)>,
    /// What was asked for.
    pub wish: Wish,
}

/// A change of the truth.
///
/// A simulation knows its moment. On real servers it lies between two: the checkers hold a read
/// against the later one, and believe it from the earlier one on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// The key that changed.
    pub key: Key,
    /// Before this it was not true yet.
    pub since: At,
    /// At the latest from now on it was true.
    pub at: At,
    /// What was true then.
    pub value: Value,
}

impl Change {
    /// A change of which the moment is known.
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
    /// A process was told by a tier that a write, invalidation or clear was carried out there.
    Confirmed {
        /// The number of the tier, from near to far.
        tier: usize,
        /// Who was told.
        process: Process,
        /// The key; `None` is every key.
        key: Option<Key>,
        /// It was a put.
        put: bool,
        /// Up to when changes of the truth were confirmed by it, where that is known: a drop of
        /// whatever is there confirms all.
        covers: Option<At>,
    },
    /// A tier went back in time: what was promised of earlier changes is void.
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
        /// Not before.
        since: At,
    },
    /// A key's copies were given another life by `expire`.
    Extended {
        /// The key.
        key: Key,
        /// Its new end.
        until: At,
    },
    /// A process heard of all changes of a key that were made before `since`.
    Heard {
        /// Who.
        process: Process,
        /// The key; `None` is every key.
        key: Option<Key>,
        /// What was changed earlier must not be served from now on.
        since: At,
    },
    /// A process was told all that was in its log before `until`.
    Followed {
        /// Who.
        process: Process,
        /// When its question was sent.
        until: At,
    },
    /// A process was told that its log had a gap.
    Gap {
        /// Who.
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
    /// What the values are ordered by.
    pub truth: Truth,
    /// How many shared cache tiers there are.
    pub tiers: usize,
    /// How long near copies may be believed without a word of the log that they rest on; `None` where
    /// there is no log.
    pub distrust: Option<Duration>,
    /// From when on nobody writes and nothing fails.
    pub calm_from: At,
    /// In the order of their returns.
    pub reads: Vec<Read>,
    /// In the order of their returns; those without one last.
    pub writes: Vec<Write>,
    /// The changes of the truth, those of a key in their order.
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

/// Something that was not to be.
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
