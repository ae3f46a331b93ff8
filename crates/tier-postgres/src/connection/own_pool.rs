//! A pool that a lost server cannot hold up.
//!
//! sqlx's own pool waits in `acquire` until its timeout while the server refuses connections, and makes
//! one more round trip each time a connection comes back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{Connection, PgConnection, postgres::PgConnectOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::timeout::CONNECT_TIMEOUT;

/// The most time for an abandoned statement to end before its connection is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that was idle for longer is tested before its next use.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);
/// A connection that was idle for longer is closed.
const MAX_IDLE: Duration = Duration::from_secs(600);
/// A connection is replaced at this age: the server's memory for it grows.
const MAX_AGE: Duration = Duration::from_secs(1800);

/// The connections of a handle.
pub(crate) struct OwnPool {
    options: PgConnectOptions,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<IdleConnection>>,
    /// When a connection was last found broken: older connections are tested before their next use.
    broken_at: Mutex<Option<Instant>>,
}

struct IdleConnection {
    connection: PgConnection,
    opened_at: Instant,
    idle_since: Instant,
}

/// A connection of an [`OwnPool`] in use. It is empty after its end.
pub(crate) struct OwnConnection(Option<Checkout>);

struct Checkout {
    connection: PgConnection,
    opened_at: Instant,
    /// A statement may be under way.
    busy: bool,
    pool: Arc<OwnPool>,
    permit: OwnedSemaphorePermit,
}

impl OwnPool {
    pub(crate) fn new(options: PgConnectOptions, size: usize) -> Self {
        Self {
            options,
            permits: Arc::new(Semaphore::new(size)),
            idle: Mutex::new(Vec::with_capacity(size)),
            broken_at: Mutex::new(None),
        }
    }

    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Takes the connection that was used last, if it needs no test and no caller waits for one.
    pub(crate) fn take_trusted(self: &Arc<Self>) -> Option<OwnConnection> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let mut idle = self.idle.lock();
        let trusted = idle.last().is_some_and(|idle| self.trusts(idle) && idle.opened_at.elapsed() < MAX_AGE);
        let IdleConnection { connection, opened_at, .. } = if trusted { idle.pop()? } else { return None };
        drop(idle);
        Some(self.check_out(connection, opened_at, permit))
    }

    /// Waits for a permit, then takes an idle connection that works, or connects.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Result<OwnConnection, sqlx::Error> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        loop {
            let idle = self.idle.lock().pop();
            let Some(mut idle) = idle else { break };
            if idle.opened_at.elapsed() > MAX_AGE {
                close(idle.connection);
            } else if self.trusts(&idle) || idle.connection.ping().await.is_ok() {
                return Ok(self.check_out(idle.connection, idle.opened_at, permit));
            }
        }
        self.connect(permit).await
    }

    /// Closes connections that were idle for longer than [`MAX_IDLE`].
    pub(crate) fn close_idle(&self) {
        let old: Vec<IdleConnection> = {
            let mut idle = self.idle.lock();
            let (old, young) = idle.drain(..).partition(|idle| idle.idle_since.elapsed() > MAX_IDLE);
            *idle = young;
            old
        };
        old.into_iter().for_each(|idle| close(idle.connection));
    }

    fn trusts(&self, idle: &IdleConnection) -> bool {
        idle.idle_since.elapsed() < TRUSTED_IDLE && self.broken_at.lock().is_none_or(|at| at < idle.opened_at)
    }

    /// Connects in a task of its own. The next caller gets the connection of a caller that gave up, so
    /// a server that takes longer to connect to than one budget is reached all the same.
    async fn connect(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Result<OwnConnection, sqlx::Error> {
        let (reply, answer) = oneshot::channel();
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let connecting = PgConnection::connect_with(&pool.options);
            let connection = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(connected) => {
                    connected.map(|connection| pool.check_out(connection, Instant::now(), permit))
                }
                Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
            };
            // If the caller gave up, the connection is dropped here, which makes it an idle one.
            let _unclaimed = reply.send(connection);
        });
        answer.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    fn check_out(
        self: &Arc<Self>,
        connection: PgConnection,
        opened_at: Instant,
        permit: OwnedSemaphorePermit,
    ) -> OwnConnection {
        OwnConnection(Some(Checkout { connection, opened_at, busy: false, pool: Arc::clone(self), permit }))
    }

    fn put_back(&self, connection: PgConnection, opened_at: Instant) {
        self.idle.lock().push(IdleConnection { connection, opened_at, idle_since: Instant::now() });
    }
}

impl OwnConnection {
    /// The connection, for a statement that starts now.
    pub(crate) fn start(&mut self) -> Option<&mut PgConnection> {
        self.0.as_mut().map(|checkout| {
            checkout.busy = true;
            &mut checkout.connection
        })
    }

    /// Gives the connection back after its statement, or closes it if it is broken.
    pub(crate) fn end(mut self, broken: bool) {
        if broken {
            if let Some(Checkout { pool, .. }) = self.0.take() {
                *pool.broken_at.lock() = Some(Instant::now());
            }
        } else if let Some(checkout) = &mut self.0 {
            checkout.busy = false;
        }
    }
}

impl Drop for OwnConnection {
    fn drop(&mut self) {
        let Some(Checkout { mut connection, opened_at, busy, pool, permit }) = self.0.take() else {
            return;
        };
        if !busy {
            pool.put_back(connection, opened_at);
            drop(permit);
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(DRAIN_TIMEOUT, connection.ping()).await {
                pool.put_back(connection, opened_at);
            }
            drop(permit);
        });
    }
}

fn close(connection: PgConnection) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            let _closed = tokio::time::timeout(DRAIN_TIMEOUT, connection.close()).await;
        });
    }
}
