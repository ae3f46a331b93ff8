//! The stacks that are measured, and the address at which both processes find one.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgPoolOptions};
use terrace::{Cache, Memory, Postgres, Redis, TierSettings, Ttl};
use tokio::time::sleep;

use super::{KEYS, PAUSE};
use crate::{Error, Result};

/// Long, so that a slow turn of the machine is measured and not cut off.
const BUDGET: Duration = Duration::from_secs(5);

/// The cache of one process.
pub(super) type Stack = Cache<i64, i64>;

/// Which tiers a stack has, and how the child writes.
#[derive(Clone, Copy)]
pub(super) struct Scenario {
    pub(super) name: &'static str,
    /// The name in the arguments of the child.
    code: &'static str,
    redis: bool,
    pub(super) origin: Origin,
    pub(super) per_second: u64,
    pub(super) target_ms: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// There is no origin: the latest value is in Redis.
    None,
    /// The records are in Postgres.
    Store,
    /// A watched table, which the child updates by plain SQL.
    Table,
}

pub(super) const SCENARIOS: [Scenario; 5] = [
    Scenario {
        name: "put elsewhere, near and Redis",
        code: "redis",
        redis: true,
        origin: Origin::None,
        per_second: 1_000,
        target_ms: 50.0,
    },
    Scenario {
        name: "put elsewhere, near, Redis and Postgres",
        code: "both",
        redis: true,
        origin: Origin::Store,
        per_second: 1_000,
        target_ms: 50.0,
    },
    Scenario {
        name: "put elsewhere, near and Postgres",
        code: "postgres",
        redis: false,
        origin: Origin::Store,
        per_second: 1_000,
        target_ms: 50.0,
    },
    Scenario {
        name: "UPDATE of a watched table, near and Redis",
        code: "watched-redis",
        redis: true,
        origin: Origin::Table,
        per_second: 100,
        target_ms: 300.0,
    },
    Scenario {
        name: "UPDATE of a watched table, near",
        code: "watched",
        redis: false,
        origin: Origin::Table,
        per_second: 100,
        target_ms: 300.0,
    },
];

/// Where both processes find the stack.
pub(super) struct Address {
    pub(super) scenario: Scenario,
    pub(super) redis: String,
    pub(super) database: String,
    pub(super) namespace: String,
}

impl Address {
    /// The address as arguments of the child.
    pub(super) fn arguments(&self) -> [&str; 4] {
        [self.scenario.code, &self.redis, &self.database, &self.namespace]
    }

    pub(super) fn parse(arguments: &[String]) -> Option<Self> {
        let [code, redis, database, namespace] = arguments else { return None };
        let scenario = *SCENARIOS.iter().find(|scenario| scenario.code == code)?;
        Some(Self {
            scenario,
            redis: redis.clone(),
            database: database.clone(),
            namespace: namespace.clone(),
        })
    }

    pub(super) async fn pool(&self) -> Result<PgPool> {
        Ok(PgPoolOptions::new().max_connections(16).connect(&self.database).await?)
    }

    /// The cache of one process.
    pub(super) async fn stack(&self) -> Result<Stack> {
        let cache = Cache::builder(self.namespace.clone()).near(Memory::entries(1_000));
        let cache = cache.expire(Ttl::secs(3600));
        let postgres = Postgres::new(&self.database)?;
        let redis = || Ok::<_, Error>(Redis::builder(&self.redis).allow_plaintext().build()?.budget(BUDGET));
        let cache = match (self.scenario.origin, self.scenario.redis) {
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

    /// Gives all keys the value 0.
    pub(super) async fn prepare(&self, cache: &Stack) -> Result<()> {
        if self.scenario.origin != Origin::Table {
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
        // The library makes its schema when it first follows the log, so this waits for the schema.
        let exists = "SELECT to_regprocedure('terrace.watch(regclass, text, text[], text)') IS NOT NULL";
        while !sqlx::query_scalar::<_, bool>(exists).fetch_one(&pool).await? {
            sleep(PAUSE).await;
        }
        sqlx::query("SELECT terrace.watch('watched', $1, '{id}')")
            .bind(&self.namespace)
            .execute(&pool)
            .await?;
        Ok(())
    }
}
