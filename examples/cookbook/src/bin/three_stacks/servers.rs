//! The servers, and the settings by which a stack is chosen.

use sqlx::{Connection, Executor, PgConnection};

use crate::{Choice, Outcome};

pub(crate) struct Servers {
    redis_url: String,
    database_url: String,
    /// The key prefix and the schema of this run.
    name: String,
    /// Servers that were started for this run and end with it.
    private: Option<(terrace_testbed::Redis, terrace_testbed::Postgres)>,
}

impl Servers {
    /// The servers of the environment, or private ones.
    pub(crate) async fn find() -> Outcome<Self> {
        let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        let name = format!("three_stacks_{}", std::process::id());
        if let (Some(redis_url), Some(database_url)) = (set("REDIS_URL"), set("DATABASE_URL")) {
            return Ok(Self { redis_url, database_url, name, private: None });
        }
        let redis = terrace_testbed::Redis::start().await?;
        let postgres = terrace_testbed::Postgres::options().durable().start().await?;
        let (redis_url, database_url) = (redis.url(), postgres.url());
        Ok(Self { redis_url, database_url, name, private: Some((redis, postgres)) })
    }

    /// The settings of a stack, in TOML.
    pub(crate) fn settings(&self, choice: Choice) -> String {
        let Self { redis_url, database_url, name, .. } = self;
        let mut toml = format!("ttl_seconds = 600\n[postgres]\nurl = {database_url:?}\nschema = {name:?}\n");
        if choice.memory {
            toml += "[memory]\nentries = 10000\n";
        }
        if choice.redis {
            toml += &format!("[redis]\nurl = {redis_url:?}\nprefix = {name:?}\nallow_plaintext = true\n");
        }
        toml
    }

    /// Kills Redis and starts it again without its data. `false` if the server is not ours.
    pub(crate) async fn empty_redis(&self) -> Outcome<bool> {
        let Some((redis, _)) = &self.private else { return Ok(false) };
        redis.kill9()?;
        redis.restart().await?;
        Ok(true)
    }

    /// Deletes what this run has left on servers that are not ours.
    pub(crate) async fn tidy(self) -> Outcome {
        if self.private.is_none() {
            let mut connection = PgConnection::connect(&self.database_url).await?;
            connection.execute(sqlx::AssertSqlSafe(format!("DROP SCHEMA {} CASCADE", self.name))).await?;
        }
        Ok(())
    }
}
