//! The library's own schema: the first process that needs it makes or upgrades it.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use terrace_tier::{Error, ErrorKind, Finding, FindingTopic, Result};

use super::{
    pool::Pool,
    timeout::{LOOKUP_TIMEOUT, within},
};
use crate::{
    doctor::{OLDEST_VERSION, too_old},
    error::Phase,
    sql::script::{self, CURRENT_VERSION},
};

/// Many processes may wait for the one that migrates.
const MIGRATION_TIMEOUT: Duration = Duration::from_secs(60);

/// What a database has of the library's schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SchemaState {
    /// Zero if there is none.
    pub(crate) version: i32,
    /// Whether this role may SELECT from the tables that reads use.
    pub(crate) may_select: bool,
    /// The version of the server, as `server_version_num` says it.
    server_version: i32,
}

/// Brings `schema`, a quoted name, to the version of this code.
pub(crate) async fn prepare(pool: &Pool, schema: &str) -> Result<SchemaState> {
    let look_up = async {
        let mut session = pool.session().await?;
        let state = state_of(session.connection()?, schema).await;
        pool.typed(session.end(state), Phase::Read)
    };
    let state = within(LOOKUP_TIMEOUT, look_up).await?;
    if state.server_version < OLDEST_VERSION {
        return Err(too_old(state.server_version));
    }
    if state.version >= CURRENT_VERSION {
        return check(state, schema);
    }
    let migrate = async {
        let mut session = pool.session().await?;
        let state = migrate(session.connection()?, schema).await;
        pool.typed(session.end(state), Phase::Read)
    };
    let migrated = within(MIGRATION_TIMEOUT, migrate).await;
    check(migrated.map_err(|error| cannot_migrate(error, state.version, schema))?, schema)
}

/// The state of `schema`, a quoted name, if its version is that of this code.
pub(crate) async fn current(
    pool: &Pool,
    connection: &mut PgConnection,
    schema: &str,
) -> Result<Option<SchemaState>> {
    let state = pool.typed(state_of(connection, schema).await, Phase::Read)?;
    if state.version < CURRENT_VERSION { Ok(None) } else { check(state, schema).map(Some) }
}

fn check(state: SchemaState, schema: &str) -> Result<SchemaState> {
    if state.version == CURRENT_VERSION {
        return Ok(state);
    }
    let cause = format!(
        "schema {schema} has version {} and this program knows version {CURRENT_VERSION}: a newer program made it",
        state.version
    );
    let cure = "update this program, or set another schema for it";
    Err(Finding::stops(FindingTopic::Schema, cause, cure).into_error(ErrorKind::Config))
}

/// The error for a role that may not make or upgrade the schema, and for a server that takes no writes.
fn cannot_migrate(error: Error, version: i32, schema: &str) -> Error {
    if error.kind() != ErrorKind::Denied {
        return error;
    }
    let cause = match version {
        0 => format!("schema {schema} is not made yet, and this role may not make it"),
        _ => format!(
            "schema {schema} has version {version}, this program needs version {CURRENT_VERSION}, and this \
             role may not upgrade it"
        ),
    };
    let cure = "call `Postgres::prepare` once as the owner of the database, or as a role with CREATE on the \
                database (a new schema may also be made by the script of `Postgres::schema_sql`); then let \
                the owner run SELECT grant_use_to('role') in that schema for this role";
    Finding::stops(FindingTopic::Schema, cause, cure).into_error(ErrorKind::Denied).with_source(error)
}

