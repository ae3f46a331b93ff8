//! What a run is to do: everything in it follows from a plan, and a plan from a seed.

mod random;
mod shrink;

use std::{fmt, time::Duration};

use terrace_core::{Level, policy::Coalesce};

pub use shrink::shrink;

/// A run, step by step. The same plan gives the same history.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where its random delays and losses come from.
    pub seed: u64,
    /// The caches.
    pub stack: Stack,
    /// How many processes have one.
    pub processes: usize,
    /// How many keys they share, from 0.
    pub keys: u64,
    /// How long it runs, in milliseconds; then it heals, and every key is read once more.
    pub length: u64,
    /// What the network does all the time.
    pub weather: Weather,
    /// What is asked of the caches, in order.
    pub steps: Vec<Step>,
    /// What goes wrong, in order.
    pub faults: Vec<Fault>,
    /// From which millisecond on nobody writes and nothing fails, where that is before the end.
    pub calm_from: Option<u64>,
    /// What it may cost.
    pub limits: Limits,
}

/// What a run may cost; by default calls may take as long as the caches promise.
#[derive(Clone, Copy, Debug, Default)]
pub struct Limits {
    /// How often a key may be loaded.
    pub loads: Option<u64>,
    /// How long a call may take, of the time in which its process runs.
    pub call: Option<Duration>,
}

/// The caches of a run; all processes have the same.
#[derive(Clone, Copy, Debug)]
pub struct Stack {
    /// How consistent they are.
    pub level: Level,
    /// With near tiers.
    pub near: bool,
    /// How many shared cache tiers they have.
    pub tiers: usize,
    /// With a store; else an origin behind the loaders is the truth.
    pub store: bool,
    /// The nearest server keeps an invalidation log, which near tiers follow.
    pub log: bool,
    /// The store has a log too, which a relay carries into the cache tiers.
    pub outbox: bool,
    /// The nearest cache tier takes no value that is a multiple of 3: `TooLarge`.
    pub fussy: bool,
    /// The admission policy keeps a quarter of all values out of a tier, by chance.
    pub picky: bool,
    /// Who shares one load.
    pub stampede: Coalesce,
    /// How long copies live.
    pub life: Duration,
    /// How long they live in near tiers.
    pub near_life: Option<Duration>,
    /// How long absences live; zero keeps none.
    pub negative: Duration,
    /// How long copies may be served stale where the life that `life` gives them has ended.
    pub stale: Duration,
    /// What becomes of them then.
    pub freshness: Staleness,
}

/// The freshness policy of a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staleness {
    /// A stale copy is served and renewed behind its reader's back.
    pub while_revalidate: bool,
    /// It is served where renewing it failed.
    pub if_error: bool,
}

impl Stack {
    /// Whether every read and write is one of a linearizable register: at level `Strong`, and with a
    /// store alone that each caller reads for itself.
    pub fn is_linear(&self) -> bool {
        let alone = self.tiers == 0 && !self.near && self.stampede == Coalesce::Nobody;
        self.store && (alone || self.level == Level::Strong)
    }

    /// Whether processes wait for each other's loads.
    pub fn waits(&self) -> bool {
        matches!(self.stampede, Coalesce::Lease | Coalesce::LeaseOrStale)
    }

    /// The number of servers: the tiers from near to far, then the store.
    pub fn servers(&self) -> usize {
        self.tiers + usize::from(self.store)
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [
            self.near.then(|| "near".to_owned()),
            (self.tiers > 0).then(|| format!("{} tier{}", self.tiers, if self.tiers > 1 { "s" } else { "" })),
            self.store.then(|| "store".to_owned()),
            self.log.then(|| "log".to_owned()),
            (self.outbox && self.tiers > 0).then(|| "relay".to_owned()),
            self.waits().then(|| "leases waited for".to_owned()),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        write!(f, "{:?}: {}", self.level, parts.join(" + "))
    }
}

/// What the network does to a message, in thousandths.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// It is lost.
    pub lost: u16,
    /// It takes so long that its caller may give up: 40 to 400 ms.
    pub stuck: u16,
    /// It takes 3 to 40 ms, and others overtake it.
    pub slow: u16,
    /// What a log tells is told again, at once or with what comes next.
    pub twice: u16,
}

