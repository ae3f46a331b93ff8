//! How soon the near tier of another process shows a write.
//!
//! A child process writes growing values at a steady pace and says when each was acknowledged; this
//! one reads all keys about every millisecond. Both read the same clock.

use std::{
    process::Stdio,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use sqlx::{PgPool, postgres::PgPoolOptions};
use terrace::{Cache, Memory, Postgres, Redis, TierSettings, Ttl};
use terrace_testbed::{shared_postgres, shared_redis, unique_name};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use crate::{
    Effort, Error, Result,
    latency::{Bound, Latency, Micros},
};

/// The first argument of the child; what it is to do follows.
pub const WRITER: &str = "delivery-writer";

/// One task of the writer each.
const KEYS: u64 = 100;
/// What the reader has seen of a write is late, not lost, for so long after the last one.
const PATIENCE: Duration = Duration::from_secs(10);
/// From one round of reads to the next.
const PAUSE: Duration = Duration::from_millis(1);
/// A slow turn of the machine is to be measured, not to be cut off.
const BUDGET: Duration = Duration::from_secs(5);

type Stack = Cache<i64, i64>;

/// A stack, and who writes.
#[derive(Clone, Copy)]
struct Way {
    name: &'static str,
    code: &'static str,
    redis: bool,
    origin: Origin,
    per_second: u64,
    target_ms: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Origin {
    /// Redis has the last word.
    None,
    /// The records are in Postgres.
    Store,
    /// A watched table, which the child updates by plain SQL.
    Table,
}

const WAYS: [Way; 5] = [
    Way {
        name: "put elsewhere, near and Redis",
        code: "redis",
        redis: true,
        origin: Origin::None,
        per_second: 1_000,
        target_ms: 50.0,
    },
    Way {
        name: "put elsewhere, near, Redis and Postgres",
        code: "both",
        redis: true,
        origin: Origin::Store,
        per_second: 1_000,
        target_ms: 50.0,
    },
    Way {
        name: "put elsewhere, near and Postgres",
        code: "postgres",
        redis: false,
        origin: Origin::Store,
        per_second: 1_000,
        target_ms: 50.0,
    },
    Way {
        name: "UPDATE of a watched table, near and Redis",
        code: "watched-redis",
        redis: true,
        origin: Origin::Table,
        per_second: 100,
        target_ms: 300.0,
    },
    Way {
        name: "UPDATE of a watched table, near",
        code: "watched",
        redis: false,
        origin: Origin::Table,
        per_second: 100,
        target_ms: 300.0,
    },
];

/// Where both processes meet.
struct Place {
    way: Way,
    redis: String,
    database: String,
    namespace: String,
}

impl Place {
    fn words(&self) -> [&str; 4] {
        [self.way.code, &self.redis, &self.database, &self.namespace]
    }

    fn of(words: &[String]) -> Option<Self> {
        let [code, redis, database, namespace] = words else { return None };
        let way = *WAYS.iter().find(|way| way.code == code)?;
        Some(Self { way, redis: redis.clone(), database: database.clone(), namespace: namespace.clone() })
    }

    async fn pool(&self) -> Result<PgPool> {
        Ok(PgPoolOptions::new().max_connections(16).connect(&self.database).await?)
    }

    /// A process's stack.
    async fn stack(&self) -> Result<Stack> {
        let cache = Cache::builder(self.namespace.clone()).near(Memory::entries(1_000));
        let cache = cache.expire(Ttl::secs(3600));
        let postgres = Postgres::new(&self.database)?;
        let redis = || Ok::<_, Error>(Redis::builder(&self.redis).allow_plaintext().build()?.budget(BUDGET));
        let cache = match (self.way.origin, self.way.redis) {
            (Origin::None, _) => cache.tier(redis()?).build()?,
            (Origin::Store, true) => cache.tier(redis()?).store(postgres.budget(BUDGET)).build()?,
            (Origin::Store, false) => cache.store(postgres.budget(BUDGET)).build()?,
            (Origin::Table, with_redis) => {
                let pool = self.pool().await?;
                let cache = cache.watch_origin(&postgres).loader(move |id: i64| {
                    let pool = pool.clone();
                    async move {
                        let value = sqlx::query_scalar("SELECT value FROM watched WHERE id = $1").bind(id);
                        value.fetch_one(&pool).await.map(|value: i64| value)
                    }
                });
                if with_redis { cache.tier(redis()?).build()? } else { cache.build()? }
            }
        };
        cache.ready().await?;
        Ok(cache)
    }

    /// All keys with value 0.
    async fn prepare(&self, cache: &Stack) -> Result<()> {
        if self.way.origin != Origin::Table {
            for put in cache.put_many((0..KEYS.cast_signed()).map(|key| (key, 0))).await {
                put?;
            }
            return Ok(());
        }
        let pool = self.pool().await?;
        sqlx::raw_sql("CREATE TABLE watched (id bigint PRIMARY KEY, value bigint NOT NULL)")
            .execute(&pool)
            .await?;
        sqlx::query("INSERT INTO watched SELECT n, 0 FROM generate_series(0, $1 - 1) n")
            .bind(KEYS.cast_signed())
            .execute(&pool)
            .await?;
        // The library makes its schema when it first follows the log.
        let made = "SELECT to_regprocedure('terrace.watch(regclass, text, text[], text)') IS NOT NULL";
        while !sqlx::query_scalar::<_, bool>(made).fetch_one(&pool).await? {
            sleep(PAUSE).await;
        }
        sqlx::query("SELECT terrace.watch('watched', $1, '{id}')")
            .bind(&self.namespace)
            .execute(&pool)
            .await?;
        Ok(())
    }
}

/// What the child writes with.
#[derive(Clone)]
enum Pen {
    Cache(Stack),
    Table(PgPool),
}

impl Pen {
    async fn write(&self, key: u64, value: u64) -> Result<()> {
        let (key, value) = (key.cast_signed(), value.cast_signed());
        match self {
            Self::Cache(cache) => cache.put(&key, value).await.map(drop)?,
            Self::Table(pool) => {
                let update = sqlx::query("UPDATE watched SET value = $2 WHERE id = $1");
                update.bind(key).bind(value).execute(pool).await.map(drop)?;
            }
        }
        Ok(())
    }
}

/// The child: each key's task writes at its own moments, so that the writes are spread evenly.
///
/// # Errors
/// The servers'; words that a parent did not give.
pub async fn write(words: &[String]) -> Result<()> {
    let (place, writes) = words.split_at_checked(4).ok_or("no place to write to")?;
    let place = Place::of(place).ok_or("no such way")?;
    let each = writes.first().ok_or("no number of writes")?.parse::<u64>()? / KEYS;
    let pen = match place.way.origin {
        Origin::Table => Pen::Table(place.pool().await?),
        _ => Pen::Cache(place.stack().await?),
    };
    // Connections and statements are made before the time counts.
    pen.write(0, 0).await?;
    let apart = Duration::from_secs(KEYS) / place.way.per_second as u32;
    let start = Instant::now() + Duration::from_millis(100);
    let mut tasks = JoinSet::new();
    for key in 0..KEYS {
        let pen = pen.clone();
        tasks.spawn(async move {
            let mut written = Vec::new();
            for value in 1..=each {
                sleep_until(start + apart * (value as u32 - 1) + apart * key as u32 / KEYS as u32).await;
                pen.write(key, value).await?;
                written.push((key, value, micros()));
            }
            Ok::<_, Error>(written)
        });
    }
    // Said at the end: what is printed between writes would be measured too.
    while let Some(task) = tasks.join_next().await {
        for (key, value, at) in task?? {
            println!("{key} {value} {at}");
        }
    }
    println!("done");
    Ok(())
}

/// When the reader saw each key's new values first.
type Seen = Vec<Vec<(u64, u64)>>;

/// Reads all keys, in one call, until each was seen at the child's last value.
async fn read(cache: &Stack, last: u64) -> Result<Seen> {
    let keys: Vec<i64> = (0..KEYS.cast_signed()).collect();
    let mut seen: Seen = vec![Vec::new(); KEYS as usize];
    let mut moved = Instant::now();
    while seen.iter().any(|seen| seen.last().is_none_or(|(value, _)| *value < last)) {
        let values = cache.get_many(&keys).await.into_values()?;
        let now = micros();
        for (seen, value) in seen.iter_mut().zip(values) {
            let value = value.ok_or("a key is missing")?.cast_unsigned();
            let before = seen.last().map_or(0, |(value, _)| *value);
            if value < before {
                return Err(format!("{value} was read after {before}").into());
            }
            if value > before {
                seen.push((value, now));
                moved = Instant::now();
            }
        }
        if moved.elapsed() > PATIENCE {
            return Err("a write was not read within ten seconds".into());
        }
        sleep(PAUSE).await;
    }
    Ok(seen)
}

/// How long after its acknowledgement each write, or a later one of its key, was read.
async fn lateness(child: &mut Child, seen: &Seen) -> Result<Vec<Micros>> {
    let mut lines = BufReader::new(child.stdout.take().ok_or("no words of the child")?).lines();
    let mut late = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let numbers: Vec<u64> = line.split(' ').filter_map(|word| word.parse().ok()).collect();
        let [key, value, at] = numbers[..] else { continue };
        let read = seen.get(key as usize).and_then(|seen| seen.iter().find(|(seen, _)| *seen >= value));
        let (_, read_at) = read.ok_or("a write was never read")?;
        late.push(Micros(read_at.saturating_sub(at)));
    }
    if child.wait().await?.success() { Ok(late) } else { Err("the writer failed".into()) }
}

async fn row(way: Way, effort: Effort, redis: &str, database: &str) -> Result<Latency> {
    let (redis, database) = (redis.to_owned(), database.to_owned());
    let place = Place { way, redis, database, namespace: unique_name("delivery") };
    let cache = place.stack().await?;
    place.prepare(&cache).await?;
    let seconds = if effort.quick { 3 } else { 20 };
    // The same number of writes for each key.
    let writes = way.per_second * seconds / KEYS * KEYS;
    let mut child = Command::new(std::env::current_exe()?)
        .arg(WRITER)
        .args(place.words())
        .arg(writes.to_string())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    let reader = cache.clone();
    let seen = tokio::spawn(async move { read(&reader, writes / KEYS).await }).await??;
    let late = lateness(&mut child, &seen).await?;
    cache.close().await;
    Ok(Latency::new("delivery", way.name, late, Bound::P99(way.target_ms)))
}

/// The rows of this group.
///
/// # Errors
/// The servers'; a read that goes back, a write that is never read.
pub async fn rows(effort: Effort, say: &mut dyn FnMut(Latency)) -> Result<()> {
    for way in WAYS {
        say(row(way, effort, &shared_redis().await?, &shared_postgres().await?).await?);
    }
    Ok(())
}

/// Microseconds on the clock that both processes read.
fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}
