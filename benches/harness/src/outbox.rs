//! The cost of the outbox for writers, and how far the relay is behind them.
//!
//! Write-through puts are compared with the same puts in a schema whose functions write no outbox.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{AssertSqlSafe, PgPool};
use terrace::{Cache, Memory, NoNear, Postgres, Redis, Source, TierSettings, Ttl};
use terrace_testbed::{Postgres as Server, shared_redis, unique_name};
use tokio::time::sleep;

use crate::{
    Effort, Error, Result,
    data::{KEYS, User, key, scattered},
    measure::{
        callers::{Work, turn},
        latency::{Bound, Latency, Micros},
        row::{Round, Row, Target, Unit},
        threads::ORDERS,
    },
};

const WRITERS: usize = 16;
const TURN: Duration = Duration::from_millis(500);
/// Long, so that a slow turn of the machine is measured and not cut off.
const BUDGET: Duration = Duration::from_secs(5);
/// The time from one probe of the relay to the next.
const PROBE: Duration = Duration::from_millis(20);

/// Puts records.
#[derive(Clone)]
struct Put(Cache<String, User>);

impl Work for Put {
    async fn run(&self, n: usize) -> Result<()> {
        Ok(self.0.put(&key(scattered(n)), User::new(n)).await.map(drop)?)
    }
}

/// One namespace in a schema of its own.
#[derive(Clone)]
struct Stack {
    schema: &'static str,
    namespace: String,
    database: String,
    /// The URL of the Redis before the database, if there is one.
    redis: Option<String>,
}

impl Stack {
    fn postgres(&self) -> Result<Postgres> {
        Ok(Postgres::builder(&self.database).schema(self.schema).build()?)
    }

    fn redis(&self) -> Result<Option<Redis>> {
        let Some(url) = &self.redis else { return Ok(None) };
        Ok(Some(Redis::builder(url).allow_plaintext().build()?))
    }

    /// The cache of the writers, which has put all [`KEYS`].
    async fn writers(&self) -> Result<Put> {
        let cache = Cache::builder(self.namespace.clone()).near(Memory::entries(2 * KEYS as u64));
        let cache = cache.store(self.postgres()?.budget(BUDGET)).expire(Ttl::secs(3600));
        let cache = match self.redis()? {
            Some(redis) => cache.tier(redis.budget(BUDGET)).build()?,
            None => cache.build()?,
        };
        cache.ready().await?;
        for start in (0..KEYS).step_by(500) {
            for put in cache.put_many((start..start + 500).map(|n| (key(n), User::new(n)))).await {
                put?;
            }
        }
        Ok(Put(cache))
    }

    /// Removes the outbox from the function that puts records.
    async fn remove_outbox(&self, pool: &PgPool) -> Result<()> {
        let definition = "SELECT pg_get_functiondef(p.oid) FROM pg_proc p \
             JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1 AND p.proname = 'store_put'";
        let function: String = sqlx::query_scalar(definition).bind(self.schema).fetch_one(pool).await?;
        let (head, rest) = function.split_once(", logged AS (").ok_or("the function has no outbox")?;
        let (_, tail) = rest.split_once("\n    )").ok_or("the function has no end of the outbox")?;
        sqlx::raw_sql(AssertSqlSafe(format!("{head}{tail}"))).execute(pool).await?;
        Ok(())
    }

    /// How many rows the outbox has.
    async fn outbox_rows(&self, pool: &PgPool) -> Result<i64> {
        let count = format!("SELECT count(*) FROM {}.outbox", self.schema);
        Ok(sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(pool).await?)
    }
}

/// Measures rounds of three turns: with the outbox, without it, and without it again.
async fn rounds(with: &Put, without: &Put, seconds: usize) -> Result<Vec<Round>> {
    let (with, without) = (with.clone(), without.clone());
    let task = tokio::spawn(async move {
        let mut rounds = Vec::new();
        for round in 0..seconds * 2 / ORDERS[0].len() {
            let mut spent = [0.0; 3];
            for side in ORDERS[round % ORDERS.len()] {
                let work = if side == 0 { &with } else { &without };
                spent[side] = turn(work, WRITERS, (3 * round + side) * 1_000_003, TURN).await?;
            }
            let [ours, raw, control] = spent;
            rounds.push(Round { ours, raw, control });
        }
        Ok::<_, Error>(rounds)
    });
    task.await?
}

