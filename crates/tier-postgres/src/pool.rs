//! Where connections come from: a pool of the handle's own, or one that the caller built.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool, postgres::PgConnectOptions};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use crate::{
    error::{During, breaks_connection, typed},
    held::{Given, Lent},
};

/// A connection may take so long to be made, TLS and password included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// An abandoned statement gets so long to end before its connection is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection idle for longer is tested before its next use.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);
/// A connection idle for longer is closed.
const IDLE_LIFE: Duration = Duration::from_secs(600);
/// A connection is replaced after this time: server-side memory grows with age.
const LIFE: Duration = Duration::from_secs(1800);

/// Where connections come from.
#[derive(Clone)]
pub(crate) enum Pool {
    Own(Arc<Own>),
    Given(Given),
}

/// A pool that a lost server cannot hold up. sqlx's own waits in `acquire` until its timeout while
/// connections are refused, and makes one more round trip each time that a connection comes back.
pub(crate) struct Own {
    options: PgConnectOptions,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Idle>>,
    /// When a connection was last found broken: older ones are tested before their next use.
    broken_at: Mutex<Option<Instant>>,
}

struct Idle {
    connection: PgConnection,
    opened_at: Instant,
    since: Instant,
}

/// A connection in use. Dropped in the middle of a statement, it comes back to the pool when that
/// statement has ended.
pub(crate) struct Session(Option<Inner>);

enum Inner {
    Own {
        connection: PgConnection,
        opened_at: Instant,
        busy: bool,
        pool: Arc<Own>,
        permit: OwnedSemaphorePermit,
    },
    Given {
        lent: Lent,
        pool: Given,
    },
}

impl Pool {
    /// The caller's.
    pub(crate) fn given(pool: PgPool) -> Self {
        Self::Given(Given::new(pool))
    }

    /// At most `size` connections, made on demand.
    pub(crate) fn own(options: PgConnectOptions, size: usize) -> Self {
        Self::Own(Arc::new(Own {
            options,
            permits: Arc::new(Semaphore::new(size)),
            idle: Mutex::new(Vec::with_capacity(size)),
            broken_at: Mutex::new(None),
        }))
    }

    /// A connection; waits for a free one, first come, first served. The caller bounds the wait.
    pub(crate) async fn session(&self) -> Result<Session, sqlx::Error> {
        match self {
            Self::Own(pool) => match pool.at_hand() {
                Some(session) => Ok(session),
                // Boxed: what is rare must not make every call's future large.
                None => Box::pin(pool.session()).await,
            },
            Self::Given(pool) => {
                let lent = pool.take().await?;
                Ok(Session(Some(Inner::Given { lent, pool: pool.clone() })))
            }
        }
    }

    /// How to connect, for a connection outside of the pool.
    pub(crate) fn options(&self) -> PgConnectOptions {
        match self {
            Self::Own(pool) => pool.options.clone(),
            Self::Given(pool) => {
                PgConnectOptions::clone(&pool.pool().connect_options()).disable_statement_logging()
            }
        }
    }

    /// Closes connections that were idle for long.
    pub(crate) fn shrink(&self) {
        if let Self::Own(pool) = self {
            let old: Vec<Idle> = {
                let mut idle = pool.idle.lock();
                let (old, young) = idle.drain(..).partition(|idle| idle.since.elapsed() > IDLE_LIFE);
                *idle = young;
                old
            };
            old.into_iter().for_each(|idle| close(idle.connection));
        }
    }
}

impl Own {
    /// A connection that was used a moment ago, if one is free and nobody waits.
    fn at_hand(self: &Arc<Self>) -> Option<Session> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let mut idle = self.idle.lock();
        let trusted = idle.last().is_some_and(|idle| self.trusts(idle) && idle.opened_at.elapsed() < LIFE);
        let Idle { connection, opened_at, .. } = if trusted { idle.pop()? } else { return None };
        drop(idle);
        Some(self.lend(connection, opened_at, permit))
    }

    async fn session(self: &Arc<Self>) -> Result<Session, sqlx::Error> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        loop {
            let idle = self.idle.lock().pop();
            let Some(mut idle) = idle else { break };
            if idle.opened_at.elapsed() > LIFE {
                close(idle.connection);
            } else if self.trusts(&idle) || idle.connection.ping().await.is_ok() {
                return Ok(self.lend(idle.connection, idle.opened_at, permit));
            }
        }
        self.connect(permit).await
    }

    fn trusts(&self, idle: &Idle) -> bool {
        idle.since.elapsed() < TRUSTED_IDLE && self.broken_at.lock().is_none_or(|at| at < idle.opened_at)
    }

    /// Connects in a task of its own: a caller that gives up first leaves the connection to the
    /// next one, so that a server slower to connect to than one budget is reached all the same.
    async fn connect(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Result<Session, sqlx::Error> {
        let (reply, answer) = oneshot::channel();
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let connecting = PgConnection::connect_with(&pool.options);
            let session = match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(connected) => connected.map(|connection| pool.lend(connection, Instant::now(), permit)),
                Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
            };
            // Nobody waits any more: the session goes to the idle ones as it is dropped.
            let _unclaimed = reply.send(session);
        });
        answer.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
    }

    fn lend(
        self: &Arc<Self>,
        connection: PgConnection,
        opened_at: Instant,
        permit: OwnedSemaphorePermit,
    ) -> Session {
        Session(Some(Inner::Own { connection, opened_at, busy: false, pool: Arc::clone(self), permit }))
    }

    fn put_back(&self, connection: PgConnection, opened_at: Instant) {
        self.idle.lock().push(Idle { connection, opened_at, since: Instant::now() });
    }

    fn found_broken(&self) {
        *self.broken_at.lock() = Some(Instant::now());
    }
}

impl Session {
    /// The connection, for one statement.
    pub(crate) fn connection(&mut self) -> terrace_tier::Result<&mut PgConnection> {
        match &mut self.0 {
            Some(Inner::Own { connection, busy, .. }) => {
                *busy = true;
                Ok(connection)
            }
            Some(Inner::Given { lent, .. }) => Ok(&mut lent.connection),
            None => Err(typed(sqlx::Error::PoolClosed, During::Connect)),
        }
    }

    /// Gives the connection back, the statement being over; one that broke is closed.
    pub(crate) fn end<T>(mut self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        let broken = result.as_ref().err().is_some_and(breaks_connection);
        match &mut self.0 {
            Some(Inner::Own { pool, .. }) if broken => {
                pool.found_broken();
                self.0 = None;
            }
            Some(Inner::Own { busy, .. }) => *busy = false,
            Some(Inner::Given { lent, .. }) if broken => lent.connection.close_on_drop(),
            Some(Inner::Given { .. }) => {
                if let Some(Inner::Given { lent, pool }) = self.0.take() {
                    pool.give(lent);
                }
            }
            None => {}
        }
        result
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let Some(Inner::Own { mut connection, opened_at, busy, pool, permit }) = self.0.take() else {
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
