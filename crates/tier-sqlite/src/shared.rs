//! The state that all tiers of one handle share.

use std::sync::Arc;

use terrace_tier::{Clock, NamespaceRegistry, Result};
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
}

impl Shared {
    pub(crate) fn new(location: Location, clock: Clock) -> Self {
        Self {
            location,
            clock,
            connections: OnceCell::new(),
            cleared: Arc::new(Notify::new()),
            namespaces: NamespaceRegistry::default(),
        }
    }

    /// The open database; the first call opens it.
    pub(crate) async fn connections(self: &Arc<Self>) -> Result<&Connections> {
        self.connections
            .get_or_try_init(async || {
                let connections = Arc::new(Connections::open(&self.location).await?);
                // The cleaner must not keep the handle alive, since the handle holds the file's lock.
                let namespaces = self.namespaces.clone();
                clean::start(&connections, self.clock.clone(), Arc::clone(&self.cleared), namespaces);
                Ok(connections)
            })
            .await
            .map(AsRef::as_ref)
    }
}
