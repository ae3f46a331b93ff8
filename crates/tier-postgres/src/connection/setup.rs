//! The library's own schema: the first process that needs it makes or upgrades it.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use terrace_tier::{Error, Result};

use super::{
    pool::Pool,
    timeout::{LOOKUP_TIMEOUT, within},
};
use crate::error::{Phase, typed};

/// The SQL that upgrades a schema from version `index` to `index + 1`. New entries go to the end.
const MIGRATIONS: [fn() -> String; 4] = [tables, outbox, watches, lease_signs];

/// Many processes may wait for the one that migrates.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);

/// Brings `schema`, a quoted name, to the version of this code.
pub(crate) async fn prepare(pool: &Pool, schema: &str) -> Result<()> {
    let look_up = async {
        let mut session = pool.session().await?;
        let version = version_of(session.connection()?, schema).await;
        session.end(version).map_err(|error| typed(error, Phase::Read))
    };
    let version = within(LOOKUP_TIMEOUT, look_up).await?;
    if version >= current() {
        return check(version, schema);
    }
    let migrate = async {
        let mut session = pool.session().await?;
        let version = migrate(session.connection()?, schema).await;
        session.end(version).map_err(|error| typed(error, Phase::Read))
    };
    let version = within(MIGRATION_TIMEOUT, migrate).await?;
    check(version, schema)
}

/// Whether `schema`, a quoted name, has the version of this code.
pub(crate) async fn is_current(connection: &mut PgConnection, schema: &str) -> Result<bool> {
    let version = version_of(connection, schema).await.map_err(|error| typed(error, Phase::Read))?;
    if version > current() { check(version, schema).map(|()| true) } else { Ok(version == current()) }
}

fn current() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

fn check(version: i32, schema: &str) -> Result<()> {
    if version == current() {
        return Ok(());
    }
    let message = format!(
        "schema {schema} has version {version} and this program knows version {}: a newer program made it; \
         update this program, or set another schema for it",
        current()
    );
    Err(Error::config(message))
}

/// The version of the schema, or zero if there is none.
///
/// It reads the tables of the catalogue: `to_regclass` may answer from before the wait for the lock.
async fn version_of(connection: &mut PgConnection, schema: &str) -> Result<i32, sqlx::Error> {
    let exists: bool = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace \
         WHERE c.relname = 'migrations' AND n.nspname = $1)",
    )
    .bind(schema.trim_matches('"'))
    .fetch_one(&mut *connection)
    .await?;
    if !exists {
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
    // One process migrates; the others wait here and then find its work done.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('terrace migrations of ' || $1, 0))")
        .bind(schema)
        .execute(&mut *transaction)
        .await?;
    let from = version_of(&mut transaction, schema).await?;
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

/// CREATE SCHEMA IF NOT EXISTS would need the right to create even if the schema exists.
async fn create_schema(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    let exists: bool = sqlx::query_scalar("SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)")
        .bind(schema.trim_matches('"'))
        .fetch_one(&mut *connection)
        .await?;
    if !exists {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {schema}")))).await?;
    }
    let table = format!(
        "CREATE TABLE {schema}.migrations (version integer PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
    );
    connection.execute(sqlx::raw_sql(AssertSqlSafe(table))).await?;
    Ok(())
}

fn tables() -> String {
    [
        include_str!("../sql/tables.sql"),
        include_str!("../sql/functions.sql"),
        include_str!("../sql/operators.sql"),
    ]
    .join("\n")
}

/// The outbox, and the operations that write to it.
fn outbox() -> String {
    let apply = include_str!("../sql/apply.sql");
    let store = apply.replace("{role}", "store").replace("{table}", "records").replace("{store}", "true");
    let cache =
        apply.replace("{role}", "cache").replace("{table}", "cache_entries").replace("{store}", "false");
    [include_str!("../sql/outbox.sql"), &store, &cache].join("\n")
}

/// Triggers for tables of the application.
fn watches() -> String {
    include_str!("../sql/watch.sql").to_owned()
}

/// The keep-alives of the holders of leases, for the processes that wait for them.
fn lease_signs() -> String {
    include_str!("../sql/lease_signs.sql").to_owned()
}
