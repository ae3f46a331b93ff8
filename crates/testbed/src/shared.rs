//! One set of servers for a whole test run.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tokio::sync::OnceCell;
use url::Url;

use crate::{
    Error, PgBouncer, Postgres, Redis, Result,
    name::count,
    postgres::{OWNER, create_database, make_owner},
};

const REDIS_VARIABLES: [&str; 2] = ["TERRACE_TEST_REDIS_URL", "REDIS_URL"];
const DATABASE_VARIABLES: [&str; 2] = ["TERRACE_TEST_DATABASE_URL", "DATABASE_URL"];

/// The pool mode of a PgBouncer that stands before the Postgres of a [`SharedSet`].
const POOLER_VARIABLE: &str = "TERRACE_TEST_POOLER";

static REDIS: OnceCell<Redis> = OnceCell::const_new();
static POSTGRES: OnceCell<Postgres> = OnceCell::const_new();

/// The URL of a Redis that all tests of this run share.
///
/// The URL is the value of `TERRACE_TEST_REDIS_URL` (set by `cargo xtask test`) or of `REDIS_URL`. If
/// neither is set, the first call starts a server for this process. Each test uses key prefixes of
/// its own, see [`unique_name`](crate::unique_name), and must not flush, kill or reconfigure the server.
///
/// # Errors
/// As [`ServerOptions::start`](crate::ServerOptions::start).
pub async fn shared_redis() -> Result<String> {
    if let Some((_, url)) = first_set(REDIS_VARIABLES) {
        return Ok(if url.contains("://") { url } else { format!("redis://{url}") });
    }
    Ok(REDIS.get_or_try_init(Redis::start).await?.url())
}

/// The URL of an empty database, new with each call, on a Postgres that all tests of this run share. Its
/// role owns the database and is no superuser (unless the server was named by a role that is ordinary itself).
///
/// `TERRACE_TEST_DATABASE_URL` (set by `cargo xtask test`) or `DATABASE_URL` names the server. If
/// neither is set, the first call starts a server for this process. Each call also drops the databases
/// that ended processes of this machine left on the server.
///
/// # Errors
/// As [`ServerOptions::start`](crate::ServerOptions::start); [`Error::BadUrl`] if the variable holds no
/// URL; [`Error::Sql`] if the server cannot be reached or refuses.
///
/// # Cost
/// About 50 ms.
pub async fn shared_postgres() -> Result<String> {
    let (variable, base) = match first_set(DATABASE_VARIABLES) {
        Some(given) => given,
        None => ("the testbed", POSTGRES.get_or_try_init(Postgres::start).await?.superuser_url()),
    };
    let mut url = Url::parse(&base).map_err(|error| Error::BadUrl { variable, reason: error.to_string() })?;
    let what = "connecting to make a database";
    let mut session = PgConnection::connect(&base).await.map_err(Error::sql(what))?;
    drop_databases_of_ended_processes(&mut session).await?;
    let name = format!("{}{}_{}", database_prefix(), std::process::id(), count());
    let superuser = make_owner(&mut session, url.password()).await?;
    create_database(&mut session, &name, superuser.then_some(OWNER)).await?;
    url.set_path(&name);
    if superuser {
        url.set_username(OWNER)
            .map_err(|()| Error::BadUrl { variable, reason: "it has no user".to_owned() })?;
    }
    Ok(url.into())
}

/// The URL of a database that [`shared_postgres`] gave, as the superuser of the server: for what a test does
/// as an operator.
///
/// # Errors
/// [`Error::BadUrl`] if the variable of the server or the argument holds no URL.
pub async fn shared_postgres_superuser(database: &str) -> Result<String> {
    let (variable, base) = match first_set(DATABASE_VARIABLES) {
        Some(given) => given,
        None => ("the testbed", POSTGRES.get_or_try_init(Postgres::start).await?.superuser_url()),
    };
    let bad = |error: url::ParseError| Error::BadUrl { variable, reason: error.to_string() };
    let mut url = Url::parse(&base).map_err(bad)?;
    url.set_path(Url::parse(database).map_err(bad)?.path());
    Ok(url.into())
}

/// The servers of a test run, and the environment variables by which tests find them.
#[derive(Debug)]
pub struct SharedSet {
    redis: Option<Redis>,
    /// A pooler ends before its server.
    pooler: Option<PgBouncer>,
    postgres: Option<Postgres>,
}