/// Measures, until `over` is set, how long the relay takes to bring a change to Redis that no writer
/// brings there itself: the age of the oldest unpublished change.
async fn relay_delays(stack: &Stack, pool: PgPool, over: Arc<AtomicBool>) -> Result<Vec<Micros>> {
    let cache = Cache::<String, User, NoNear>::builder(stack.namespace.clone()).expire(Ttl::secs(3600));
    let redis = stack.redis()?.ok_or("the stack has no Redis")?.budget(BUDGET);
    let cache = cache.tier(redis).store(stack.postgres()?).build()?;
    let probe = "no writer's".to_owned();
    let invalidate = format!("SELECT {0}.invalidate($1, NULL, {0}.key($2))", stack.schema);
    let mut delays = Vec::new();
    cache.put(&probe, User::new(0)).await?;
    while !over.load(Ordering::Relaxed) {
        while !is_copy(&cache, &probe).await? {
            cache.settled().await;
        }
        let change = sqlx::query(AssertSqlSafe(invalidate.clone())).bind(&stack.namespace).bind(&probe);
        change.execute(&pool).await?;
        let committed = Instant::now();
        while is_copy(&cache, &probe).await? {
            sleep(Duration::from_millis(1)).await;
        }
        delays.push(Micros(u64::try_from(committed.elapsed().as_micros()).unwrap_or(u64::MAX)));
        sleep(PROBE).await;
    }
    Ok(delays)
}

/// Whether a read of `key` is served by a copy in a tier.
async fn is_copy(cache: &Cache<String, User, NoNear>, key: &str) -> Result<bool> {
    let read = cache.get(key).await?.ok_or("the probe is missing")?;
    Ok(matches!(read.served().from, Source::Tier(_)))
}

/// Measures the rows of this group.
///
/// # Errors
/// Errors of the servers; an outbox that got no rows, or rows in the schema that should write none.
pub async fn rows(
    effort: Effort,
    emit: &mut dyn FnMut(Row),
    emit_latency: &mut dyn FnMut(Latency),
) -> Result<()> {
    let seconds = if effort.quick { 10 } else { 60 };
    for (waits_for_disk, with_redis, most) in [(true, false, 1.25), (false, false, 1.25), (true, true, 1.5)] {
        let server = match waits_for_disk {
            true => Server::options().durable().start().await?,
            false => Server::start().await?,
        };
        let database = server.create_database().await?;
        let redis = if with_redis { Some(shared_redis().await?) } else { None };
        let stack = |schema| Stack {
            schema,
            namespace: unique_name("outbox"),
            database: database.clone(),
            redis: redis.clone(),
        };
        let (with, without) = (stack("outbox_in"), stack("outbox_out"));
        let pool = PgPool::connect(&database).await?;
        let puts = (with.writers().await?, without.writers().await?);
        without.remove_outbox(&pool).await?;
        let before = [with.outbox_rows(&pool).await?, without.outbox_rows(&pool).await?];
        let over = Arc::new(AtomicBool::new(false));
        let probe = with_redis.then(|| {
            let (stack, pool, over) = (with.clone(), pool.clone(), Arc::clone(&over));
            tokio::spawn(async move { relay_delays(&stack, pool, over).await })
        });
        let rounds = rounds(&puts.0, &puts.1, seconds).await?;
        over.store(true, Ordering::Relaxed);
        let after = [with.outbox_rows(&pool).await?, without.outbox_rows(&pool).await?];
        if after[0] == before[0] || after[1] != before[1] {
            return Err(format!("rows in the two outboxes before: {before:?}, after: {after:?}").into());
        }
        let stack = match (waits_for_disk, with_redis) {
            (_, true) => "Redis, Postgres, relay",
            (true, false) => "Postgres",
            (false, false) => "Postgres, no fsync",
        };
        let name = format!("put / without outbox, {WRITERS} writers, {stack}");
        emit(Row::new("outbox", name, Unit::Micros, &rounds, Some(Target::AtMost(most))));
        if let Some(probe) = probe {
            let name = format!("relay behind the commits, {WRITERS} writers");
            emit_latency(Latency::new("outbox", name, probe.await??, Bound::Most(1_000.0)));
        }
    }
    Ok(())
}
