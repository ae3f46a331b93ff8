//! The plan of a round: the caches, their callers, and what goes wrong. All of it follows from a seed,
//! but for the moment at which each thing happens.

use std::{fmt, time::Duration};

use fastrand::Rng;
use serde::{Deserialize, Serialize};
use terrace::Level;

/// The caches of a round; all workers have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Stack {
    /// A near tier and Redis before the records in Postgres.
    NearRedisStore,
    /// A near tier before the records in Postgres, whose outbox it follows.
    NearStore,
    /// A near tier and Redis before a loader that reads a watched table.
    NearRedisTable,
    /// Redis before the records in Postgres; every caller looks and loads for itself.
    RedisStore,
}

/// The level that a round's caches have, and that they are checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Demand {
    Fenced,
    /// Nothing that was superseded more than [`BOUND`] before the call.
    Bounded,
    /// Linearizable: of caches with a store alone.
    Strong,
}

/// The bound of `Bounded`.
pub(crate) const BOUND: Duration = Duration::from_secs(1);

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) enum Fault {
    /// kill -9 of a worker; another one takes its place.
    WorkerKilled,
    /// SIGSTOP and SIGCONT of a worker.
    WorkerStopped,
    /// kill -9 of Redis, which comes back with nothing.
    RedisEmptied,
    /// kill -9 of Redis, which comes back with what it had some time before.
    RedisWentBack,
    /// kill -9 of a Redis that has all it had in its append-only file.
    RedisRestarted,
    /// SIGSTOP and SIGCONT of Redis.
    RedisStopped,
    /// FLUSHALL.
    Flushed,
    /// SCRIPT FLUSH.
    ScriptsFlushed,
    /// CLIENT KILL of all clients.
    ClientsKilled,
    /// `maxmemory` with `allkeys-lru`, and keys of other programs that fill the memory.
    Evicted,
    /// Every connection to Redis is cut.
    RedisCut,
    /// Every connection to Redis is cut, and new ones are refused for a while.
    RedisRefused,
    /// The answers of Redis, or all traffic, are held back and then delivered.
    RedisStalled,
    /// Traffic with Redis comes in small pieces, late.
    RedisSplit,
    /// kill -9 of Postgres and a restart.
    PostgresKilled,
    /// SIGSTOP and SIGCONT of Postgres.
    PostgresStopped,
    /// Every connection to Postgres is cut.
    PostgresCut,
    /// The answers of Postgres, or all traffic, are held back and then delivered.
    PostgresStalled,
    /// Traffic with Postgres comes in small pieces, late.
    PostgresSplit,
}

/// One fault, after `after` milliseconds without one, for `hold` milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Strike {
    pub(crate) after: u64,
    pub(crate) fault: Fault,
    pub(crate) hold: u64,
}

/// A defence that the workers leave out, so that a checker must notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum LeftOut {
    /// Of two writes of a key at the same time, near keeps neither: by [`terrace_tier::defence`].
    WriteOrder,
    /// Fences across processes: caches of level `Ttl`, checked for `Fenced`.
    Fences,
    /// The end of a life: copies live a minute, and are checked for the plan's shorter life.
    Lives,
}

/// A round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) stack: Stack,
    pub(crate) demand: Demand,
    /// How many processes have a cache.
    pub(crate) workers: usize,
    /// How many callers each has.
    pub(crate) callers: usize,
    /// Callers of one process run on several threads.
    pub(crate) threads: bool,
    /// How many keys they share, from 0.
    pub(crate) keys: u64,
    /// How many of a hundred calls are writes.
    pub(crate) writes: u8,
    /// How long copies live, in milliseconds.
    pub(crate) life: u64,
    /// How long it lasts, in milliseconds; then all faults end, and every key is read once more.
    pub(crate) length: u64,
    /// Redis keeps its data over a kill.
    pub(crate) durable: bool,
    /// The faults of the workers, of Redis and of Postgres, each list in order.
    pub(crate) lanes: [Vec<Strike>; 3],
    pub(crate) left_out: Option<LeftOut>,
}

