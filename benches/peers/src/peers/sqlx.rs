//! The raw Postgres client sqlx: a pool, and one prepared statement a call.

use sqlx::{PgPool, postgres::PgPoolOptions};

use crate::{
    Result,
    data::{KEYS, User, key},
    peer::Peer,
    work::{loaders::SELECT, remote::Remote},
};

/// What is said of it.
pub const PEER: Peer = Peer {
    name: "sqlx",
    package: "sqlx",
    leaves_out: "the cache: near tier, single flight, fences, versions, outbox",
};

/// How many connections each side's pool has.
pub const POOL: u32 = 8;

/// The client and its table.
#[derive(Clone)]
pub struct Raw(PgPool);

/// A pool for the database at `url`.
///
/// # Errors
/// The server is not there.
pub async fn pool(url: &str) -> Result<PgPool> {
    // A test of the connection before each use would cost the raw side a quarter of its throughput.
    let options = PgPoolOptions::new().max_connections(POOL).test_before_acquire(false);
    Ok(options.connect(url).await?)
}

/// Makes the table of the raw clients, with all keys.
///
/// # Errors
/// Errors of the server.
pub async fn make_table(pool: &PgPool) -> Result<()> {
    sqlx::query("CREATE TABLE users_raw (id text PRIMARY KEY, body bytea NOT NULL)").execute(pool).await?;
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let bodies: Vec<Vec<u8>> = (0..KEYS).map(|n| User::new(n).encode()).collect::<Result<_>>()?;
    let insert = "INSERT INTO users_raw SELECT * FROM unnest($1::text[], $2::bytea[])";
    sqlx::query(insert).bind(keys).bind(bodies).execute(pool).await?;
    sqlx::query("ANALYZE users_raw").execute(pool).await?;
    Ok(())
}

impl Raw {
    /// Connects to the database at `url`, in which [`make_table`] made the table.
    ///
    /// # Errors
    /// The server is not there.
    pub async fn connect(url: &str) -> Result<Self> {
        Ok(Self(pool(url).await?))
    }

    /// The statement of a put.
    pub(crate) const UPSERT: &'static str =
        "INSERT INTO users_raw VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET body = excluded.body";
}

impl Remote for Raw {
    async fn get(&self, n: usize) -> Result<u64> {
        let body: Vec<u8> = sqlx::query_scalar(SELECT).bind(key(n)).fetch_one(&self.0).await?;
        Ok(User::decode(&body)?.id)
    }

    async fn put(&self, n: usize) -> Result<()> {
        sqlx::query(Self::UPSERT).bind(key(n)).bind(User::new(n).encode()?).execute(&self.0).await?;
        Ok(())
    }
}
