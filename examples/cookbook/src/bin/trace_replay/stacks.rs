//! The stacks: the servers, and one cache for each choice of tiers.

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

use sqlx::{Connection, Executor, PgConnection};
use terrace::{Backend, Cache, Memory, Postgres, Redis, Result, Sqlite, TierSettings, Ttl};

use crate::replay::Block;

/// The schema of the records, which is dropped at the end.
const SCHEMA: &str = "terrace_three_stacks";

/// The servers that the stacks use.
pub(crate) enum Servers {
    /// The servers that the environment names.
    Given { redis: String, database: String },
    /// Servers that were started for this run and end with it.
    Private { redis: terrace_testbed::Redis, postgres: terrace_testbed::Postgres },
    /// No servers, but an embedded database in a folder.
    Embedded(PathBuf),
}

/// One choice of tiers.
pub(crate) struct Stack {
    pub(crate) name: &'static str,
    pub(crate) has_near: bool,
    redis: Option<Redis>,
    store: Option<Arc<dyn Backend>>,
}

impl Servers {
    /// The servers of the environment, or else private servers if `private` is set and they are
    /// installed, or else none.
    pub(crate) async fn find(private: bool) -> Result<Self, Box<dyn std::error::Error>> {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        if let (Some(redis), Some(database)) = (set("REDIS_URL"), set("DATABASE_URL")) {
            let servers = Self::Given { redis, database };
            servers.tidy().await?;
            return Ok(servers);
        }
        if private {
            match (terrace_testbed::Redis::start().await, terrace_testbed::Postgres::start().await) {
                (Ok(redis), Ok(postgres)) => return Ok(Self::Private { redis, postgres }),
                (Err(missing), _) | (_, Err(missing)) => println!("{missing}\n"),
            }
        }
        let folder = std::env::temp_dir().join(format!("terrace-three-stacks-{}", std::process::id()));
        std::fs::create_dir_all(&folder)?;
        Ok(Self::Embedded(folder))
    }

    /// The three stacks, over the same servers.
    pub(crate) fn stacks(&self) -> Result<[Stack; 3]> {
        let stack = |name, has_near, redis, store| Stack { name, has_near, redis, store };
        let (redis, database) = match self {
            Self::Given { redis, database } => (redis.clone(), database.clone()),
            Self::Private { redis, postgres } => (redis.url(), postgres.url()),
            Self::Embedded(folder) => {
                let file =
                    |name| Sqlite::file(folder.join(name)).map(|file| Arc::new(file) as Arc<dyn Backend>);
                return Ok([
                    stack("memory", true, None, None),
                    stack("SQLite", false, None, Some(file("alone.db")?)),
                    stack("memory + SQLite", true, None, Some(file("behind-memory.db")?)),
                ]);
            }
        };
        let redis = Redis::builder(redis).prefix(format!("three-stacks-{}", std::process::id())).build()?;
        let postgres: Arc<dyn Backend> = Arc::new(Postgres::builder(&database).schema(SCHEMA).build()?);
        Ok([
            stack("memory + Postgres", true, None, Some(Arc::clone(&postgres))),
            stack("Redis + Postgres", false, Some(redis.clone()), Some(Arc::clone(&postgres))),
            stack("memory + Redis + Postgres", true, Some(redis), Some(postgres)),
        ])
    }

    /// Removes the data of the stacks.
    pub(crate) async fn tidy(&self) -> Result<(), Box<dyn std::error::Error>> {
        match self {
            Self::Given { database, .. } => {
                let mut session = PgConnection::connect(database).await?;
                session.execute("DROP SCHEMA IF EXISTS terrace_three_stacks CASCADE").await?;
            }
            Self::Private { .. } => {}
            Self::Embedded(folder) => std::fs::remove_dir_all(folder)?,
        }
        Ok(())
    }
}

impl Stack {
    /// The cache that the application uses.
    pub(crate) fn cache(&self, near_entries: u64) -> Result<Cache<u64, Block>> {
        let mut builder = Cache::builder(self.name).expire(Ttl::secs(3600));
        if self.has_near {
            builder = builder.near(Memory::entries(near_entries));
        }
        if let Some(redis) = &self.redis {
            builder = builder.tier(redis.clone().budget(Duration::from_millis(200)));
        }
        if let Some(store) = &self.store {
            builder = builder.store(Arc::clone(store));
        }
        builder.build()
    }

    /// The store without the cache tiers before it, to put the records into.
    pub(crate) fn store_alone(&self) -> Result<Option<Cache<u64, Block>>> {
        let Some(store) = &self.store else { return Ok(None) };
        Cache::builder(self.name).store(Arc::clone(store)).build().map(Some)
    }
}

impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given { .. } => "on the servers of REDIS_URL and DATABASE_URL",
            Self::Private { .. } => {
                "on private servers, started for this run (REDIS_URL and DATABASE_URL are not both set)"
            }
            Self::Embedded(_) => {
                "on the embedded database, without servers (REDIS_URL and DATABASE_URL are not both set)"
            }
        })
    }
}
