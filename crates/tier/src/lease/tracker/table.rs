//! Leases by token, and the task that serves them while there are any.

use std::collections::BTreeMap;

use tokio::{runtime::Handle, task::JoinHandle};

use crate::Token;

pub(super) struct Table<T> {
    /// Sorted, so that the server is asked and waiters are answered in the same order each time.
    pub(super) entries: BTreeMap<Token, T>,
    /// `None` once the task has seen an empty table and is about to end.
    pub(super) task: Option<JoinHandle<()>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), task: None }
    }
}

impl<T> Table<T> {
    /// Starts the task that serves the table, unless one runs. A task whose runtime has ended is replaced.
    pub(super) fn serve<F: Future<Output = ()> + Send + 'static>(&mut self, task: impl FnOnce() -> F) {
        if self.task.as_ref().is_none_or(JoinHandle::is_finished) {
            self.task = Handle::try_current().ok().map(|runtime| runtime.spawn(task()));
        }
    }
}
