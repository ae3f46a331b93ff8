//! The options of a namespace in the table `spaces`, which all processes must share.

use sqlx::{PgConnection, Row};
use terrace_tier::{Epoch, Error, ErrorKind, Namespace, Result, Role};

use super::tenant::tenant_name;
use crate::sql::{numbers::signed, statements::Statements};

/// The id of a namespace, and the option that its first user stored.
struct StoredOptions {
    id: i32,
    level: Option<String>,
}

/// The id of the row of `namespace`, which is inserted if there is none.
pub(super) async fn find_or_insert(
    connection: &mut PgConnection,
    statements: &Statements,
    namespace: &Namespace,
) -> Result<i32, sqlx::Error> {
    if let Some(stored) = find(connection, statements, namespace).await? {
        return Ok(stored.id);
    }
    sqlx::query(statements.insert_namespace.clone())
        .bind(&namespace.name)
        .bind(tenant_name(namespace.tenant.as_deref()))
        .bind(role_name(namespace.role))
        .bind(signed(Epoch::random().as_u64()))
        .bind(namespace.level.name())
        .bind(i64::from(namespace.schema))
        .bind(signed(namespace.shape))
        .execute(&mut *connection)
        .await?;
    find(connection, statements, namespace).await?.map(|stored| stored.id).ok_or(sqlx::Error::RowNotFound)
}

/// Checks the stored options against the options of `namespace`, and stores those of a namespace that has
/// none. The schema number and shape of the first program are stored for operators: those of others may differ.
pub(super) async fn check(
    connection: &mut PgConnection,
    statements: &Statements,
    namespace: &Namespace,
    id: i32,
) -> Result<Result<()>, sqlx::Error> {
    let taken: bool = sqlx::query_scalar(statements.in_other_role.clone())
        .bind(&namespace.name)
        .bind(role_name(namespace.role))
        .fetch_one(&mut *connection)
        .await?;
    if taken {
        return Ok(Err(in_use(namespace, "is used in the other role (cache or store)")));
    }
    let Some(stored) = find(connection, statements, namespace).await? else {
        return Ok(Err(in_use(namespace, "was deleted from the database during this check")));
    };
    if stored.level.as_deref().is_some_and(|level| level != namespace.level.name()) {
        return Ok(Err(in_use(namespace, "is used with another level")));
    }
    if stored.level.is_some() {
        return Ok(Ok(()));
    }
    sqlx::query(statements.set_options.clone())
        .bind(id)
        .bind(namespace.level.name())
        .bind(i64::from(namespace.schema))
        .bind(signed(namespace.shape))
        .execute(connection)
        .await?;
    Ok(Ok(()))
}

async fn find(
    connection: &mut PgConnection,
    statements: &Statements,
    namespace: &Namespace,
) -> Result<Option<StoredOptions>, sqlx::Error> {
    let row = sqlx::query(statements.find_namespace.clone())
        .bind(&namespace.name)
        .bind(tenant_name(namespace.tenant.as_deref()))
        .bind(role_name(namespace.role))
        .fetch_optional(connection)
        .await?;
    row.map(|row| Ok(StoredOptions { id: row.try_get(0)?, level: row.try_get(1)? })).transpose()
}

/// The error for a namespace that is used with other options.
fn in_use(namespace: &Namespace, difference: &str) -> Error {
    let message = format!(
        "namespace {:?} {difference}: give this cache another name; or run SELECT forget_terms('...') in the \
         library's schema, if the old use has ended",
        namespace.name
    );
    Error::new(ErrorKind::NamespaceInUse, message)
}

const fn role_name(role: Role) -> &'static str {
    match role {
        Role::Cache => "cache",
        Role::Store => "store",
    }
}
