//! The application: sessions that are read and changed. It names no tier.

use serde::{Deserialize, Serialize};
use terrace::{Cache, Cached, Level, Result, config::Stack};

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Session {
    pub(crate) visits: u32,
    /// What a session holds beside: a cart, settings, the last pages.
    pages: Vec<String>,
}

/// One instance of the application.
#[derive(Clone)]
pub(crate) struct Application {
    pub(crate) sessions: Cache<u64, Session>,
}

impl Application {
    /// Opens an instance on the stack of these settings.
    pub(crate) async fn open(settings: &str, namespace: &str) -> Result<Self> {
        let sessions = Stack::from_toml(settings)?.records(namespace)?.build()?;
        sessions.ready().await?;
        Ok(Self { sessions })
    }

    /// Makes the sessions of this many users, a hundred at a time.
    pub(crate) async fn sign_in_all(&self, users: u64) -> Result<()> {
        let session = |id: u64| {
            let pages = (0..10).map(|page| format!("/products/{id}/{page}")).collect();
            (id, Session { visits: 0, pages })
        };
        for first in (0..users).step_by(100) {
            for put in self.sessions.put_many((first..users.min(first + 100)).map(session)).await {
                put?;
            }
        }
        Ok(())
    }

    pub(crate) async fn read(&self, id: u64) -> Result<Option<Cached<Session>>> {
        self.sessions.get(&id).await
    }

    /// Counts a visit. If another instance has changed the session in between, the newest one is read from
    /// the store, and the change is tried again. Returns how often that happened.
    pub(crate) async fn visit(&self, id: u64) -> Result<u32> {
        let mut seen = self.read(id).await?;
        let mut retries = 0;
        while let Some(session) = seen {
            let changed = Session { visits: session.visits + 1, ..Session::clone(&session) };
            if self.sessions.replace(&id, session.served().version, changed).await? {
                break;
            }
            retries += 1;
            seen = self.sessions.with(Level::Strong).get(&id).await?;
        }
        Ok(retries)
    }
}