impl SharedSet {
    /// Starts the servers that the environment does not name. With `TERRACE_TEST_POOLER=session` in the
    /// environment, a PgBouncer in this mode stands before Postgres.
    ///
    /// # Errors
    /// As [`ServerOptions::start`](crate::ServerOptions::start).
    pub async fn start() -> Result<Self> {
        let redis = match first_set(REDIS_VARIABLES) {
            Some(_) => None,
            None => Some(Redis::start().await?),
        };
        let postgres = match first_set(DATABASE_VARIABLES) {
            Some(_) => None,
            None => Some(Postgres::start().await?),
        };
        let mode = std::env::var(POOLER_VARIABLE).ok().filter(|mode| !mode.is_empty());
        let pooler = match (&postgres, mode) {
            (Some(postgres), Some(mode)) => Some(pooler(postgres, &mode).await?),
            _ => None,
        };
        Ok(Self { redis, pooler, postgres })
    }

    /// The variables to set for the tests: none for a server that the environment already names.
    #[must_use]
    pub fn variables(&self) -> Vec<(&'static str, String)> {
        let redis = self.redis.iter().map(|redis| (REDIS_VARIABLES[0], redis.url()));
        let postgres = self.postgres.iter().map(|postgres| match &self.pooler {
            Some(pooler) => pooler.superuser_url(),
            None => postgres.superuser_url(),
        });
        redis.chain(postgres.map(|url| (DATABASE_VARIABLES[0], url))).collect()
    }

    /// What the servers of this set report about themselves: `redis 7.0.15`, `postgres 15.18`.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Sql`] if a server cannot be asked.
    pub async fn versions(&self) -> Result<Vec<String>> {
        let mut versions = Vec::new();
        if let Some(redis) = &self.redis {
            versions.push(redis.version().await?);
        }
        if let Some(postgres) = &self.postgres {
            versions.push(postgres.version().await?);
        }
        if let Some(pooler) = &self.pooler {
            versions.push(pooler.version().await?);
        }
        Ok(versions)
    }
}

/// A pooler for the tests of a whole run: each has a database of its own, whose idle sessions must not use up the
/// sessions of the server.
async fn pooler(postgres: &Postgres, mode: &str) -> Result<PgBouncer> {
    PgBouncer::before(postgres, mode)
        .pooler_setting("ignore_startup_parameters", "extra_float_digits")
        .pooler_setting("max_client_conn", "1000")
        .pooler_setting("default_pool_size", "50")
        .pooler_setting("server_idle_timeout", "2")
        .pooler_setting("admin_users", "postgres")
        .start()
        .await
}

fn first_set(variables: [&'static str; 2]) -> Option<(&'static str, String)> {
    variables
        .into_iter()
        .filter_map(|name| Some((name, std::env::var(name).ok()?)))
        .find(|(_, value)| !value.is_empty())
}

/// The start of the names of this machine's databases: on another machine the same process id means
/// another process.
fn database_prefix() -> String {
    let mut hasher = DefaultHasher::new();
    rustix::system::uname().nodename().to_bytes().hash(&mut hasher);
    format!("terrace_test_{:08x}_", hasher.finish() & 0xffff_ffff)
}

async fn drop_databases_of_ended_processes(session: &mut PgConnection) -> Result<()> {
    let what = "dropping databases of past tests";
    let prefix = database_prefix();
    let names: Vec<String> =
        sqlx::query_scalar("select datname::text from pg_database where starts_with(datname, $1)")
            .bind(&prefix)
            .fetch_all(&mut *session)
            .await
            .map_err(Error::sql(what))?;
    for name in names.iter().filter(|name| has_ended_owner(name, &prefix)) {
        // Another test process may be dropping the same database, which is no error.
        let statement = format!("drop database if exists {name} with (force)");
        let _ignored = session.execute(AssertSqlSafe(statement)).await;
    }
    Ok(())
}

/// Whether the process that a database's name contains has ended.
fn has_ended_owner(name: &str, prefix: &str) -> bool {
    let owner = name.strip_prefix(prefix).and_then(|rest| rest.split('_').next());
    let Some(pid) = owner.and_then(|pid| pid.parse().ok()).and_then(rustix::process::Pid::from_raw) else {
        return false;
    };
    rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_has_ended_owner_only_if_its_process_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(has_ended_owner(&format!("p_{}_0", child.id()), "p_"));
        assert!(!has_ended_owner(&format!("p_{}_0", std::process::id()), "p_"));
        assert!(!has_ended_owner("p_x_0", "p_"));
        assert!(!has_ended_owner("other", "p_"));
    }
}
