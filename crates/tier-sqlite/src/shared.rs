//! What the tiers of one handle share.

use std::sync::Arc;

use terrace_tier::{Clock, NamespaceRegistry, Result};
use tokio::sync::{Notify, OnceCell};

use crate::{
    clean,
    file::{Connections, Place},
};

/// What all tiers of a handle share.
pub(crate) struct Shared {
    pub(crate) place: Place,
    pub(crate) clock: Clock,
    connections: OnceCell<Arc<Connections>>,
    /// Wakes the cleaner after a clear.
    pub(crate) cleared: Arc<Notify>,
    pub(crate) spaces: NamespaceRegistry,
}

impl Shared {
    pub(crate) fn new(place: Place, clock: Clock) -> Self {
        Self {
            place,
            clock,
            connections: OnceCell::new(),
            cleared: Arc::new(Notify::new()),
            spaces: NamespaceRegistry::default(),
        }
    }

    /// The open database; opened by the first call.
    pub(crate) async fn connections(self: &Arc<Self>) -> Result<&Connections> {
        self.connections
            .get_or_try_init(async || {
                let connections = Arc::new(Connections::open(&self.place).await?);
                // Without a hold on the handle, which holds the file's lock.
                clean::start(&connections, self.clock.clone(), Arc::clone(&self.cleared));
                Ok(connections)
            })
            .await
            .map(AsRef::as_ref)
    }
}
