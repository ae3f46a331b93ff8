//! The epochs that one process has heard of a [`Fake`](super::Fake).
//!
//! A handle of Redis knows the epoch of its last request, and reads by it for 100 ms. So does a fake: a
//! fake that knew every epoch at once would hide what a late one does.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use terrace_tier::{Epoch, Namespace, Timestamp};

/// How long a process reads by an epoch before it asks for the epoch again.
const MAX_AGE: Duration = Duration::from_millis(100);

/// The namespace and tenant of an epoch.
type Scope = (String, Option<String>);

/// The last epoch of each namespace and tenant, and when its age ends.
#[derive(Clone, Default)]
pub(crate) struct HeardEpochs(Arc<Mutex<HashMap<Scope, (Epoch, Timestamp)>>>);

impl HeardEpochs {
    /// The epoch by which a read at `now` judges a copy; `None` where the read asks the server.
    pub(super) fn get(&self, scope: &Scope, now: Timestamp) -> Option<Epoch> {
        self.0.lock().get(scope).filter(|(_, until)| now < *until).map(|(epoch, _)| *epoch)
    }

    pub(super) fn record(&self, scope: Scope, epoch: Epoch, now: Timestamp) {
        self.0.lock().insert(scope, (epoch, now.after(MAX_AGE)));
    }

    /// Forgets the epochs that a clear of `tenant` has ended; without a tenant, those of all tenants.
    pub(super) fn forget(&self, namespace: &str, tenant: Option<&str>) {
        self.0
            .lock()
            .retain(|(name, other), _| name != namespace || (tenant.is_some() && other.as_deref() != tenant));
    }

    pub(super) fn forget_all(&self) {
        self.0.lock().clear();
    }
}

pub(super) fn scope(namespace: &Namespace) -> Scope {
    (namespace.name.clone(), namespace.tenant.clone())
}
