//! Deletes dead rows in the background: in bounded statements, and without waiting for a lock.
//!
//! Two things make a process clean. A process that has written many copies reads the table of copies once and
//! deletes the expired ones, so that cleaning keeps up with writing at any rate. And once a minute one of all
//! processes cleans all tables, for what expires while nobody writes.

use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{Connection, Row, SqlStr};
use terrace_tier::Result;
use tokio::sync::Notify;

use crate::{
    connection::{shared::Shared, timeout::within},
    error::{NAME, Phase, unreadable},
};

/// The mean time between two rounds that the time makes.
const PAUSE: Duration = Duration::from_secs(60);
/// Such a round is left out if another process began one within this time.
const TURN: Duration = Duration::from_secs(30);
/// The most time for a round. The next round goes on where it ended.
const ROUND_TIMEOUT: Duration = Duration::from_secs(60);
/// The most rows of one statement, which is a transaction.
const BATCH_ROWS: i32 = 1000;
/// The pages of the table of copies in one statement: at most some 6,000 rows.
const PAGES: i32 = 64;
/// The most rows of the outbox in one statement.
const TRIM_ROWS: i32 = 20_000;
/// A pass over the copies is due after this process has written so many, or one for each page of the table.
/// The second bound is ten for each page, where passes find little: a pass costs what the table is large.
const WRITTEN: u64 = 10_000;
const MAX_WRITTEN_PER_PAGE: u64 = 10;
/// A pass finds much if it deletes this part of what was written before it.
const MUCH: u64 = 4;
/// A VACUUM is due after so many deleted copies for each page of the table.
const DELETED_PER_PAGE: u64 = 3;
/// The pause after a VACUUM is so many times as long as the VACUUM.
const VACUUM_PAUSE: u32 = 3;
/// The most time of a VACUUM.
const VACUUM_TIMEOUT: Duration = Duration::from_secs(600);

/// Tells the cleaner of a handle what there is to do.
pub(crate) struct CleanerState {
    wake: Arc<Notify>,
    /// The copies that this process has written since the last pass over them.
    written: AtomicU64,
    /// The next pass is due when `written` is so large.
    due_at: AtomicU64,
}

impl Default for CleanerState {
    fn default() -> Self {
        Self { wake: Arc::default(), written: AtomicU64::new(0), due_at: AtomicU64::new(WRITTEN) }
    }
}

impl CleanerState {
    /// Counts copies and leases that this process wrote. It makes no trip.
    pub(crate) fn wrote(&self, copies: usize) {
        let copies = copies as u64;
        let before = self.written.fetch_add(copies, Ordering::Relaxed);
        let due_at = self.due_at.load(Ordering::Relaxed);
        if before < due_at && before + copies >= due_at {
            self.wake.notify_one();
        }
    }

    /// Wakes the cleaner after a clear.
    pub(crate) fn cleared(&self) {
        self.wake.notify_one();
    }

    fn is_due(&self) -> bool {
        self.written.load(Ordering::Relaxed) >= self.due_at.load(Ordering::Relaxed)
    }

    /// A pass begins: what is written from now on counts for the next one.
    fn begin_pass(&self) {
        self.written.store(0, Ordering::Relaxed);
    }

    /// A pass over `pages` ends, which deleted so many copies. The next one is due sooner or later by that.
    fn end_pass(&self, pages: u64, deleted: u64) {
        let due_at = self.due_at.load(Ordering::Relaxed);
        let wanted = if deleted * MUCH >= due_at { due_at / 2 } else { due_at * 2 };
        let (least, most) = (WRITTEN.max(pages), WRITTEN.max(pages * MAX_WRITTEN_PER_PAGE));
        self.due_at.store(wanted.clamp(least, most), Ordering::Relaxed);
    }
}

/// Why a round begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    Time,
    /// A clear, or many writes.
    Work,
}

/// Starts the task, unless it runs. It ends when the handle is dropped, or with its runtime.
pub(crate) fn start(shared: &Arc<Shared>) {
    let mut task = shared.cleaner_task.lock();
    if task.as_ref().is_some_and(|task| !task.is_finished()) {
        return;
    }
    *task = Some(tokio::spawn(run(Arc::downgrade(shared), Arc::clone(&shared.cleaner.wake))));
}