/// It reads the tables of the catalogue: `to_regclass` may answer from before the wait for the lock.
async fn state_of(connection: &mut PgConnection, schema: &str) -> Result<SchemaState, sqlx::Error> {
    let (has_table, has_function, may_select, server_version): (bool, bool, bool, i32) = sqlx::query_as(
        "SELECT EXISTS (SELECT FROM pg_class c WHERE c.relname = 'migrations' AND c.relnamespace = n.oid), \
             EXISTS (SELECT FROM pg_proc p WHERE p.proname = 'schema_version' AND p.pronamespace = n.oid), \
             coalesce((SELECT bool_and(has_table_privilege(c.oid, 'SELECT')) FROM pg_class c \
                 WHERE c.relnamespace = n.oid AND c.relname IN \
                     ('spaces', 'records', 'cache_entries', 'outbox', 'outbox_snapshots')), false), \
             current_setting('server_version_num')::integer \
         FROM (SELECT (SELECT oid FROM pg_namespace WHERE nspname = $1) AS oid) n",
    )
    .bind(schema.trim_matches('"'))
    .fetch_one(&mut *connection)
    .await?;
    let version = match (has_table, has_function) {
        (false, _) => return Ok(SchemaState { server_version, ..SchemaState::default() }),
        (true, true) => format!("SELECT {schema}.schema_version()"),
        (true, false) => format!("SELECT coalesce(max(version), 0) FROM {schema}.migrations"),
    };
    let version = sqlx::query_scalar(AssertSqlSafe(version)).fetch_one(connection).await?;
    Ok(SchemaState { version, may_select, server_version })
}

async fn migrate(connection: &mut PgConnection, schema: &str) -> Result<SchemaState, sqlx::Error> {
    let mut transaction = connection.begin().await?;
    let seconds = MIGRATION_TIMEOUT.as_secs();
    let wait = format!(
        "SET LOCAL statement_timeout = '{seconds}s'; SET LOCAL lock_timeout = 0; \
         SET LOCAL client_min_messages = 'warning'"
    );
    transaction.execute(sqlx::raw_sql(AssertSqlSafe(wait))).await?;
    // One process migrates; the others wait here and then find its work done.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('terrace migrations of ' || $1, 0))")
        .bind(schema)
        .execute(&mut *transaction)
        .await?;
    let from = state_of(&mut transaction, schema).await?.version;
    if from == 0 {
        create_schema(&mut transaction, schema).await?;
    }
    if from < CURRENT_VERSION {
        let text = script::migration(schema, from);
        transaction.execute(sqlx::raw_sql(AssertSqlSafe(text))).await?;
    }
    let state = state_of(&mut transaction, schema).await?;
    transaction.commit().await?;
    Ok(state)
}

/// Makes the table of copies of `schema`, a quoted name, a logged one, unless it is. Processes that begin at the same
/// time wait for the one that rewrites it.
pub(crate) async fn log_copies(pool: &Pool, schema: &str) -> Result<()> {
    let work = async {
        let mut session = pool.session().await?;
        let logged = set_logged(session.connection()?, schema).await;
        pool.typed(session.end(logged), Phase::Read)
    };
    within(MIGRATION_TIMEOUT, work).await.map_err(|error| match error.kind() {
        ErrorKind::Denied => {
            let cause =
                format!("this role may not make the copies in schema {schema} survive a crash of the server");
            let cure = "let the owner of the schema run ALTER TABLE terrace.cache_entries SET LOGGED";
            Finding::stops(FindingTopic::Permission, cause, cure)
                .into_error(ErrorKind::Denied)
                .with_source(error)
        }
        _ => error,
    })
}

async fn set_logged(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    let is_unlogged = format!(
        "SELECT relpersistence = 'u' FROM pg_class WHERE oid = '{}.cache_entries'::regclass",
        schema.replace('\'', "''")
    );
    if !sqlx::query_scalar::<_, bool>(AssertSqlSafe(is_unlogged.clone())).fetch_one(&mut *connection).await? {
        return Ok(());
    }
    let mut transaction = connection.begin().await?;
    let seconds = MIGRATION_TIMEOUT.as_secs();
    let wait = format!("SET LOCAL statement_timeout = '{seconds}s'; SET LOCAL lock_timeout = 0");
    transaction.execute(sqlx::raw_sql(AssertSqlSafe(wait))).await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('terrace migrations of ' || $1, 0))")
        .bind(schema)
        .execute(&mut *transaction)
        .await?;
    if sqlx::query_scalar::<_, bool>(AssertSqlSafe(is_unlogged)).fetch_one(&mut *transaction).await? {
        let alter = format!("ALTER TABLE {schema}.cache_entries SET LOGGED");
        transaction.execute(sqlx::raw_sql(AssertSqlSafe(alter))).await?;
    }
    transaction.commit().await
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
    Ok(())
}
