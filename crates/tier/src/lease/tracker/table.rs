//! Leases by token, and the task that serves them while there are any.

use std::collections::BTreeMap;

use tokio::{runtime::Handle, task::JoinHandle};

use crate::Token;

pub(super) struct Table<T> {
    /// In an order of their own: what is asked of a server, and who is told first, is the same each time.
    pub(super) entries: BTreeMap<Token, T>,
    /// `None` once the task has seen that the table is empty, and ends.
    pub(super) task: Option<JoinHandle<()>>,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), task: None }
    }
}

impl<T> Table<T> {
    /// Starts the task that serves the table, if none runs: the first one, or in the place of one
    /// whose runtime has ended.
    pub(super) fn serve<F: Future<Output = ()> + Send + 'static>(&mut self, task: impl FnOnce() -> F) {
        if self.task.as_ref().is_none_or(JoinHandle::is_finished) {
            self.task = Handle::try_current().ok().map(|runtime| runtime.spawn(task()));
        }
    }
}
