//! Gets from and puts into a Postgres store through the cache, with the near tier off, beside a prepared
//! statement for each key.

use sqlx::{PgPool, postgres::PgPoolOptions};
use terrace::{Cache, NoNear, Postgres};
use terrace_testbed::unique_name;

use crate::{
    Effort, Result,
    data::{KEYS, User, key, scattered},
    measure::{
        callers::{Work, throughputs, times_in_turns},
        row::{Row, Target, Unit},
    },
};

/// How many connections the pool of both sides has.
const POOL: u32 = 8;

/// A cache with a store, and the pool that both sides use.
#[derive(Clone)]
pub struct Database {
    /// The cache over the pool.
    pub cache: Cache<String, User, NoNear>,
    /// The raw pool.
    pub pool: PgPool,
}

impl Database {
    /// Connects both sides to the database at `url` and gives both all [`KEYS`].
    ///
    /// # Errors
    /// Errors of the server.
    pub async fn connect(url: &str) -> Result<Self> {
        // A test of the connection before each use would cost the raw side a quarter of its throughput.
        let options = PgPoolOptions::new().max_connections(POOL).test_before_acquire(false);
        let pool = options.connect(url).await?;
        let store = Postgres::from_pool(pool.clone());
        let cache = Cache::builder(unique_name("bench")).store(store).build()?;
        cache.ready().await?;
        let database = Self { cache, pool };
        database.fill().await?;
        Ok(database)
    }

    async fn fill(&self) -> Result<()> {
        sqlx::query("CREATE TABLE users_raw (id text PRIMARY KEY, body bytea NOT NULL)")
            .execute(&self.pool)
            .await?;
        for start in (0..KEYS).step_by(500) {
            let numbers = start..start + 500;
            for put in self.cache.put_many(numbers.clone().map(|n| (key(n), User::new(n)))).await {
                put?;
            }
            let keys: Vec<String> = numbers.clone().map(key).collect();
            let bodies: Result<Vec<Vec<u8>>, _> =
                numbers.map(|n| postcard::to_stdvec(&User::new(n))).collect();
            sqlx::query("INSERT INTO users_raw SELECT * FROM unnest($1::text[], $2::bytea[])")
                .bind(keys)
                .bind(bodies?)
                .execute(&self.pool)
                .await?;
        }
        sqlx::query("ANALYZE").execute(&self.pool).await?;
        Ok(())
    }
}

/// Calls `cache.get`.
#[derive(Clone)]
pub struct Get(pub Database);
/// Runs SELECT by key and decodes.
#[derive(Clone)]
pub struct RawGet(pub Database);

/// Calls `cache.put`.
#[derive(Clone)]
pub struct Put(pub Database);
/// Encodes and runs INSERT .. ON CONFLICT DO UPDATE, without versions and without an outbox.
#[derive(Clone)]
pub struct RawPut(pub Database);

impl Work for Put {
    async fn run(&self, n: usize) -> Result<()> {
        Ok(self.0.cache.put(&key(scattered(n)), User::new(n)).await.map(drop)?)
    }
}

impl Work for RawPut {
    async fn run(&self, n: usize) -> Result<()> {
        let upsert =
            "INSERT INTO users_raw VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body";
        let body = postcard::to_stdvec(&User::new(n))?;
        sqlx::query(upsert).bind(key(scattered(n))).bind(body).execute(&self.0.pool).await?;
        Ok(())
    }
}

impl Work for Get {
    async fn run(&self, n: usize) -> Result<()> {
        let found = self.0.cache.get(&key(scattered(n))).await?;
        found.map(drop).ok_or_else(|| "a record is missing".into())
    }
}

impl Work for RawGet {
    async fn run(&self, n: usize) -> Result<()> {
        let body: Vec<u8> = sqlx::query_scalar("SELECT body FROM users_raw WHERE id = $1")
            .bind(key(scattered(n)))
            .fetch_one(&self.0.pool)
            .await?;
        std::hint::black_box(postcard::from_bytes::<User>(&body)?);
        Ok(())
    }
}

/// Measures the rows of this group.
///
/// # Errors
/// Errors of the server.
pub async fn rows(effort: Effort, url: &str, emit: &mut dyn FnMut(Row)) -> Result<()> {
    let database = Database::connect(url).await?;
    let (get, raw) = (Get(database.clone()), RawGet(database.clone()));
    for callers in [1, 2] {
        // In turns, since sqlx's pool tests a connection after each use, in a task of its own.
        let rounds = times_in_turns((&get, &raw, &raw), callers, effort).await?;
        let name = format!("get / SELECT and decode, callers {callers}");
        emit(Row::new("postgres", name, Unit::Micros, &rounds, Some(Target::AtMost(1.1))));
    }
    for (callers, least) in [(64, 4.0), (256, 7.0)] {
        let rounds = throughputs((&get, &raw, &raw), callers, effort).await?;
        let name = format!("get / SELECT and decode, callers {callers}");
        emit(Row::new("postgres", name, Unit::Thousands, &rounds, Some(Target::AtLeast(least))));
    }
    let (put, raw) = (Put(database.clone()), RawPut(database.clone()));
    for callers in [1, 64] {
        let rounds = throughputs((&put, &raw, &raw), callers, effort).await?;
        let name = format!("put / INSERT ON CONFLICT, callers {callers}");
        emit(Row::new("postgres", name, Unit::Thousands, &rounds, None));
    }
    database.pool.close().await;
    Ok(())
}
