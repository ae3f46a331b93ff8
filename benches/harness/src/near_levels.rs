//! The cost of each level for a near hit: the same get on caches over the same servers.

use std::{
    hint::black_box,
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll, Waker},
    time::Duration,
};

use terrace::{Cache, Level, Memory, Postgres, Quick, Redis, TierSettings, Ttl, near::Near};
use terrace_testbed::unique_name;

use crate::{
    Effort, Result,
    data::{KEYS, User, key, keys, scattered},
    measure::{
        row::{Row, Target, Unit},
        threads::rounds,
    },
};

const TURN: usize = 5_000;
const ROUNDS: usize = 1_200;
/// How many of a thousand reads the near tier may leave to other tiers: a busy machine can keep a
/// follower from its log for a while.
const MOST_MISSES: usize = 10;

/// The servers of all caches.
struct Servers<'a> {
    redis: &'a str,
    postgres: &'a str,
}

/// A cache whose near tier has all [`KEYS`].
struct Hits<N> {
    keys: Vec<String>,
    cache: Cache<String, User, N>,
    reads: AtomicUsize,
    misses: AtomicUsize,
}

impl<N: Near<String, User>> Hits<N> {
    /// Builds the cache over Redis, with records in Postgres at all levels but `Ttl`, and reads all keys.
    async fn new(near: N, level: Level, servers: &Servers<'_>) -> Result<Self> {
        let redis = Redis::builder(servers.redis).allow_plaintext().build()?.budget(Duration::from_secs(5));
        let builder = Cache::builder(unique_name("hits")).near(near).tier(redis).level(level);
        let builder = match level {
            Level::Ttl => builder,
            _ => builder.store(Postgres::new(servers.postgres)?),
        };
        let cache = builder.expire(Ttl::secs(3600)).build()?;
        cache.ready().await?;
        for start in (0..KEYS).step_by(500) {
            for put in cache.put_many((start..start + 500).map(|n| (key(n), User::new(n)))).await {
                put?;
            }
        }
        // After the watermark of a relay has advanced, the log covers the copies that are read.
        tokio::time::sleep(Duration::from_secs(2)).await;
        for key in keys() {
            cache.get(&key).await?;
        }
        Ok(Self { keys: keys(), cache, reads: AtomicUsize::new(0), misses: AtomicUsize::new(0) })
    }

    fn turn(&self, start: usize) {
        let mut misses = 0;
        for n in start..start + TURN {
            let read = pin!(self.cache.get(self.keys[scattered(n)].as_str()));
            match read.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(hit) => drop(black_box(hit)),
                Poll::Pending => misses += 1,
            }
        }
        self.reads.fetch_add(TURN, Ordering::Relaxed);
        self.misses.fetch_add(misses, Ordering::Relaxed);
    }

    /// An error if the near tier left too many reads to other tiers.
    fn check(&self) -> Result<()> {
        let (reads, misses) = (self.reads.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed));
        match misses * 1_000 <= reads * MOST_MISSES {
            true => Ok(()),
            false => Err(format!("the near tier did not answer {misses} of {reads} reads").into()),
        }
    }
}

async fn rows_of<N: Near<String, User>>(
    near: impl Fn() -> N,
    (name, most): (&str, f64),
    servers: &Servers<'_>,
    effort: Effort,
    emit: &mut dyn FnMut(Row),
) -> Result<()> {
    let bounded = Hits::new(near(), Level::Bounded(Duration::from_secs(1)), servers).await?;
    let fenced = Hits::new(near(), Level::Fenced, servers).await?;
    for (ours, other, level) in
        [("Bounded", "Fenced", Level::Fenced), ("Bounded", "Ttl", Level::Ttl), ("Fenced", "Ttl", Level::Ttl)]
    {
        let (theirs, control) =
            (Hits::new(near(), level, servers).await?, Hits::new(near(), level, servers).await?);
        let hits = if ours == "Bounded" { &bounded } else { &fenced };
        let sides: [&(dyn Fn(usize) + Sync); 3] =
            [&|start| hits.turn(start), &|start| theirs.turn(start), &|start| control.turn(start)];
        let rounds = tokio::task::block_in_place(|| rounds(1, effort.rounds(ROUNDS), TURN, sides));
        [hits, &theirs, &control].into_iter().try_for_each(Hits::check)?;
        let name = format!("{name}, get {ours} / get {other}");
        emit(Row::new("near", name, Unit::Nanos, &rounds, Some(Target::AtMost(most))));
    }
    Ok(())
}

/// Measures the rows of this group.
///
/// # Errors
/// Errors of the servers; too many reads that the near tier did not answer.
pub async fn rows(effort: Effort, redis: &str, postgres: &str, emit: &mut dyn FnMut(Row)) -> Result<()> {
    let servers = Servers { redis, postgres };
    rows_of(|| Memory::entries(2 * KEYS as u64), ("Memory", 1.1), &servers, effort, emit).await?;
    rows_of(|| Quick::entries(2 * KEYS), ("Quick", 1.3), &servers, effort, emit).await
}