impl Weather {
    /// Every message takes 1 ms.
    pub const FAIR: Self = Self { lost: 0, stuck: 0, slow: 0, twice: 0 };
}

/// One call of one process.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// In which millisecond it begins; one whose process is paused or dead is left out.
    pub at: u64,
    /// Which process.
    pub slot: usize,
    /// What it calls.
    pub act: Act,
    /// The level of the handle by which it reads; `None` is the cache as built.
    pub level: Option<Level>,
}

/// A call of a cache. Where there is an origin, only the process that owns the key changes it: the
/// one whose number is the key's, modulo the processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// `get`.
    Get(u64),
    /// `get_or_load_with`, by a loader of this pace.
    Load(u64, LoaderPace),
    /// `get_many` of a range of keys.
    GetMany(u64, u64),
    /// `get_or_load_many` of a range of keys.
    LoadMany(u64, u64, LoaderPace),
    /// `refresh`.
    Refresh(u64, LoaderPace),
    /// A change by `put`.
    Put(u64),
    /// A change by `put_if_absent`; with an origin, by `invalidate` where that was refused.
    PutIfAbsent(u64),
    /// A change by `get` and `replace`, as above.
    Replace(u64),
    /// A change of the origin, if the process owns the key, and an `invalidate`.
    Invalidate(u64),
    /// A change of the origin, if the process owns the key, to nothing, and a `remove`.
    Remove(u64),
    /// `invalidate_many` of a range of keys, without a change.
    InvalidateMany(u64, u64),
    /// `clear`.
    Clear,
    /// `expire`, to this many milliseconds from now.
    Expire(u64, u64),
    /// The near tier evicts the key.
    Forget(u64),
}

impl Act {
    /// The key that it is about, or the first.
    pub(crate) fn key(self) -> u64 {
        match self {
            Self::Get(key) | Self::Load(key, _) | Self::GetMany(key, _) | Self::LoadMany(key, ..) => key,
            Self::Refresh(key, _) | Self::Put(key) | Self::PutIfAbsent(key) | Self::Replace(key) => key,
            Self::Invalidate(key) | Self::Remove(key) | Self::InvalidateMany(key, _) => key,
            Self::Expire(key, _) | Self::Forget(key) => key,
            Self::Clear => 0,
        }
    }
}

/// How a loader goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoaderPace {
    /// It reads the origin, and gives that so many milliseconds later.
    Early(u64),
    /// It reads the origin after so many milliseconds.
    Late(u64),
    /// It fails after so many milliseconds.
    Fails(u64),
}

/// Something that goes wrong in a millisecond.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// When.
    pub at: u64,
    /// What.
    pub what: Trouble,
}

/// What goes wrong. Servers are numbered from near to far, the store last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A process stops for so long, as under SIGSTOP.
    Pause(usize, u64),
    /// A process dies with all that it had under way, and is started again so much later.
    Crash(usize, u64),
    /// A process and a server lose each other's messages in one way, for so long.
    Cut(usize, usize, Way, u64),
    /// Messages between a process and a server take so much longer in one way, those that are sent
    /// within so long.
    Slow(usize, usize, Way, u64, u64),
    /// A server refuses connections for so long.
    Down(usize, u64),
    /// A cache tier evicts a key, whatever the cell holds.
    Evict(usize, u64),
    /// A cache tier loses everything.
    Flush(usize),
    /// A cache tier is saved.
    Save(usize),
    /// A cache tier goes back to what was saved last, if anything was, and its log with it.
    GoBack(usize),
    /// A process loses the connection on which it follows a server's log, for so long.
    Deafen(usize, usize, u64),
    /// A server forgets the entries of its log.
    Trim(usize),
    /// A cache tier evicts the mark of its relays.
    LoseMark(usize),
    /// Another program deletes a record in the store, and tells nobody.
    Foreign(u64),
}

/// The direction of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// From a process to a server.
    There,
    /// From a server to a process.
    Back,
}
