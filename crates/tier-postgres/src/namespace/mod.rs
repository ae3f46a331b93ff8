//! A namespace of one tenant in one role, as the database knows it.

mod options;
pub(crate) mod tenant;

use std::sync::{Arc, atomic::Ordering};

use terrace_tier::{Finding, Namespace, NamespaceGuard, Result};

use crate::{
    connection::{
        once::Once,
        shared::Shared,
        timeout::{LOOKUP_TIMEOUT, within},
    },
    doctor,
    error::{Phase, misses_schema},
};

/// The row of a [`Namespace`] in the table `spaces`.
pub(crate) struct NamespaceRow {
    pub(crate) namespace: Namespace,
    pub(crate) shared: Arc<Shared>,
    _guard: NamespaceGuard,
    id: Once<i32>,
}

impl NamespaceRow {
    pub(crate) fn new(namespace: Namespace, shared: Arc<Shared>, guard: NamespaceGuard) -> Self {
        Self { namespace, shared, _guard: guard, id: Once::new() }
    }

    /// The id of the row. Makes the schema and the row if they do not exist.
    pub(crate) async fn id(&self) -> Result<i32> {
        match self.id.peek() {
            Some(id) => Ok(id),
            // Boxed, so that the usual call does not carry this future's size.
            None => Box::pin(self.look_up_id()).await,
        }
    }

    /// The id of the row, if a call has looked it up.
    pub(crate) fn known_id(&self) -> Option<i32> {
        self.id.peek()
    }

    async fn look_up_id(&self) -> Result<i32> {
        let (namespace, shared) = (self.namespace.clone(), Arc::clone(&self.shared));
        let work = || async move {
            shared.prepare_schema().await?;
            let look_up = async {
                let mut session = shared.pool.session().await?;
                let id =
                    options::find_or_insert(session.connection()?, shared.statements(), &namespace).await;
                shared.typed(session.end(id), Phase::Read)
            };
            within(LOOKUP_TIMEOUT, look_up).await
        };
        self.id.get(work).await
    }

    /// Turns the client's error into a typed one. After an error that says that the schema or the row is
    /// missing, the next call makes it again.
    pub(crate) fn typed<T>(&self, result: Result<T, sqlx::Error>, phase: Phase) -> Result<T> {
        if result.as_ref().err().is_some_and(misses_schema) {
            self.id.forget();
        }
        self.shared.typed(result, phase)
    }

    /// Looks at the server, checks that all processes use the namespace with the same options, and tries what
    /// the cache will do.
    pub(crate) async fn look_at_all(&self) -> Result<Vec<Finding>> {
        let shared = &self.shared;
        let mut findings =
            within(LOOKUP_TIMEOUT, doctor::look_at_server(shared, self.namespace.role)).await?;
        if !shared.has_no_pooler.load(Ordering::Relaxed) {
            let found = within(LOOKUP_TIMEOUT, doctor::look_for_pooler(shared)).await?;
            shared.has_no_pooler.store(found.is_none(), Ordering::Relaxed);
            findings.extend(found);
        }
        let id = self.id().await?;
        let check = async {
            let mut session = shared.pool.session().await?;
            let statements = shared.statements();
            let checked = options::check(session.connection()?, statements, &self.namespace, id).await;
            self.typed(session.end(checked), Phase::Read)?
        };
        within(LOOKUP_TIMEOUT, check).await?;
        within(LOOKUP_TIMEOUT, doctor::try_all(self, id)).await?;
        Ok(findings)
    }
}
