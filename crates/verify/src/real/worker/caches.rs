//! The cache of a worker, as the plan has it.

use std::time::Duration;

use sqlx::{PgPool, postgres::PgPoolOptions};
use terrace::{Cache, Lease, Level, Memory, NoCoalescing, Postgres, Redis, Result, TierSettings, Ttl};

use super::Place;
use crate::real::plan::Stack;

/// The namespace of every cache here.
const NAMESPACE: &str = "verify";

/// Long enough for two busy cores, and short enough that a fault lasts longer.
const REDIS_BUDGET: Duration = Duration::from_millis(100);
const STORE_BUDGET: Duration = Duration::from_millis(800);
const LOAD_DEADLINE: Duration = Duration::from_millis(1_500);

pub(super) fn build(place: &Place) -> Result<Cache<i64, u64>> {
    let plan = &place.plan;
    let mut builder = Cache::<i64, u64>::builder(NAMESPACE)
        .level(plan.level())
        .expire(Ttl::of(plan.life()))
        .load_deadline(LOAD_DEADLINE);
    if plan.stack.has_near() {
        builder = builder.near(Memory::entries(1_000));
    }
    if let Some(url) = &place.redis {
        builder = builder.tier(Redis::new(url)?.budget(REDIS_BUDGET));
    }
    let postgres = Postgres::new(&place.postgres)?;
    match plan.stack {
        Stack::NearRedisStore | Stack::NearStore => {}
        Stack::NearRedisTable => builder = builder.stampede(Lease),
        Stack::RedisStore => builder = builder.stampede(NoCoalescing),
    }
    match plan.stack.has_store() {
        true => builder.store(postgres.budget(STORE_BUDGET)).build(),
        // Level `Ttl` follows no log.
        false if plan.level() == Level::Ttl => builder.build(),
        false => builder.watch_origin(&postgres).build(),
    }
}

/// Connections of the application's own, for its table.
pub(super) fn pool(place: &Place) -> std::result::Result<PgPool, sqlx::Error> {
    let options = PgPoolOptions::new().max_connections(3).acquire_timeout(LOAD_DEADLINE);
    options.connect_lazy(&place.postgres)
}
