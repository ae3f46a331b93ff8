//! The state that all tiers of one handle share.

use std::sync::Arc;

use terrace_tier::{Clock, NamespaceRegistry, Result, runtime::BackgroundTask};
use tokio::sync::{Notify, OnceCell};

use crate::{
    clean,
    connection::{Connections, Location},
};

/// The state that all tiers of one handle share.
pub(crate) struct Shared {
    pub(crate) location: Location,
    pub(crate) clock: Clock,
    connections: OnceCell<Arc<Connections>>,
    /// Wakes the cleaner after a clear.
    pub(crate) cleared: Arc<Notify>,
    pub(crate) namespaces: NamespaceRegistry,
    /// Deletes dead rows. It ends with its runtime, and the next call starts it again.
    cleaner: BackgroundTask,
}

impl Shared {
    pub(crate) fn new(location: Location, clock: Clock) -> Self {
        Self {
            location,
            clock,
            connections: OnceCell::new(),
            cleared: Arc::new(Notify::new()),
            namespaces: NamespaceRegistry::default(),
            cleaner: BackgroundTask::default(),
        }
    }

    /// The open database; the first call opens it.
    pub(crate) async fn connections(self: &Arc<Self>) -> Result<&Connections> {
        let open = async || Connections::open(&self.location).await.map(Arc::new);
        let connections = self.connections.get_or_try_init(open).await?;
        // The cleaner must not keep the handle alive, since the handle holds the file's lock.
        self.cleaner.start(|| {
            let namespaces = self.namespaces.clone();
            clean::run(Arc::downgrade(connections), self.clock.clone(), Arc::clone(&self.cleared), namespaces)
        });
        Ok(connections)
    }
}
