//! The terms on which a namespace is used, as earlier runs of the program left them in the file.

use sqlx::{Row, SqliteConnection};
use terrace_tier::{Error, ErrorKind, Namespace, Result, Role};

/// Takes the terms of `space` for its row `id`, or tells what is against it. A higher schema number
/// is a declared change of the type, and takes over; anything else that differs is another use of the
/// same name.
pub(crate) async fn agree(
    connection: &mut SqliteConnection,
    space: &Namespace,
    id: i64,
) -> std::result::Result<Result<()>, sqlx::Error> {
    let other_role: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM spaces WHERE namespace = ? AND role <> ? AND level IS NOT NULL",
    )
    .bind(&space.name)
    .bind(role(space.role))
    .fetch_one(&mut *connection)
    .await?;
    if other_role > 0 {
        return Ok(Err(in_use(space, "in the other role (cache or store)")));
    }
    let row = sqlx::query("SELECT level, value_schema, value_shape FROM spaces WHERE id = ?")
        .bind(id)
        .fetch_one(&mut *connection)
        .await?;
    let (kept_level, kept_schema, kept_shape): (Option<String>, Option<i64>, Option<i64>) =
        (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (schema, shape) = (i64::from(space.schema), space.shape.cast_signed());
    if kept_level.is_some_and(|kept| kept != space.level.name()) {
        return Ok(Err(in_use(space, "with another level")));
    }
    if kept_schema.is_some_and(|kept| kept > schema) {
        return Ok(Err(in_use(space, "with a higher schema number, by a newer program")));
    }
    if kept_schema == Some(schema) && kept_shape != Some(shape) {
        return Ok(Err(in_use(space, "with another value type of the same schema number")));
    }
    sqlx::query("UPDATE spaces SET level = ?, value_schema = ?, value_shape = ? WHERE id = ?")
        .bind(space.level.name())
        .bind(schema)
        .bind(shape)
        .bind(id)
        .execute(connection)
        .await?;
    Ok(Ok(()))
}

fn in_use(space: &Namespace, how: &str) -> Error {
    let message = format!(
        "namespace {:?} of this file was used {how}: give this cache another name, or raise its schema \
         number where the value type changed",
        space.name
    );
    Error::new(ErrorKind::NamespaceInUse, message)
}

/// The role as the file names it.
pub(crate) const fn role(role: Role) -> &'static str {
    match role {
        Role::Cache => "cache",
        Role::Store => "store",
    }
}