async fn run(shared: Weak<Shared>, wake: Arc<Notify>) {
    let mut cleaner = Cleaner::default();
    // Random, so that many processes do not start at the same moment.
    let pause = || PAUSE.mul_f64(0.5 + fastrand::f64());
    let mut next = tokio::time::Instant::now() + pause();
    loop {
        let reason = tokio::select! {
            () = tokio::time::sleep_until(next) => {
                next = tokio::time::Instant::now() + pause();
                Reason::Time
            }
            () = wake.notified() => Reason::Work,
        };
        let Some(shared) = shared.upgrade() else { return };
        if let Err(error) = within(ROUND_TIMEOUT, cleaner.round(&shared, reason)).await {
            let (cache, what) =
                (shared.cache_names(), "a round of cleaning in Postgres failed; the next one goes on");
            tracing::debug!(%cache, tier = NAME, %error, "{what}");
        }
    }
}

/// What a process remembers between two rounds.
#[derive(Default)]
struct Cleaner {
    /// The page of the table of copies at which the next part of a pass begins. It survives a round that
    /// took too long.
    page: i64,
    /// The copies that were deleted since the last VACUUM.
    deleted: u64,
    vacuum_not_before: Option<Instant>,
}

impl Cleaner {
    async fn round(&mut self, shared: &Shared, reason: Reason) -> Result<()> {
        shared.pool.close_idle();
        sweep(shared).await?;
        let all = reason == Reason::Time && take_turn(shared).await?;
        if all || shared.cleaner.is_due() {
            self.clean_copies(shared).await?;
        }
        if all {
            let statement = &shared.statements().clean.keep_alives;
            let mut page = Some(0);
            while let Some(from) = page {
                (page, _) = clean_part(shared, statement, from).await?;
            }
            clean_records(shared).await?;
            trim_outbox(shared).await?;
        }
        Ok(())
    }

    /// One pass over the copies, in the order of the table. It ends when no expired row is left that was there
    /// when it began.
    async fn clean_copies(&mut self, shared: &Shared) -> Result<()> {
        shared.cleaner.begin_pass();
        let statement = &shared.statements().clean.copies;
        let before = self.deleted;
        loop {
            let (next, gone) = clean_part(shared, statement, self.page).await?;
            self.deleted += gone;
            let Some(next) = next else { break };
            self.page = next;
        }
        let pages = u64::try_from(std::mem::take(&mut self.page)).unwrap_or(0);
        shared.cleaner.end_pass(pages, self.deleted - before);
        if self.deleted >= WRITTEN.max(pages * DELETED_PER_PAGE)
            && self.vacuum_not_before.is_none_or(|at| at <= Instant::now())
        {
            self.vacuum(shared).await?;
        }
        Ok(())
    }

    /// Makes the space of deleted copies free for new ones. The server's autovacuum looks once a minute at
    /// most, and the table would grow by what is deleted in a minute. Only an owner may do it; where this role
    /// is none, the autovacuum remains.
    async fn vacuum(&mut self, shared: &Shared) -> Result<()> {
        let started = Instant::now();
        let vacuumed = within(VACUUM_TIMEOUT, vacuum(shared)).await;
        self.vacuum_not_before = Some(Instant::now() + started.elapsed() * VACUUM_PAUSE);
        self.deleted = 0;
        vacuumed
    }
}

async fn vacuum(shared: &Shared) -> Result<()> {
    let statements = &shared.statements().clean;
    let mut session = shared.pool.session().await?;
    let may = sqlx::query_scalar(statements.may_vacuum.clone()).fetch_one(session.connection()?).await;
    if !shared.typed(session.end(may), Phase::Read)? {
        return Ok(());
    }
    // On a connection of its own: it takes longer than a statement of the pool may.
    let mut connection = shared.pool.dial().await?.connection;
    let gently = "SET statement_timeout = 0; SET vacuum_cost_delay = 1; SET vacuum_cost_limit = 10000";
    let set = sqlx::raw_sql(gently).execute(&mut connection).await;
    shared.typed(set, Phase::Write)?;
    let vacuumed = sqlx::raw_sql(statements.vacuum.clone()).execute(&mut connection).await;
    shared.typed(vacuumed, Phase::Write)?;
    let _closed = within(Duration::from_secs(5), async { Ok(connection.close().await) }).await;
    Ok(())
}

/// Whether this process cleans all tables now, and no other one.
async fn take_turn(shared: &Shared) -> Result<bool> {
    let mut session = shared.pool.session().await?;
    let turn = sqlx::query_scalar(shared.statements().clean.turn.clone())
        .bind(TURN.as_secs_f64())
        .fetch_one(session.connection()?)
        .await;
    shared.typed(session.end(turn), Phase::Write)
}