pub(crate) const STACKS: [Stack; 4] =
    [Stack::NearRedisStore, Stack::NearRedisTable, Stack::RedisStore, Stack::NearStore];

const LENGTH: u64 = 4_500;

/// A life that ends in no round, in milliseconds.
const LONG: u64 = 60_000;

impl Stack {
    pub(crate) const fn has_redis(self) -> bool {
        !matches!(self, Self::NearStore)
    }

    /// The records are in Postgres; else a table of the user's own is the truth.
    pub(crate) const fn has_store(self) -> bool {
        !matches!(self, Self::NearRedisTable)
    }

    pub(crate) const fn has_near(self) -> bool {
        !matches!(self, Self::RedisStore)
    }
}

impl Demand {
    const fn level(self) -> Level {
        match self {
            Self::Fenced => Level::Fenced,
            Self::Bounded => Level::Bounded(BOUND),
            Self::Strong => Level::Strong,
        }
    }
}

impl Plan {
    /// The round of a seed. Four in a row have the four stacks, and every fault between them.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let (block, place) = (seed / STACKS.len() as u64, (seed % STACKS.len() as u64) as usize);
        let stack = STACKS[place];
        // One of the stacks with Redis has a durable one, another one each block.
        let durable =
            stack == [Stack::RedisStore, Stack::NearRedisStore, Stack::NearRedisTable][(block % 3) as usize];
        // All rounds of a block go through the same order, from another place each.
        let lane = |first: &[Fault], then: &[Fault], peace: std::ops::Range<u64>, rng: &mut Rng| {
            let mut then = then.to_vec();
            Rng::with_seed(block).shuffle(&mut then);
            let turn = place * (ASKED[1] - 2) % then.len();
            then.rotate_left(turn);
            let faults = first.iter().chain(then.iter().chain(first).cycle()).copied();
            let strike =
                |fault| Strike { after: rng.u64(peace.clone()), fault, hold: rng.u64(hold_of(fault)) };
            faults.take(MOST_STRIKES).map(strike).collect::<Vec<_>>()
        };
        let redis = match (stack.has_redis(), durable) {
            (false, _) => Vec::new(),
            (true, true) => lane(&[Fault::RedisRestarted], &REDIS, 100..800, &mut rng),
            (true, false) => lane(&[Fault::RedisEmptied, Fault::RedisWentBack], &REDIS, 100..800, &mut rng),
        };
        let workers = lane(&[], &WORKERS, 300..1_500, &mut rng);
        let lanes = [workers, redis, lane(&[], &POSTGRES, 200..1_200, &mut rng)];
        Self {
            seed,
            stack,
            demand: demand(stack, block + place as u64),
            workers: rng.usize(3..=4),
            callers: rng.usize(3..=6),
            threads: rng.bool(),
            keys: rng.u64(3..=8),
            writes: 15,
            life: if rng.u8(..3) == 0 { rng.u64(50..800) } else { LONG },
            length: LENGTH,
            durable,
            lanes,
            left_out: None,
        }
    }

    /// A round without faults, of caches without one defence, whose callers all use two keys.
    pub(crate) fn without(defence: LeftOut, seed: u64) -> Self {
        let stack = match defence {
            LeftOut::WriteOrder => Stack::NearStore,
            LeftOut::Fences => Stack::NearRedisTable,
            LeftOut::Lives => Stack::NearRedisStore,
        };
        Self {
            stack,
            demand: Demand::Fenced,
            callers: 12,
            // A defence is left out on one thread.
            threads: false,
            keys: 2,
            writes: 40,
            life: if defence == LeftOut::Lives { 100 } else { LONG },
            length: 1_500,
            durable: false,
            lanes: Default::default(),
            left_out: Some(defence),
            ..Self::of_seed(seed)
        }
    }

    /// How long copies live in the caches: as long as they are checked for, unless that is left out.
    pub(crate) const fn life(&self) -> Duration {
        Duration::from_millis(match self.left_out {
            Some(LeftOut::Lives) => LONG,
            _ => self.life,
        })
    }

    /// The level that the caches are built with: the one that they are checked for, unless it is left out.
    pub(crate) const fn level(&self) -> Level {
        match self.left_out {
            Some(LeftOut::Fences) => Level::Ttl,
            _ => self.demand.level(),
        }
    }

    /// The faults that the round must have, no matter how long they take.
    pub(crate) fn asked(&self) -> impl Iterator<Item = Fault> {
        self.lanes
            .iter()
            .zip(ASKED)
            .flat_map(|(lane, asked)| lane.iter().take(asked))
            .map(|strike| strike.fault)
    }
}

