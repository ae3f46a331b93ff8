//! A namespace of one tenant in one role: its number in the database and the terms of its use.

use std::sync::Arc;

use sqlx::{PgConnection, Row};
use terrace_tier::{Epoch, Error, ErrorKind, Namespace, NamespaceGuard, Result, Role};

use crate::{
    error::During,
    number::signed,
    once::Once,
    setup::{LOOK_TIMEOUT, within},
    shared::Shared,
    statements::Statements,
    tenant::tenant_name,
};

/// A [`Namespace`] as the database knows it.
pub(crate) struct NamespaceRow {
    pub(crate) space: Namespace,
    pub(crate) shared: Arc<Shared>,
    _claim: NamespaceGuard,
    id: Once<i32>,
}

impl NamespaceRow {
    pub(crate) fn new(space: Namespace, shared: Arc<Shared>, claim: NamespaceGuard) -> Self {
        Self { space, shared, _claim: claim, id: Once::new() }
    }

    /// The number of the space; the schema is made and the space entered where needed.
    pub(crate) async fn id(&self) -> Result<i32> {
        match self.id.peek() {
            Some(id) => Ok(id),
            // Boxed: what happens once must not make every call's future large.
            None => Box::pin(self.entered()).await,
        }
    }

    /// The number of the space, if it was asked for before.
    pub(crate) fn known_id(&self) -> Option<i32> {
        self.id.peek()
    }

    async fn entered(&self) -> Result<i32> {
        let (space, shared) = (self.space.clone(), Arc::clone(&self.shared));
        let work = || async move {
            shared.prepared().await?;
            let entering = async {
                let mut session = shared.session().await?;
                let found = enter(session.connection()?, &shared.statements, &space).await;
                shared.note(session.end(found), During::Read)
            };
            within(LOOK_TIMEOUT, entering).await.map(|found| found.id)
        };
        self.id.get(work).await
    }

    /// The typed error for `error`; what is not in the database any more is made again next time.
    pub(crate) fn note<T>(&self, result: Result<T, sqlx::Error>, during: During) -> Result<T> {
        if result.as_ref().err().is_some_and(crate::error::misses_schema) {
            self.id.forget();
        }
        self.shared.note(result, during)
    }

    /// Checks that all processes use the namespace on the same terms.
    pub(crate) async fn check_terms(&self) -> Result<()> {
        let id = self.id().await?;
        within(LOOK_TIMEOUT, self.agree_on_terms(id)).await
    }

    async fn agree_on_terms(&self, id: i32) -> Result<()> {
        let mut session = self.shared.session().await?;
        let connection = session.connection()?;
        let statements = &self.shared.statements;
        let agreed = agree(connection, statements, &self.space, id).await;
        self.note(session.end(agreed), During::Read)?
    }
}

/// A row of the table of spaces.
struct Found {
    id: i32,
    level: Option<String>,
    schema: Option<i64>,
    shape: Option<i64>,
}

async fn enter(
    connection: &mut PgConnection,
    statements: &Statements,
    space: &Namespace,
) -> Result<Found, sqlx::Error> {
    if let Some(found) = find(connection, statements, space).await? {
        return Ok(found);
    }
    sqlx::query(statements.add_space.clone())
        .bind(&space.name)
        .bind(tenant_name(space.tenant.as_deref()))
        .bind(role(space.role))
        .bind(signed(Epoch::random().as_u64()))
        .bind(space.level.name())
        .bind(i64::from(space.schema))
        .bind(signed(space.shape))
        .execute(&mut *connection)
        .await?;
    find(connection, statements, space).await?.ok_or(sqlx::Error::RowNotFound)
}

async fn find(
    connection: &mut PgConnection,
    statements: &Statements,
    space: &Namespace,
) -> Result<Option<Found>, sqlx::Error> {
    let row = sqlx::query(statements.find_space.clone())
        .bind(&space.name)
        .bind(tenant_name(space.tenant.as_deref()))
        .bind(role(space.role))
        .fetch_optional(connection)
        .await?;
    row.map(|row| {
        Ok(Found {
            id: row.try_get(0)?,
            level: row.try_get(1)?,
            schema: row.try_get(2)?,
            shape: row.try_get(3)?,
        })
    })
    .transpose()
}

/// A higher schema number is a declared change of the type, and takes over; anything else that
/// differs is another use of the same name.
async fn agree(
    connection: &mut PgConnection,
    statements: &Statements,
    space: &Namespace,
    id: i32,
) -> Result<Result<()>, sqlx::Error> {
    let other = sqlx::query(statements.other_role.clone())
        .bind(&space.name)
        .bind(role(space.role))
        .fetch_optional(&mut *connection)
        .await?;
    if other.is_some() {
        return Ok(Err(in_use(space, "in the other role (cache or store)")));
    }
    let Some(found) = find(connection, statements, space).await? else {
        return Ok(Err(in_use(space, "and was forgotten while it was checked")));
    };
    let schema = i64::from(space.schema);
    let differs = match (found.level.as_deref(), found.schema, found.shape) {
        (Some(kept), _, _) if kept != space.level.name() => Some("with another level"),
        (Some(_), Some(kept), _) if kept > schema => Some("with a higher schema number, by a newer program"),
        (Some(_), Some(kept), Some(shape)) if kept == schema && shape != signed(space.shape) => {
            Some("with another value type of the same schema number")
        }
        (Some(_), Some(kept), _) if kept == schema => return Ok(Ok(())),
        _ => None,
    };
    if let Some(how) = differs {
        return Ok(Err(in_use(space, how)));
    }
    sqlx::query(statements.set_terms.clone())
        .bind(id)
        .bind(space.level.name())
        .bind(schema)
        .bind(signed(space.shape))
        .execute(connection)
        .await?;
    Ok(Ok(()))
}

/// The error of a namespace used on other terms.
fn in_use(space: &Namespace, how: &str) -> Error {
    let message = format!(
        "namespace {:?} is used {how}: give this cache another name, raise its schema number where the \
         value type changed, or run SELECT forget_terms('...') in the library's schema where the old use ended",
        space.name
    );
    Error::new(ErrorKind::NamespaceInUse, message)
}

const fn role(role: Role) -> &'static str {
    match role {
        Role::Cache => "cache",
        Role::Store => "store",
    }
}