/// Cleans a part of a table: the page at which the next part begins, and the number of deleted rows.
async fn clean_part(shared: &Shared, statement: &SqlStr, from: i64) -> Result<(Option<i64>, u64)> {
    let mut session = shared.pool.session().await?;
    let cleaned = sqlx::query_as::<_, (Option<i64>, i64)>(statement.clone())
        .bind(from)
        .bind(PAGES)
        .fetch_one(session.connection()?)
        .await;
    let (next, gone) = shared.typed(session.end(cleaned), Phase::Write)?;
    Ok((next, gone.unsigned_abs()))
}

/// Deletes expired records and tombstones, from the earliest deadline on.
async fn clean_records(shared: &Shared) -> Result<()> {
    let mut after = 0_i64;
    loop {
        let mut session = shared.pool.session().await?;
        let cleaned = sqlx::query_as::<_, (Option<i64>, i64)>(shared.statements().clean.records.clone())
            .bind(after)
            .bind(BATCH_ROWS)
            .fetch_one(session.connection()?)
            .await;
        let (last, gone) = shared.typed(session.end(cleaned), Phase::Write)?;
        match last {
            Some(last) if gone >= i64::from(BATCH_ROWS) => after = last,
            _ => return Ok(()),
        }
    }
}

/// Deletes the entries of earlier epochs in the namespaces that were cleared.
async fn sweep(shared: &Shared) -> Result<()> {
    let statements = &shared.statements().clean;
    let mut session = shared.pool.session().await?;
    let connection = session.connection()?;
    let cleared = sqlx::query(statements.cleared.clone()).fetch_all(connection).await;
    for row in shared.typed(session.end(cleared), Phase::Read)? {
        let id: i32 = row.try_get(0).map_err(|error| unreadable(error, Phase::Read))?;
        let epoch: i64 = row.try_get(1).map_err(|error| unreadable(error, Phase::Read))?;
        sweep_namespace(shared, id, epoch).await?;
    }
    Ok(())
}

async fn sweep_namespace(shared: &Shared, id: i32, epoch: i64) -> Result<()> {
    let statements = &shared.statements().clean;
    let mut last: Vec<u8> = Vec::new();
    loop {
        let mut session = shared.pool.session().await?;
        let connection = session.connection()?;
        let page = sqlx::query_scalar(statements.sweep.clone())
            .bind(id)
            .bind(epoch)
            .bind(&last)
            .bind(i64::from(BATCH_ROWS))
            .fetch_optional(connection)
            .await;
        match shared.typed(session.end(page), Phase::Write)? {
            Some(digest) => last = digest,
            None => break,
        }
    }
    let mut session = shared.pool.session().await?;
    let connection = session.connection()?;
    let ended = sqlx::query(statements.end_sweep.clone()).bind(id).bind(epoch).execute(connection).await;
    shared.typed(session.end(ended), Phase::Write)?;
    Ok(())
}

