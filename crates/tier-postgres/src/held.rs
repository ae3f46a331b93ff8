//! Connections of a caller's pool that are held for a moment between two statements.
//!
//! Giving one back is, in sqlx's pool, a task and a round trip of its own for every statement, which
//! is much of a quick read. A connection that is wanted again at once skips both.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use sqlx::{PgPool, Postgres, pool::PoolConnection};

/// A connection that nobody has used for so long goes back.
const LINGER: Duration = Duration::from_millis(10);
/// One in use all the time goes back after so long, so that the pool's own rules reach it.
const TERM: Duration = Duration::from_secs(1);
/// At most one connection of so many is held.
const SHARE: u32 = 4;

/// A caller's pool, and what is held of it.
#[derive(Clone)]
pub(crate) struct Given(Arc<Inner>);

struct Inner {
    pool: PgPool,
    most: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    idle: Vec<Idle>,
    /// A task gives back what lingers.
    watched: bool,
}

struct Idle {
    lent: Lent,
    since: Instant,
}

/// A connection of the pool.
pub(crate) struct Lent {
    pub(crate) connection: PoolConnection<Postgres>,
    taken_at: Instant,
}

impl Given {
    pub(crate) fn new(pool: PgPool) -> Self {
        let most = pool.options().get_max_connections() / SHARE;
        Self(Arc::new(Inner { pool, most: most as usize, kept: Mutex::default() }))
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.0.pool
    }

    /// One that is held, or one of the pool. The pool tests what it lends, and what was held for as long
    /// as a process was stopped, or its runtime not driven, needs that.
    pub(crate) async fn take(&self) -> Result<Lent, sqlx::Error> {
        let held = self.0.kept.lock().idle.pop();
        let in_term = |idle: &Idle| idle.lent.is_in_term(Instant::now());
        // One that is not goes back before another is waited for.
        if let Some(Idle { lent, .. }) = held.filter(in_term) {
            return Ok(lent);
        }
        Ok(Lent { connection: self.0.pool.acquire().await?, taken_at: Instant::now() })
    }

    /// Holds a connection whose statement is over, unless others may want it.
    pub(crate) fn give(&self, lent: Lent) {
        let now = Instant::now();
        if !lent.is_in_term(now) || self.0.is_short() {
            return;
        }
        let mut kept = self.0.kept.lock();
        if kept.idle.len() >= self.0.most {
            return drop((kept, lent));
        }
        kept.idle.push(Idle { lent, since: now });
        if !kept.watched {
            kept.watched = true;
            drop(kept);
            tokio::spawn(Watch { inner: Arc::clone(&self.0), ended: false }.run());
        }
    }
}

impl Lent {
    fn is_in_term(&self, now: Instant) -> bool {
        now.duration_since(self.taken_at) <= TERM
    }
}

impl Inner {
    /// Whether somebody may wait for a connection, or for the end of all.
    fn is_short(&self) -> bool {
        let exhausted =
            self.pool.num_idle() == 0 && self.pool.size() >= self.pool.options().get_max_connections();
        exhausted || self.pool.is_closed()
    }
}

/// Gives back what lingers, until nothing is held.
struct Watch {
    inner: Arc<Inner>,
    ended: bool,
}

impl Watch {
    async fn run(mut self) {
        while !self.ended {
            tokio::time::sleep(LINGER).await;
            self.give_back(Instant::now());
        }
    }

    fn give_back(&mut self, now: Instant) {
        let short = self.inner.is_short();
        let over = |idle: &mut Idle| short || now.duration_since(idle.since) >= LINGER;
        let mut kept = self.inner.kept.lock();
        let back: Vec<Idle> = kept.idle.extract_if(.., over).collect();
        kept.watched = !kept.idle.is_empty();
        self.ended = !kept.watched;
        drop(kept);
        drop(back);
    }
}

impl Drop for Watch {
    /// Its runtime ended before it: the next statement may be of another one.
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let mut kept = self.inner.kept.lock();
        kept.watched = false;
        let left = std::mem::take(&mut kept.idle);
        drop(kept);
        drop(left);
    }
}
