//! The library's own schema: made and moved forward by the library, once, whoever starts first.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use terrace_tier::{Error, Result};

use crate::{
    error::{During, typed},
    pool::{Pool, Session},
};

/// What brings a schema of version `index` to `index + 1`. Only ever appended to.
const MIGRATIONS: [fn() -> String; 4] = [first, second, third, fourth];

/// Many processes may wait for the one that migrates.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);

/// A server that does not answer must not hold up those that come after.
pub(crate) const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// Brings `schema`, a quoted name, to the version of this code.
pub(crate) async fn prepare(pool: &Pool, schema: &str) -> Result<()> {
    let look = async {
        let mut session = open(pool).await?;
        let version = found(session.connection()?, schema).await;
        session.end(version).map_err(|error| typed(error, During::Read))
    };
    let version = within(LOOK_TIMEOUT, look).await?;
    if version >= current() {
        return check(version, schema);
    }
    let migrate = async {
        let mut session = open(pool).await?;
        let version = migrate(session.connection()?, schema).await;
        session.end(version).map_err(|error| typed(error, During::Read))
    };
    let version = within(MIGRATION_TIMEOUT, migrate).await?;
    check(version, schema)
}

/// Whether `schema`, a quoted name, is of the version of this code.
pub(crate) async fn is_made(connection: &mut PgConnection, schema: &str) -> Result<bool> {
    let version = found(connection, schema).await.map_err(|error| typed(error, During::Read))?;
    if version > current() { check(version, schema).map(|()| true) } else { Ok(version == current()) }
}

async fn open(pool: &Pool) -> Result<Session> {
    pool.session().await.map_err(|error| typed(error, During::Connect))
}

/// The work, or a typed error after `time`.
pub(crate) async fn within<T>(time: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(time, work).await.unwrap_or_else(|_| Err(Error::timeout(time)))
}

fn current() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

fn check(version: i32, schema: &str) -> Result<()> {
    if version == current() {
        return Ok(());
    }
    let message = format!(
        "schema {schema} is of version {version} and this program knows {}: it was prepared by a newer \
         program; update this one, or give it a schema of its own",
        current()
    );
    Err(Error::config(message))
}

/// The version of the schema; zero where there is none.
///
/// Asks the catalogue's tables: `to_regclass` may answer from before the wait for the lock.
async fn found(connection: &mut PgConnection, schema: &str) -> Result<i32, sqlx::Error> {
    let there: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relname = 'migrations' AND n.nspname = $1)",
    )
    .bind(schema.trim_matches('"'))
    .fetch_one(&mut *connection)
    .await?;
    if !there {
        return Ok(0);
    }
    let version = format!("SELECT coalesce(max(version), 0) FROM {schema}.migrations");
    sqlx::query_scalar(AssertSqlSafe(version)).fetch_one(connection).await
}

async fn migrate(connection: &mut PgConnection, schema: &str) -> Result<i32, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let seconds = MIGRATION_TIMEOUT.as_secs();
    let wait = format!("SET LOCAL statement_timeout = '{seconds}s'; SET LOCAL lock_timeout = 0");
    transaction.execute(sqlx::raw_sql(AssertSqlSafe(wait))).await?;
    // One migrates; the others find its work done.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('terrace migrations of ' || $1, 0))")
        .bind(schema)
        .execute(&mut *transaction)
        .await?;
    let from = found(&mut transaction, schema).await?;
    if from == 0 {
        create_schema(&mut transaction, schema).await?;
    }
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(usize::try_from(from).unwrap_or(0)) {
        let text = migration().replace("{schema}", schema);
        transaction.execute(sqlx::raw_sql(AssertSqlSafe(text))).await?;
        let done = format!("INSERT INTO {schema}.migrations (version) VALUES ({})", index + 1);
        transaction.execute(sqlx::raw_sql(AssertSqlSafe(done))).await?;
    }
    transaction.commit().await?;
    Ok(from.max(current()))
}

/// CREATE SCHEMA IF NOT EXISTS would ask for the right to create even where it exists.
async fn create_schema(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    let there: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema.trim_matches('"'))
        .fetch_one(&mut *connection)
        .await?;
    if !there {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {schema}")))).await?;
    }
    let table = format!(
        "CREATE TABLE {schema}.migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
    );
    connection.execute(sqlx::raw_sql(AssertSqlSafe(table))).await?;
    Ok(())
}

fn first() -> String {
    [include_str!("sql/tables.sql"), include_str!("sql/functions.sql"), include_str!("sql/operators.sql")]
        .join("\n")
}

/// The outbox, and the operations that write it.
fn second() -> String {
    let apply = include_str!("sql/apply.sql");
    let store = apply.replace("{role}", "store").replace("{table}", "records").replace("{store}", "true");
    let cache =
        apply.replace("{role}", "cache").replace("{table}", "cache_entries").replace("{store}", "false");
    [include_str!("sql/outbox.sql"), &store, &cache].join("\n")
}

/// Watching the user's own tables.
fn third() -> String {
    include_str!("sql/watch.sql").to_owned()
}

/// What those who wait for a lease are told of its holder.
fn fourth() -> String {
    include_str!("sql/signs.sql").to_owned()
}
