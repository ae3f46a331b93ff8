//! The loaders of the rows.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sqlx::PgPool;
use tokio::sync::{Mutex, Notify, oneshot};

use crate::{
    Result,
    data::{KEYS, User, key},
};

/// What gives the value of a key that no tier has. One type, so that each peer is compiled once for all loaders.
#[derive(Clone, Debug)]
pub enum Loader {
    /// Answers at once.
    Instant,
    /// Takes [`SLOW`], and counts the loads.
    Slow(Arc<AtomicUsize>),
    /// Selects one of the rows of a table by its key.
    Select(PgPool),
    /// Says that it runs, and answers with the old value when it is told to.
    Held(Arc<Held>),
}

/// How long a slow load takes.
pub const SLOW: Duration = Duration::from_millis(50);

/// The statement of [`Loader::Select`], which sqlx prepares once for each connection.
pub const SELECT: &str = "SELECT body FROM users_raw WHERE id = $1";

/// The number in the value from before a change.
pub const OLD: usize = 1;

/// A load that is held.
#[derive(Debug)]
pub struct Held {
    began: Mutex<Option<oneshot::Sender<()>>>,
    go_on: Notify,
}

impl Held {
    /// A load, and what ends when it runs.
    #[must_use]
    pub fn new() -> (Arc<Self>, oneshot::Receiver<()>) {
        let (began, runs) = oneshot::channel();
        (Arc::new(Self { began: Mutex::new(Some(began)), go_on: Notify::new() }), runs)
    }

    /// Lets the load end.
    pub fn go_on(&self) {
        self.go_on.notify_one();
    }

    async fn run(&self) {
        if let Some(began) = self.began.lock().await.take() {
            // Without a receiver nobody waits for the load to begin.
            let _sent = began.send(());
            self.go_on.notified().await;
        }
    }
}

impl Loader {
    /// Loads the user of this key.
    ///
    /// # Errors
    /// The error of the database.
    pub async fn load(self, n: usize) -> Result<User> {
        match self {
            Self::Instant => Ok(User::new(n)),
            Self::Slow(loads) => {
                loads.fetch_add(1, Ordering::AcqRel);
                tokio::time::sleep(SLOW).await;
                Ok(User::new(n))
            }
            // In a box, since its future would make those of the other loaders large.
            Self::Select(pool) => Box::pin(select(pool, n)).await,
            Self::Held(held) => {
                held.run().await;
                Ok(User::new(OLD))
            }
        }
    }

    /// The number in the user of this key.
    #[must_use]
    pub fn number(&self, n: usize) -> u64 {
        match self {
            Self::Instant | Self::Slow(_) => n as u64,
            Self::Select(_) => (n % KEYS) as u64,
            Self::Held(_) => OLD as u64,
        }
    }
}

async fn select(pool: PgPool, n: usize) -> Result<User> {
    let body: Vec<u8> = sqlx::query_scalar(SELECT).bind(key(n % KEYS)).fetch_one(&pool).await?;
    User::decode(&body)
}
