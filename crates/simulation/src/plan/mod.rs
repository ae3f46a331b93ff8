//! The plan of a run: everything in the run follows from the plan, and a random plan from a seed.

mod random;
mod shrink;

use std::{fmt, time::Duration};

use terrace_core::{Level, policy::Coalesce};

pub use shrink::shrink;

/// A run, step by step. The same plan gives the same history.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The seed of its random delays and losses.
    pub seed: u64,
    /// The caches.
    pub stack: Stack,
    /// How many processes have such a cache.
    pub processes: usize,
    /// How many keys the processes share; they are numbered from 0.
    pub keys: u64,
    /// How long it runs, in milliseconds; then all faults end, and every key is read once more.
    pub length: u64,
    /// What the network does all the time.
    pub weather: Weather,
    /// What is asked of the caches, in order.
    pub steps: Vec<Step>,
    /// What goes wrong, in order.
    pub faults: Vec<Fault>,
    /// The millisecond from which on no process writes and nothing fails, where that is before the end.
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
    /// They have near tiers.
    pub near: bool,
    /// The number of shared cache tiers.
    pub tiers: usize,
    /// They have a store; without one an origin behind the loaders is the truth.
    pub store: bool,
    /// The nearest server keeps an invalidation log, which near tiers follow.
    pub log: bool,
    /// The store has a log too, which a relay carries into the cache tiers.
    pub outbox: bool,
    /// The nearest cache tier takes no value that is a multiple of 3: `TooLarge`.
    pub fussy: bool,
    /// The admission policy keeps a quarter of all values out of a tier, by chance.
    pub picky: bool,
    /// Which callers share one load.
    pub stampede: Coalesce,
    /// How long copies live.
    pub life: Duration,
    /// How long copies live in near tiers.
    pub near_life: Option<Duration>,
    /// How long absences live; zero keeps none.
    pub negative: Duration,
    /// How long copies may be served stale where the life that `life` gives them has ended.
    pub stale: Duration,
    /// What happens to copies whose life has ended.
    pub freshness: Staleness,
}

/// The freshness policy of a stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staleness {
    /// A stale copy is served, and renewed in the background.
    pub while_revalidate: bool,
    /// A stale copy is served where its renewal failed.
    pub if_error: bool,
}

impl Stack {
    /// Whether all reads and writes of a key are those of a linearizable register: at level `Strong`, and
    /// with a store alone that each caller reads for itself.
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

/// How likely the network does what to a message, in thousandths.
#[derive(Clone, Copy, Debug)]
pub struct Weather {
    /// The message is lost.
    pub lost: u16,
    /// The message takes 40 to 400 ms, so that its caller may give up.
    pub stuck: u16,
    /// The message takes 3 to 40 ms, and others overtake it.
    pub slow: u16,
    /// An entry of a log is reported twice: again at once, or with the entries that come next.
    pub twice: u16,
}

impl Weather {
    /// Every message takes 1 ms.
    pub const FAIR: Self = Self { lost: 0, stuck: 0, slow: 0, twice: 0 };
}

/// One call of one process.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// The millisecond in which it begins; it is left out where its process is paused or dead.
    pub at: u64,
    /// The slot of the process.
    pub slot: usize,
    /// The call.
    pub act: Act,
    /// The level of the handle that it uses; `None` is the cache as built.
    pub level: Option<Level>,
}

/// A call of a cache. Where there is an origin, only the process that owns a key changes it: the process
/// in the slot that is the key modulo the number of processes.
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
    /// A change by `put_if_absent`; with an origin, by `invalidate` where the put was refused.
    PutIfAbsent(u64),
    /// A change by `get` and `replace`; with an origin, by `invalidate` where the put was refused.
    Replace(u64),
    /// A change of the origin, if the process owns the key, and an `invalidate`.
    Invalidate(u64),
    /// A removal from the origin, if the process owns the key, and a `remove`.
    Remove(u64),
    /// `invalidate_many` of a range of keys, without a change.
    InvalidateMany(u64, u64),
    /// `clear`.
    Clear,
    /// `expire`, so that the key's copies end this many milliseconds from now.
    Expire(u64, u64),
    /// The near tier evicts the key.
    Forget(u64),
}

impl Act {
    /// The key of the call, or the first of its keys.
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

/// When a loader reads the origin, and when it returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoaderPace {
    /// It reads the origin, and returns the value this many milliseconds later.
    Early(u64),
    /// It reads the origin after this many milliseconds.
    Late(u64),
    /// It fails after this many milliseconds.
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

/// What goes wrong. Servers are numbered from near to far, the store last. Processes are named by their
/// slots; lengths of time are milliseconds and come last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// A process stops for a time, as under SIGSTOP.
    Pause(usize, u64),
    /// A process dies with all its tasks, and is started again after a time.
    Crash(usize, u64),
    /// Messages between a process and a server are lost in one direction, for a time.
    Cut(usize, usize, Way, u64),
    /// Messages between a process and a server take longer in one direction, by the first number of
    /// milliseconds, if they are sent within the second one.
    Slow(usize, usize, Way, u64, u64),
    /// A server refuses connections for a time.
    Down(usize, u64),
    /// A cache tier evicts a key, whatever the cell holds.
    Evict(usize, u64),
    /// A cache tier loses everything.
    Flush(usize),
    /// A cache tier is saved.
    Save(usize),
    /// A cache tier goes back to its last save, if there is one, and its log goes back with it.
    GoBack(usize),
    /// A process loses the connection on which it follows a server's log, for a time.
    CutLog(usize, usize, u64),
    /// A server forgets the entries of its log.
    Trim(usize),
    /// A cache tier evicts the watermark of its relays.
    LoseWatermark(usize),
    /// The clock by which a cache tier issues versions goes back by a time, as after a failover.
    ClockBehind(usize, u64),
    /// Another program deletes a record in the store, and invalidates no copy.
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
