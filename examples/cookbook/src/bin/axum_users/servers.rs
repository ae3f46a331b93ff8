//! The servers and the table.

use std::{error::Error, time::Duration};

use sqlx::{PgPool, postgres::PgPoolOptions};

const NAMES: &str = "INSERT INTO public.users SELECT n, 'User ' || n FROM generate_series(1, 1000) n";

pub(crate) enum Servers {
    /// The servers that the environment names.
    Given { redis: String, database: String },
    /// Servers that were started for this run and end with it.
    Private { redis: terrace_testbed::Redis, postgres: terrace_testbed::Postgres },
}

impl Servers {
    /// Finds or starts the servers, and makes a table of a thousand users.
    pub(crate) async fn find() -> Result<Self, Box<dyn Error>> {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let servers = match (set("REDIS_URL"), set("DATABASE_URL")) {
            (Some(redis), Some(database)) => Self::Given { redis, database },
            _ => Self::Private {
                redis: terrace_testbed::Redis::start().await?,
                postgres: terrace_testbed::Postgres::options().durable().start().await?,
            },
        };
        let pool = servers.pool().await?;
        let table = "CREATE TABLE public.users (id bigint PRIMARY KEY, name text NOT NULL)";
        sqlx::query(table).execute(&pool).await?;
        sqlx::query(NAMES).execute(&pool).await?;
        Ok(servers)
    }

    pub(crate) fn redis(&self) -> String {
        match self {
            Self::Given { redis, .. } => redis.clone(),
            Self::Private { redis, .. } => redis.url(),
        }
    }

    pub(crate) fn database(&self) -> String {
        match self {
            Self::Given { database, .. } => database.clone(),
            Self::Private { postgres, .. } => postgres.url(),
        }
    }

    /// A key prefix of its own, apart from other data in this Redis.
    pub(crate) fn prefix(&self) -> String {
        format!("axum-users-{}", std::process::id())
    }

    /// The application's own pool. It gives up on a server that is down before the HTTP clients do.
    pub(crate) async fn pool(&self) -> sqlx::Result<PgPool> {
        let pool = PgPoolOptions::new().acquire_timeout(Duration::from_millis(500));
        pool.connect(&self.database()).await
    }

    /// Drops the table from a database that remains after the run.
    pub(crate) async fn tidy(&self) -> Result<(), Box<dyn Error>> {
        if let Self::Given { .. } = self {
            let pool = self.pool().await?;
            // The table is not watched if the start failed.
            let _unwatched =
                sqlx::query("SELECT terrace.unwatch('public.users', 'users')").execute(&pool).await;
            sqlx::query("DROP TABLE public.users").execute(&pool).await?;
        }
        Ok(())
    }
}
