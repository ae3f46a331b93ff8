//! What the outbox costs writers: write-through puts, beside the same puts in a schema whose
//! functions leave the outbox out; and how far behind the relay is meanwhile.

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
    callers::{Work, turn},
    data::{KEYS, User, key, scattered},
    latency::{Bound, Latency, Micros},
    row::{Round, Row, Target, Unit},
    threads::ORDERS,
};

const WRITERS: usize = 16;
const TURN: Duration = Duration::from_millis(500);
/// A slow turn of the machine is to be measured, not to be cut off.
const BUDGET: Duration = Duration::from_secs(5);
/// From one look at the relay to the next.
const PROBE: Duration = Duration::from_millis(20);

/// Puts of records.
#[derive(Clone)]
struct Put(Cache<String, User>);

impl Work for Put {
    async fn run(&self, n: usize) -> Result<()> {
        Ok(self.0.put(&key(scattered(n)), User::new(n)).await.map(drop)?)
    }
}

/// One namespace, in a schema of its own.
#[derive(Clone)]
struct Stack {
    schema: &'static str,
    namespace: String,
    database: String,
    /// Redis in front, if any.
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

    /// A writer's process, with all [`KEYS`].
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

    /// Takes the outbox out of the function that puts records.
    async fn leave_the_outbox_out(&self, pool: &PgPool) -> Result<()> {
        let definition = "SELECT pg_get_functiondef(p.oid) FROM pg_proc p \
             JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = $1 AND p.proname = 'store_put'";
        let function: String = sqlx::query_scalar(definition).bind(self.schema).fetch_one(pool).await?;
        let (head, rest) = function.split_once(", logged AS (").ok_or("no outbox in the function")?;
        let (_, tail) = rest.split_once("\n    )").ok_or("no end of the outbox in the function")?;
        sqlx::raw_sql(AssertSqlSafe(format!("{head}{tail}"))).execute(pool).await?;
        Ok(())
    }

    async fn changes(&self, pool: &PgPool) -> Result<i64> {
        let count = format!("SELECT count(*) FROM {}.outbox", self.schema);
        Ok(sqlx::query_scalar(AssertSqlSafe(count)).fetch_one(pool).await?)
    }
}

/// Rounds of a turn each: with the outbox, without, without again.
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

/// Until told to stop, how long a change that no writer carries to Redis takes to get there: the age
/// of the oldest change that is not published.
async fn behind(stack: &Stack, pool: PgPool, over: Arc<AtomicBool>) -> Result<Vec<Micros>> {
    let cache = Cache::<String, User, NoNear>::builder(stack.namespace.clone()).expire(Ttl::secs(3600));
    let redis = stack.redis()?.ok_or("no Redis")?.budget(BUDGET);
    let cache = cache.tier(redis).store(stack.postgres()?).build()?;
    let probe = "no writer's".to_owned();
    let invalidate = format!("SELECT {0}.invalidate($1, NULL, {0}.key($2))", stack.schema);
    let mut behind = Vec::new();
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
        behind.push(Micros(u64::try_from(committed.elapsed().as_micros()).unwrap_or(u64::MAX)));
        sleep(PROBE).await;
    }
    Ok(behind)
}

async fn is_copy(cache: &Cache<String, User, NoNear>, key: &str) -> Result<bool> {
    let read = cache.get(key).await?.ok_or("the probe is missing")?;
    Ok(matches!(read.served().from, Source::Tier(_)))
}

/// The rows of this group.
///
/// # Errors
/// The servers'; an outbox that is where it should not be, or is not where it should be.
pub async fn rows(effort: Effort, say: &mut dyn FnMut(Row), tell: &mut dyn FnMut(Latency)) -> Result<()> {
    // Commits wait for the disk, as an application's do.
    let server = Server::options().durable().start().await?;
    let seconds = if effort.quick { 10 } else { 60 };
    for (with_redis, most) in [(false, 1.25), (true, 1.5)] {
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
        without.leave_the_outbox_out(&pool).await?;
        let before = [with.changes(&pool).await?, without.changes(&pool).await?];
        let over = Arc::new(AtomicBool::new(false));
        let probe = with_redis.then(|| {
            let (stack, pool, over) = (with.clone(), pool.clone(), Arc::clone(&over));
            tokio::spawn(async move { behind(&stack, pool, over).await })
        });
        let rounds = rounds(&puts.0, &puts.1, seconds).await?;
        over.store(true, Ordering::Relaxed);
        let after = [with.changes(&pool).await?, without.changes(&pool).await?];
        if after[0] == before[0] || after[1] != before[1] {
            return Err(format!("rows of the outbox before and after: {before:?}, {after:?}").into());
        }
        let stack = if with_redis { "near, Redis, Postgres, relay" } else { "near, Postgres" };
        let name = format!("put / without outbox, {WRITERS} writers, {stack}");
        say(Row::new("outbox", name, Unit::Micros, &rounds, Some(Target::AtMost(most))));
        if let Some(probe) = probe {
            let name = format!("relay behind the commits, {WRITERS} writers");
            tell(Latency::new("outbox", name, probe.await??, Bound::Most(1_000.0)));
        }
    }
    Ok(())
}