/// The levels take turns, with each stack.
fn demand(stack: Stack, turn: u64) -> Demand {
    match turn % 3 {
        0 => Demand::Fenced,
        2 if stack.has_store() => Demand::Strong,
        _ => Demand::Bounded,
    }
}

/// How many faults of each lane a round has at least, so that four rounds have all faults.
pub(crate) const ASKED: [usize; 3] = [2, 5, 3];

/// More faults than a round has time for.
const MOST_STRIKES: usize = 40;

const WORKERS: [Fault; 2] = [Fault::WorkerKilled, Fault::WorkerStopped];

const POSTGRES: [Fault; 5] = [
    Fault::PostgresKilled,
    Fault::PostgresStopped,
    Fault::PostgresCut,
    Fault::PostgresStalled,
    Fault::PostgresSplit,
];

const REDIS: [Fault; 9] = [
    Fault::RedisStopped,
    Fault::Flushed,
    Fault::ScriptsFlushed,
    Fault::ClientsKilled,
    Fault::Evicted,
    Fault::RedisCut,
    Fault::RedisRefused,
    Fault::RedisStalled,
    Fault::RedisSplit,
];

/// How long a fault lasts, in milliseconds: some faults outlast a budget, some the trust in a log.
fn hold_of(fault: Fault) -> std::ops::Range<u64> {
    match fault {
        Fault::WorkerStopped | Fault::RedisStopped | Fault::RedisStalled | Fault::RedisRefused => 20..1_300,
        Fault::PostgresStopped | Fault::PostgresStalled => 20..1_200,
        Fault::RedisWentBack | Fault::Evicted | Fault::RedisSplit | Fault::PostgresSplit => 100..500,
        Fault::Flushed | Fault::ScriptsFlushed | Fault::ClientsKilled => 1..50,
        Fault::WorkerKilled | Fault::RedisEmptied | Fault::RedisRestarted | Fault::PostgresKilled => 10..400,
        Fault::RedisCut | Fault::PostgresCut => 1..100,
    }
}

impl fmt::Display for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NearRedisStore => "near + Redis + Postgres store",
            Self::NearStore => "near + Postgres store",
            Self::NearRedisTable => "near + Redis, watched table",
            Self::RedisStore => "Redis + Postgres store",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn four_rounds_in_a_row_have_every_stack_and_ask_for_every_fault() {
        for block in 0..200 {
            let plans: Vec<Plan> = (block * 4..block * 4 + 4).map(Plan::of_seed).collect();
            let stacks: BTreeSet<Stack> = plans.iter().map(|plan| plan.stack).collect();
            let asked: BTreeSet<Fault> = plans.iter().flat_map(Plan::asked).collect();
            assert_eq!((stacks.len(), asked.len()), (4, 19), "block {block}: {asked:?}");
        }
    }

    #[test]
    fn a_seed_has_one_plan() {
        assert_eq!(Plan::of_seed(7), Plan::of_seed(7));
        assert_ne!(Plan::of_seed(7).lanes, Plan::of_seed(11).lanes);
    }
}
