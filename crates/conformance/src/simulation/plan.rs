//! What a run is to do: everything in it follows from a plan, and a plan from a seed.

use std::{fmt, time::Duration};

use fastrand::Rng;
use terrace_core::Level;

use super::network::Way;

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
    /// Every caller looks and loads for itself.
    pub alone: bool,
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
        let alone = self.tiers == 0 && !self.near && self.alone;
        self.store && (alone || self.level == Level::Strong)
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
    Load(u64, Pace),
    /// `get_many` of a range of keys.
    GetMany(u64, u64),
    /// `get_or_load_many` of a range of keys.
    LoadMany(u64, u64, Pace),
    /// `refresh`.
    Refresh(u64, Pace),
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

/// How a loader goes about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
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

impl Plan {
    /// A random plan of a random stack.
    pub fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let stack = random_stack(&mut rng);
        Self::random(seed, stack, &mut rng)
    }

    /// A random plan for a stack.
    pub fn of_stack(seed: u64, stack: Stack) -> Self {
        Self::random(seed, stack, &mut Rng::with_seed(seed))
    }

    fn random(seed: u64, stack: Stack, rng: &mut Rng) -> Self {
        let processes = rng.usize(2..=3);
        let keys = rng.u64(2..=6);
        let length = if stack.log { rng.u64(300..2_500) } else { rng.u64(300..1_500) };
        let twice = if rng.bool() { 0 } else { 300 };
        let weather = match rng.u8(..4) {
            0 => Weather::FAIR,
            1 => Weather { lost: 0, stuck: 0, slow: 300, twice },
            2 => Weather { lost: 5, stuck: 20, slow: 200, twice },
            _ => Weather { lost: 30, stuck: 60, slow: 200, twice },
        };
        let (steps, faults) = (vec![], vec![]);
        let mut plan = Self { seed, stack, processes, keys, length, weather, steps, faults, calm_from: None };
        let density = if stack.is_linear() { 0 } else { rng.u64(3..12) };
        for at in 0..length {
            for _ in 0..rng.u64(0..=(density * processes as u64).max(1)) {
                let slot = rng.usize(..processes);
                let act = plan.random_act(slot, rng);
                let level = plan.random_level(rng);
                plan.steps.push(Step { at, slot, act, level });
            }
        }
        let troubles = if rng.u8(..5) == 0 { 0 } else { length / rng.u64(20..200) };
        let mut times: Vec<u64> = (0..troubles).map(|_| rng.u64(..length)).collect();
        times.sort_unstable();
        plan.faults = times.into_iter().filter_map(|at| plan.random_fault(at, rng)).collect();
        plan
    }

    fn random_act(&self, slot: usize, rng: &mut Rng) -> Act {
        let any = rng.u64(..self.keys);
        let to = rng.u64(any..self.keys) + 1;
        let pace = match rng.u8(..20) {
            0 => Pace::Fails(rng.u64(..20)),
            1..10 => Pace::Early(rng.u64(..60)),
            _ => Pace::Late(rng.u64(..20)),
        };
        let fenced = self.stack.level != Level::Ttl;
        // The keys of a process are those of its number, modulo the processes.
        let owned = any - any % self.processes as u64 + slot as u64;
        let key = if self.stack.store || owned >= self.keys { any } else { owned };
        let linear = self.stack.is_linear();
        let writes = if linear { 400 } else { 40 };
        match rng.u16(..1_000) {
            chance if chance < writes => match rng.u8(..20) {
                0..7 => Act::Put(key),
                7..9 if fenced => Act::PutIfAbsent(key),
                9..11 if fenced => Act::Replace(key),
                11..16 if !linear => Act::Invalidate(key),
                16..18 => Act::Remove(key),
                18 if !linear => Act::InvalidateMany(any, to),
                _ if !linear && rng.u8(..4) == 0 => Act::Clear,
                _ if !linear && !self.ages() && rng.u8(..2) == 0 => Act::Expire(any, rng.u64(20..2_000)),
                _ => Act::Put(key),
            },
            400..600 if linear => Act::Load(any, pace),
            _ if linear => Act::Get(any),
            40..60 => Act::Forget(any),
            60..70 => Act::Refresh(any, pace),
            70..110 => Act::GetMany(any, to),
            110..140 => Act::LoadMany(any, to, pace),
            140..340 => Act::Load(any, pace),
            _ => Act::Get(any),
        }
    }

    /// One read in eight goes by a handle of a level of its own.
    fn random_level(&self, rng: &mut Rng) -> Option<Level> {
        let other = rng.u8(..8) == 0;
        other.then(|| match rng.u8(..4) {
            0 => Level::Ttl,
            1 => Level::Fenced,
            2 => Level::Bounded(Duration::from_millis(rng.u64(100..1_200))),
            _ => Level::Strong,
        })
    }

    /// Whether it is the age of copies alone that proves them.
    fn ages(&self) -> bool {
        matches!(self.stack.level, Level::Bounded(_)) && !self.stack.store
    }

    fn random_fault(&self, at: u64, rng: &mut Rng) -> Option<Fault> {
        let slot = rng.usize(..self.processes);
        let server = rng.usize(..self.stack.servers());
        let cache = server.min(self.stack.tiers.saturating_sub(1));
        let way = if rng.bool() { Way::There } else { Way::Back };
        let kinds = 20 + if self.stack.log { 6 } else { 0 };
        let foreign = self.stack.outbox && rng.u8(..8) == 0;
        let unmarked = self.stack.outbox && rng.u8(..32) == 0;
        let what = match rng.u8(..kinds) {
            _ if foreign => Trouble::Foreign(rng.u64(..self.keys)),
            _ if unmarked => Trouble::LoseMark(0),
            20..24 => Trouble::Deafen(slot, 0, rng.u64(20..2_000)),
            24 => Trouble::Trim(0),
            25 => Trouble::Save(0),
            0..4 => Trouble::Pause(slot, rng.u64(2..400)),
            4..6 => Trouble::Crash(slot, rng.u64(1..100)),
            6..9 => Trouble::Cut(slot, server, way, rng.u64(5..300)),
            9 => Trouble::Down(server, rng.u64(5..300)),
            10..12 => Trouble::Slow(slot, server, way, rng.u64(5..200), rng.u64(1..100)),
            12..17 => Trouble::Evict(cache, rng.u64(..self.keys)),
            17 => Trouble::Flush(cache),
            18 => Trouble::Save(cache),
            _ => Trouble::GoBack(cache),
        };
        let of_tier = matches!(
            what,
            Trouble::Evict(..)
                | Trouble::LoseMark(_)
                | Trouble::Flush(_)
                | Trouble::Save(_)
                | Trouble::GoBack(_)
        );
        (!of_tier || self.stack.tiers > 0).then_some(Fault { at, what })
    }
}

