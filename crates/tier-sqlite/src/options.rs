//! The options of a namespace, as earlier runs of the program left them in the file.

use sqlx::SqliteConnection;
use terrace_tier::{Error, ErrorKind, Namespace, Result, Role};

use crate::error::SqlResult;

/// Stores the options of `namespace` in its row `id`, or returns the difference that forbids it.
///
/// The schema number and shape are stored for operators: the value type of a program may have changed.
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
    let stored: Option<String> = sqlx::query_scalar("SELECT level FROM spaces WHERE id = ?")
        .bind(id)
        .fetch_one(&mut *connection)
        .await?;
    if stored.is_some_and(|stored| stored != namespace.level.name()) {
        return Ok(Err(in_use(namespace, "with another level")));
    }
    sqlx::query("UPDATE spaces SET level = ?, value_schema = ?, value_shape = ? WHERE id = ?")
        .bind(namespace.level.name())
        .bind(i64::from(namespace.schema))
        .bind(namespace.shape.cast_signed())
        .bind(id)
        .execute(connection)
        .await?;
    Ok(Ok(()))
}

fn in_use(namespace: &Namespace, how: &str) -> Error {
    let message =
        format!("namespace {:?} of this file was used {how}: give this cache another name", namespace.name);
    Error::new(ErrorKind::NamespaceInUse, message)
}

/// The role as the file stores it.
pub(crate) const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Cache => "cache",
        Role::Store => "store",
    }
}