/// Deletes rows of the outbox that are ten minutes old: followers have read them by then.
async fn trim_outbox(shared: &Shared) -> Result<()> {
    loop {
        let mut session = shared.pool.session().await?;
        let connection = session.connection()?;
        let statement = shared.statements().outbox.trim.clone();
        let deleted = sqlx::query_scalar::<_, i64>(statement).bind(TRIM_ROWS).fetch_one(connection).await;
        if shared.typed(session.end(deleted), Phase::Write)? < i64::from(TRIM_ROWS) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{Connection, PgConnection};
    use terrace_testbed::shared_postgres;

    use super::*;

    #[tokio::test]
    async fn a_sweep_leaves_what_was_written_after_the_next_clear() {
        let url = shared_postgres().await.unwrap();
        let shared = &shared(&url);
        shared.prepare_schema().await.unwrap();
        let mut server = PgConnection::connect(&url).await.unwrap();
        // The namespace was cleared twice. The sweep began after the first clear and read its epoch, 1.
        sqlx::raw_sql(
            "INSERT INTO terrace.spaces (namespace, tenant, role, epoch, sweep) \
                 VALUES ('n', '', 'cache', 2, true); \
             INSERT INTO terrace.cache_entries (space, digest, key, state, version, epoch, written, \
                 fresh_until, stale_until, expires_at) \
                 SELECT id, digest, '', 'N', 1, entry_epoch, 0, -1, -1, -1 FROM terrace.spaces, \
                 (VALUES ('\\x01'::bytea, 1), ('\\x02', 2)) AS entries (digest, entry_epoch)",
        )
        .execute(&mut server)
        .await
        .unwrap();
        let (id, left) =
            ("SELECT id FROM terrace.spaces", "SELECT epoch FROM terrace.cache_entries ORDER BY 1");
        let id: i32 = sqlx::query_scalar(id).fetch_one(&mut server).await.unwrap();
        let mut left = async || sqlx::query_scalar::<_, i64>(left).fetch_all(&mut server).await.unwrap();
        sweep_namespace(shared, id, 1).await.unwrap();
        assert!(left().await.contains(&2), "a live entry was deleted");
        sweep_namespace(shared, id, 2).await.unwrap();
        assert_eq!(left().await, [2], "the next sweep deletes the dead entry");
    }

    #[tokio::test]
    async fn a_handle_that_keeps_nothing_of_its_own_is_cleaned_too() {
        let url = shared_postgres().await.unwrap();
        let shared = &shared(&url);
        // As a handle does that only follows the log or writes to it.
        shared.prepare_schema().await.unwrap();
        assert!(shared.cleaner_task.lock().is_some());
        Cleaner::default().round(shared, Reason::Time).await.unwrap();
        let mut server = PgConnection::connect(&url).await.unwrap();
        let trimmed = "SELECT count(*) FROM terrace.outbox_snapshots";
        assert_eq!(sqlx::query_scalar::<_, i64>(trimmed).fetch_one(&mut server).await.unwrap(), 1);
        assert!(!take_turn(shared).await.unwrap(), "another process has just cleaned");
    }

    #[tokio::test]
    async fn a_pass_goes_on_until_nothing_expired_is_left() {
        let url = shared_postgres().await.unwrap();
        let shared = &shared(&url);
        shared.prepare_schema().await.unwrap();
        let mut server = PgConnection::connect(&url).await.unwrap();
        // More rows than a hundred statements of a thousand delete; each tenth lives.
        sqlx::raw_sql(
            "INSERT INTO terrace.cache_entries (space, digest, key, state, version, epoch, written, \
                 fresh_until, stale_until, expires_at) \
             SELECT 1, int4send(n), '', 'N', 1, 1, 1, 1, 1, CASE WHEN n % 10 = 0 THEN -1 ELSE 1 END \
             FROM generate_series(1, 150000) n; \
             INSERT INTO terrace.lease_signs SELECT n, false, 1 FROM generate_series(1, 5000) n; \
             INSERT INTO terrace.records (space, digest, key, state, version, written, fresh_until, \
                 stale_until, expires_at) \
             SELECT 1, int4send(n), '', 'T', 1, 1, 1, 1, n / 100 FROM generate_series(1, 5000) n",
        )
        .execute(&mut server)
        .await
        .unwrap();
        let mut cleaner = Cleaner::default();
        cleaner.round(shared, Reason::Time).await.unwrap();
        let left: (i64, i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM terrace.cache_entries), (SELECT count(*) FROM terrace.lease_signs), \
                 (SELECT count(*) FROM terrace.records)",
        )
        .fetch_one(&mut server)
        .await
        .unwrap();
        assert_eq!(left, (15_000, 0, 0));
        assert_eq!((cleaner.page, cleaner.deleted), (0, 0));
        // Their space is free for new rows.
        let size = "SELECT pg_relation_size('terrace.cache_entries')";
        let before: i64 = sqlx::query_scalar(size).fetch_one(&mut server).await.unwrap();
        sqlx::raw_sql(
            "INSERT INTO terrace.cache_entries (space, digest, key, state, version, epoch, written, \
                 fresh_until, stale_until, expires_at) \
             SELECT 2, int4send(n), '', 'N', 1, 1, 1, 1, 1, -1 FROM generate_series(1, 100000) n",
        )
        .execute(&mut server)
        .await
        .unwrap();
        let after: i64 = sqlx::query_scalar(size).fetch_one(&mut server).await.unwrap();
        assert!(after <= before + before / 20, "{before} {after}");
    }

    #[test]
    fn a_pass_is_due_sooner_where_the_last_one_found_much() {
        let state = CleanerState::default();
        let due_after = |state: &CleanerState| {
            state.begin_pass();
            let mut written = 0;
            while !state.is_due() {
                state.wrote(1_000);
                written += 1_000;
            }
            written
        };
        assert_eq!(due_after(&state), 10_000);
        state.end_pass(5_000, 10);
        assert_eq!(due_after(&state), 20_000, "it found little");
        for _ in 0..9 {
            state.end_pass(5_000, 10);
        }
        assert_eq!(due_after(&state), 50_000, "ten for each page at most");
        for _ in 0..9 {
            state.end_pass(12_000, 50_000);
        }
        assert_eq!(due_after(&state), 12_000, "one for each page at least");
    }

    fn shared(url: &str) -> Arc<Shared> {
        Arc::clone(crate::Postgres::new(url).unwrap().shared())
    }
}
