//! A pool that a lost server cannot hold up.
//!
//! sqlx's own pool waits in `acquire` until its timeout while the server refuses connections, and makes
//! one more round trip each time a connection comes back.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{Connection, PgConnection};
use terrace_tier::{Error, ErrorKind, Result, runtime::current_runtime_id};
use tokio::{
    runtime::Id,
    sync::{OwnedSemaphorePermit, Semaphore, oneshot},
};

use super::{
    backoff::Backoff,
    dial::{Dialed, Dialer},
};
use crate::error::ConnectionState;

/// The most time for an abandoned statement to end before its connection is closed.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// The most time for the test of a connection before its use.
const TEST_TIMEOUT: Duration = Duration::from_millis(500);
/// A connection that was idle for longer is tested before its next use.
const TRUSTED_IDLE: Duration = Duration::from_secs(5);
/// A connection that was idle for longer is closed.
const MAX_IDLE: Duration = Duration::from_secs(600);
/// A connection to a server that takes no writes is replaced at this age: another server may be the primary.
const MAX_AGE_READ_ONLY: Duration = Duration::from_millis(500);
/// A connection is replaced at this age: the server's memory for it grows.
const MAX_AGE: Duration = Duration::from_secs(1800);

/// The connections of a handle. Each is used in the runtime in which it was opened, and the pool's size bounds
/// those of all runtimes together.
pub(crate) struct OwnPool {
    dialer: Arc<Dialer>,
    backoff: Backoff,
    permits: Arc<Semaphore>,
    /// The most connections of all runtimes together.
    size: usize,
    idle: Mutex<Vec<IdleConnection>>,
    /// When a connection was last found broken: older connections are tested before their next use.
    broken_at: Mutex<Option<Instant>>,
    /// When a server was last found to take no writes: older connections are closed.
    read_only_at: Mutex<Option<Instant>>,
    /// The start of the server that the last new connection reached.
    started: Mutex<Option<i64>>,
}

/// The birth of a connection.
#[derive(Clone, Copy)]
struct Opened {
    at: Instant,
    /// The server took no writes.
    read_only: bool,
    /// The runtime in which it was opened, and in which alone it is used.
    runtime: Option<Id>,
}

struct IdleConnection {
    connection: PgConnection,
    opened: Opened,
    idle_since: Instant,
}

/// A connection of an [`OwnPool`] in use. It is empty after its end.
pub(crate) struct OwnConnection(Option<Checkout>);

struct Checkout {
    connection: PgConnection,
    opened: Opened,
    /// A statement may be under way.
    busy: bool,
    pool: Arc<OwnPool>,
    permit: OwnedSemaphorePermit,
}

impl OwnPool {
    pub(crate) fn new(dialer: Arc<Dialer>, size: usize) -> Self {
        Self {
            dialer,
            backoff: Backoff::default(),
            permits: Arc::new(Semaphore::new(size)),
            size,
            idle: Mutex::new(Vec::with_capacity(size)),
            broken_at: Mutex::new(None),
            read_only_at: Mutex::new(None),
            started: Mutex::new(None),
        }
    }

    pub(crate) fn dialer(&self) -> &Arc<Dialer> {
        &self.dialer
    }

    /// Makes each connection that was opened before now end before its next use: its server is not, or may
    /// not be, the primary.
    pub(crate) fn renew(&self) {
        *self.read_only_at.lock() = Some(Instant::now());
    }

    /// Ends the connections to another server before their next use. A write through the new connection may
    /// be acknowledged, and a later read through an old one would not see it.
    fn renew_for(&self, started: i64) {
        if self.started.lock().replace(started).is_some_and(|before| before != started) {
            self.renew();
        }
    }

    /// Takes the connection that was used last, if it needs no test and no caller waits for one.
    pub(crate) fn take_trusted(self: &Arc<Self>) -> Option<OwnConnection> {
        let permit = Arc::clone(&self.permits).try_acquire_owned().ok()?;
        let here = current_runtime_id();
        let mut idle = self.idle.lock();
        let last = idle.iter().rposition(|idle| idle.opened.runtime == here)?;
        let trusted = self.trusts(&idle[last]) && !self.is_old(idle[last].opened);
        let IdleConnection { connection, opened, .. } =
            if trusted { idle.remove(last) } else { return None };
        drop(idle);
        Some(self.check_out(connection, opened, permit))
    }

