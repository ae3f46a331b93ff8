//! Connections of the application's pool that are held for a moment between two statements.
//!
//! In sqlx's pool each return of a connection is a task and a round trip, which is much of a quick
//! read. A connection that the next statement takes at once saves both.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{PgPool, Postgres, pool::PoolConnection};

/// A held connection that no statement used for so long goes back to the pool.
const MAX_IDLE: Duration = Duration::from_millis(10);
/// A connection in constant use goes back after so long, so that the pool's own rules apply to it.
const MAX_REUSE: Duration = Duration::from_secs(1);
/// One connection may be held for each so many of the pool.
const POOL_PER_HELD: u32 = 4;

/// A pool of the application, and the connections of it that are held.
#[derive(Clone)]
pub(crate) struct ApplicationPool(Arc<Inner>);

struct Inner {
    pool: PgPool,
    max_held: usize,
    held: Mutex<Held>,
}

/// The held connections.
#[derive(Default)]
struct Held {
    idle: Vec<IdleConnection>,
    /// A [`ReturnTask`] runs.
    task_runs: bool,
}

struct IdleConnection {
    connection: ApplicationConnection,
    idle_since: Instant,
}

/// A connection of the application's pool.
pub(crate) struct ApplicationConnection {
    pub(crate) connection: PoolConnection<Postgres>,
    taken_at: Instant,
}

impl ApplicationPool {
    pub(crate) fn new(pool: PgPool) -> Self {
        let max_held = pool.options().get_max_connections() / POOL_PER_HELD;
        Self(Arc::new(Inner { pool, max_held: max_held as usize, held: Mutex::default() }))
    }

    /// Takes a held connection, or acquires one from the pool.
    ///
    /// While a process is stopped, or its runtime is not driven, a held connection may break. The pool
    /// tests the connections that it gives out, so a connection past [`MAX_REUSE`] goes through it.
    pub(crate) async fn acquire(&self) -> Result<ApplicationConnection, sqlx::Error> {
        let held = self.0.held.lock().idle.pop();
        let reusable = |idle: &IdleConnection| idle.connection.is_reusable(Instant::now());
        // Another connection goes back here, before this call waits for one.
        if let Some(IdleConnection { connection, .. }) = held.filter(reusable) {
            return Ok(connection);
        }
        Ok(ApplicationConnection { connection: self.0.pool.acquire().await?, taken_at: Instant::now() })
    }

    /// Holds a connection whose statement has ended, unless other users of the pool may need it.
    pub(crate) fn hold(&self, connection: ApplicationConnection) {
        let now = Instant::now();
        if !connection.is_reusable(now) || self.0.is_wanted() {
            return;
        }
        let mut held = self.0.held.lock();
        if held.idle.len() >= self.0.max_held {
            return drop((held, connection));
        }
        held.idle.push(IdleConnection { connection, idle_since: now });
        if !held.task_runs {
            held.task_runs = true;
            drop(held);
            tokio::spawn(ReturnTask { inner: Arc::clone(&self.0), ended: false }.run());
        }
    }
}

impl ApplicationConnection {
    fn is_reusable(&self, now: Instant) -> bool {
        now.duration_since(self.taken_at) <= MAX_REUSE
    }
}

impl Inner {
    /// Whether another user of the pool may wait for a connection, or for the pool to close.
    fn is_wanted(&self) -> bool {
        let exhausted =
            self.pool.num_idle() == 0 && self.pool.size() >= self.pool.options().get_max_connections();
        exhausted || self.pool.is_closed()
    }
}

/// Gives back connections that were idle for [`MAX_IDLE`], until none is held.
struct ReturnTask {
    inner: Arc<Inner>,
    ended: bool,
}

impl ReturnTask {
    async fn run(mut self) {
        while !self.ended {
            tokio::time::sleep(MAX_IDLE).await;
            self.give_back(Instant::now());
        }
    }

    fn give_back(&mut self, now: Instant) {
        let wanted = self.inner.is_wanted();
        let over = |idle: &mut IdleConnection| wanted || now.duration_since(idle.idle_since) >= MAX_IDLE;
        let mut held = self.inner.held.lock();
        let back: Vec<IdleConnection> = held.idle.extract_if(.., over).collect();
        held.task_runs = !held.idle.is_empty();
        self.ended = !held.task_runs;
        drop(held);
        drop(back);
    }
}

impl Drop for ReturnTask {
    /// Returns every held connection if the runtime ends before the task does: the next statement may
    /// run on another runtime.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut held = self.inner.held.lock();
        held.task_runs = false;
        let left = std::mem::take(&mut held.idle);
        drop(held);
        drop(left);
    }
}
