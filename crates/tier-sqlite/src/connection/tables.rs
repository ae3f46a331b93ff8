//! The tables of the file, and the header that says which program made them.

use sqlx::{Connection, Executor, SqliteConnection};

/// In the file's header: the program that made the file ("trce").
const APPLICATION_ID: i32 = 0x7472_6365;
/// In the file's header: the version of the tables.
pub(super) const VERSION: i32 = 1;

/// `spaces` holds one row for each namespace, tenant and role. Its options (level, schema and shape)
/// are NULL until the first `ready` sets them.
///
/// `cells` holds one row for each key, with the cell as `terrace_tier::Cell` encodes it. After
/// `drop_after` a cleaner may delete the row; NULL means never.
const TABLES: &str = "
CREATE TABLE spaces (
    id INTEGER PRIMARY KEY,
    namespace TEXT NOT NULL,
    tenant TEXT,
    role TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    level TEXT,
    value_schema INTEGER,
    value_shape INTEGER
);
CREATE UNIQUE INDEX spaces_by_name ON spaces (namespace, role, ifnull(tenant, ''), tenant IS NULL);
CREATE TABLE cells (
    space INTEGER NOT NULL,
    digest BLOB NOT NULL,
    key BLOB NOT NULL,
    epoch INTEGER NOT NULL,
    drop_after INTEGER,
    cell BLOB NOT NULL,
    PRIMARY KEY (space, digest)
);
CREATE INDEX cells_by_end ON cells (drop_after) WHERE drop_after IS NOT NULL;
";

/// `fronts` holds the write-behind front of each namespace that has had one. Files that were made before have it
/// from their next opening on.
const FRONTS: &str = "
CREATE TABLE IF NOT EXISTS fronts (
    namespace TEXT PRIMARY KEY,
    id INTEGER NOT NULL,
    nonce INTEGER NOT NULL,
    term INTEGER NOT NULL,
    until INTEGER NOT NULL
);
";

/// Which program made the tables of a database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// This library, in this version of the tables.
    Terrace(i32),
    /// Another program.
    Other,
}

/// Makes the tables in an empty database. Returns which program made the tables.
pub(super) async fn prepare(connection: &mut SqliteConnection) -> Result<Owner, sqlx::Error> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let application: i32 = sqlx::query_scalar("PRAGMA application_id").fetch_one(&mut *transaction).await?;
    let version: i32 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *transaction).await?;
    let tables: i64 =
        sqlx::query_scalar("SELECT count(*) FROM sqlite_schema").fetch_one(&mut *transaction).await?;
    if application == APPLICATION_ID {
        if version == VERSION {
            transaction.execute(sqlx::raw_sql(FRONTS)).await?;
            transaction.commit().await?;
        }
        return Ok(Owner::Terrace(version));
    }
    if tables > 0 {
        return Ok(Owner::Other);
    }
    transaction.execute(sqlx::raw_sql(TABLES)).await?;
    transaction.execute(sqlx::raw_sql(FRONTS)).await?;
    let header = format!("PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}");
    transaction.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(header))).await?;
    transaction.commit().await?;
    Ok(Owner::Terrace(VERSION))
}