    /// Waits for a permit, then takes an idle connection that works, or connects.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Result<OwnConnection> {
        let permits = Arc::clone(&self.permits);
        let permit = permits.acquire_owned().await.map_err(|_| closed())?;
        loop {
            let Some(mut idle) = self.pop_idle(current_runtime_id()) else { break };
            if self.is_old(idle.opened) {
                close(idle.connection);
            } else if self.trusts(&idle) || answers(&mut idle.connection).await {
                return Ok(self.check_out(idle.connection, idle.opened, permit));
            }
        }
        self.connect(permit).await
    }

    /// Takes the connection of this runtime that was used last.
    fn pop_idle(&self, runtime: Option<Id>) -> Option<IdleConnection> {
        let mut idle = self.idle.lock();
        let last = idle.iter().rposition(|idle| idle.opened.runtime == runtime)?;
        Some(idle.remove(last))
    }

    /// Closes a connection of another runtime, if there would be more connections than the pool may have. The
    /// caller holds a permit and is about to connect.
    fn make_way(&self) {
        let mut idle = self.idle.lock();
        let in_use = self.size - self.permits.available_permits();
        let spare = (idle.len() + in_use > self.size).then(|| idle.remove(0));
        drop(idle);
        if let Some(idle) = spare {
            close(idle.connection);
        }
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
        idle.idle_since.elapsed() < TRUSTED_IDLE && self.broken_at.lock().is_none_or(|at| at < idle.opened.at)
    }

    /// Connects in a task of its own. The next caller gets the connection of a caller that gave up, so
    /// a server that takes longer to connect to than one budget is reached all the same.
    ///
    /// # Errors
    /// The error of the last attempt, where that failed a moment ago.
    async fn connect(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Result<OwnConnection> {
        self.backoff.begin()?;
        self.make_way();
        let (reply, answer) = oneshot::channel();
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            let connected = pool.dialer.connect().await;
            match &connected {
                Ok(_) => pool.backoff.succeeded(),
                Err(why) => pool.backoff.failed(why),
            }
            let connected = connected.map(|Dialed { connection, read_only, started }| {
                pool.renew_for(started);
                let opened = Opened { at: Instant::now(), read_only, runtime: current_runtime_id() };
                pool.check_out(connection, opened, permit)
            });
            // If the caller gave up, the connection is dropped here, which makes it an idle one.
            let _unclaimed = reply.send(connected);
        });
        answer.await.unwrap_or_else(|_| Err(closed()))
    }

    fn is_old(&self, opened: Opened) -> bool {
        let most = if opened.read_only { MAX_AGE_READ_ONLY } else { MAX_AGE };
        opened.at.elapsed() > most || self.read_only_at.lock().is_some_and(|at| opened.at < at)
    }

    fn check_out(
        self: &Arc<Self>,
        connection: PgConnection,
        opened: Opened,
        permit: OwnedSemaphorePermit,
    ) -> OwnConnection {
        OwnConnection(Some(Checkout { connection, opened, busy: false, pool: Arc::clone(self), permit }))
    }

    fn put_back(&self, connection: PgConnection, opened: Opened) {
        self.idle.lock().push(IdleConnection { connection, opened, idle_since: Instant::now() });
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

    /// Gives the connection back after its statement, or closes it.
    pub(crate) fn end(mut self, state: ConnectionState) {
        match state {
            ConnectionState::Usable => {
                if let Some(checkout) = &mut self.0 {
                    checkout.busy = false;
                }
            }
            ConnectionState::Broken => {
                if let Some(Checkout { pool, .. }) = self.0.take() {
                    *pool.broken_at.lock() = Some(Instant::now());
                }
            }
            ConnectionState::ReadOnly => {
                let Some(checkout) = &mut self.0 else { return };
                checkout.busy = false;
                // Otherwise nothing better was there a moment ago, and the next look is due soon.
                if !checkout.opened.read_only {
                    checkout.pool.renew();
                }
            }
        }
    }
}

impl Drop for OwnConnection {
    fn drop(&mut self) {
        let Some(Checkout { mut connection, opened, busy, pool, permit }) = self.0.take() else {
            return;
        };
        if !busy {
            if pool.is_old(opened) {
                close(connection);
            } else {
                pool.put_back(connection, opened);
            }
            drop(permit);
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            if let Ok(Ok(())) = tokio::time::timeout(DRAIN_TIMEOUT, connection.ping()).await {
                pool.put_back(connection, opened);
            } else {
                *pool.broken_at.lock() = Some(Instant::now());
            }
            drop(permit);
        });
    }
}

async fn answers(connection: &mut PgConnection) -> bool {
    matches!(tokio::time::timeout(TEST_TIMEOUT, connection.ping()).await, Ok(Ok(())))
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the connection pool was closed, or its runtime ended")
}

fn close(connection: PgConnection) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(async move {
            let _closed = tokio::time::timeout(DRAIN_TIMEOUT, connection.close()).await;
        });
    }
}