fn random_stack(rng: &mut Rng) -> Stack {
    let (store, tiers) = match rng.u8(..10) {
        0..4 => (false, 1),
        4..6 => (false, 2),
        6..8 => (true, 1),
        8 => (true, 2),
        _ => (true, 0),
    };
    let short = |rng: &mut Rng| Duration::from_millis(rng.u64(50..2_000));
    // Lives that end within a plan, so that there is something stale.
    let stale = if rng.bool() { Duration::ZERO } else { short(rng) };
    let life = if stale.is_zero() { short(rng) } else { Duration::from_millis(rng.u64(10..300)) };
    let bound = Duration::from_millis(rng.u64(100..1_200));
    let level = match (store, tiers, rng.u8(..10)) {
        (false, _, 0..2) => Level::Ttl,
        (false, _, 2) => Level::Bounded(life.max(Duration::from_millis(100))),
        (true, _, 0) => Level::Strong,
        (true, 0 | 1, 1..4) => Level::Bounded(bound),
        _ => Level::Fenced,
    };
    let (relayed, log) = (rng.bool(), level != Level::Ttl && rng.u8(..3) > 0);
    // What a relay certifies proves the copies of a cache tier.
    let proven = matches!(level, Level::Bounded(_)) && store && tiers > 0;
    Stack {
        level,
        outbox: store && (relayed || proven),
        log: log || proven,
        near: rng.u8(..4) > 0 && !(store && tiers == 0 && rng.bool()),
        tiers,
        store,
        fussy: rng.u8(..6) == 0,
        picky: rng.u8(..6) == 0,
        alone: (store && tiers == 0) || rng.u8(..8) == 0,
        life,
        near_life: rng.bool().then(|| short(rng)),
        stale,
        freshness: Staleness { while_revalidate: rng.bool(), if_error: rng.bool() },
        negative: if rng.bool() { Duration::ZERO } else { Duration::from_millis(rng.u64(10..100)) },
    }
}
