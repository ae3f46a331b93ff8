//! The options of a namespace, as earlier runs of the program left them in the file.

use sqlx::{Row, SqliteConnection};
use terrace_tier::{Error, ErrorKind, Namespace, Result, Role};

use crate::error::SqlResult;

/// Stores the options of `namespace` in its row `id`, or returns the difference that forbids it.
///
/// A higher schema number is a declared change of the value type and takes effect. Any other
/// difference means that the same name is used for something else.
pub(crate) async fn check(
    connection: &mut SqliteConnection,
    namespace: &Namespace,
    id: i64,
) -> SqlResult<Result<()>> {
    let other_role: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM spaces WHERE namespace = ? AND role <> ? AND level IS NOT NULL",
    )
    .bind(&namespace.name)
    .bind(role_name(namespace.role))
    .fetch_one(&mut *connection)
    .await?;
    if other_role > 0 {
        return Ok(Err(in_use(namespace, "in the other role (cache or store)")));
    }
    let row = sqlx::query("SELECT level, value_schema, value_shape FROM spaces WHERE id = ?")
        .bind(id)
        .fetch_one(&mut *connection)
        .await?;
    let (stored_level, stored_schema, stored_shape): (Option<String>, Option<i64>, Option<i64>) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (schema, shape) = (i64::from(namespace.schema), namespace.shape.cast_signed());
    if stored_level.is_some_and(|stored| stored != namespace.level.name()) {
        return Ok(Err(in_use(namespace, "with another level")));
    }
    if stored_schema.is_some_and(|stored| stored > schema) {
        return Ok(Err(in_use(namespace, "with a higher schema number, by a newer program")));
    }
    if stored_schema == Some(schema) && stored_shape != Some(shape) {
        return Ok(Err(in_use(namespace, "with another value type of the same schema number")));
    }
    sqlx::query("UPDATE spaces SET level = ?, value_schema = ?, value_shape = ? WHERE id = ?")
        .bind(namespace.level.name())
        .bind(schema)
        .bind(shape)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(Ok(()))
}

fn in_use(namespace: &Namespace, how: &str) -> Error {
    let message = format!(
        "namespace {:?} of this file was used {how}: give this cache another name, or raise its schema \
         number where the value type changed",
        namespace.name
    );
    Error::new(ErrorKind::NamespaceInUse, message)
}

/// The role as the file stores it.
pub(crate) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Cache => "cache",
        Role::Store => "store",
    }
}
