//! What `ready` looks at: the server, a pooler before it, and whether all that the cache will do is possible.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use sqlx::{PgConnection, Row};
use terrace_tier::{
    Condition, Deadlines, Error, ErrorKind, Finding, FindingTopic, Op, Order, Result, Role, TierKey,
    Timestamp, Token,
};

use crate::{connection::shared::Shared, error::Phase, namespace::NamespaceRow, sql::numbers::signed, write};

/// The oldest server that has what the schema uses (`xid8`).
pub(crate) const OLDEST_VERSION: i32 = 130_000;
/// Clocks that differ by more shorten or lengthen lives noticeably.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(2);
/// How long a statement of the pooler's check may wait.
const POOLER_TIMEOUT: Duration = Duration::from_secs(2);

/// What the server says of itself.
struct Server {
    version: i32,
    read_only: bool,
    fsync: bool,
    full_pages: bool,
    autovacuum: bool,
    /// How far its clock is from this process's, beyond what the trip may explain.
    clock_off: Duration,
}

/// Looks at the server and returns what only slows the cache.
pub(crate) async fn look_at_server(shared: &Shared, role: Role) -> Result<Vec<Finding>> {
    let server = ask(shared).await?;
    if server.version < OLDEST_VERSION {
        return Err(too_old(server.version));
    }
    if server.read_only {
        let cause = "the server takes no writes (default_transaction_read_only is on)";
        let cure = "turn it off, or connect to the primary";
        return Err(Finding::stops(FindingTopic::Role, cause, cure).into_error(ErrorKind::ReadOnly));
    }
    let mut findings = Vec::new();
    if role == Role::Store && !(server.fsync && server.full_pages) {
        findings.push(Finding::slows(
            FindingTopic::Durability,
            "the server does not wait for its disk (fsync or full_page_writes is off), so a crash of the machine \
             can lose or damage records",
            "turn both on",
        ));
    }
    if !server.autovacuum {
        findings.push(Finding::slows(
            FindingTopic::Memory,
            "the server never removes dead rows by itself (autovacuum is off), so the tables grow",
            "turn autovacuum on",
        ));
    }
    if server.clock_off > CLOCK_TOLERANCE {
        findings.push(Finding::slows(
            FindingTopic::Clock,
            format!("the clocks of the server and of this machine differ by {:.1?}", server.clock_off),
            "set both by NTP: lives of copies are wrong by the difference",
        ));
    }
    Ok(findings)
}

/// The error for a server that is older than the schema needs.
pub(crate) fn too_old(version: i32) -> Error {
    let cause = format!("the server is Postgres {}, and the library needs 13 or later", version / 10_000);
    Finding::stops(FindingTopic::Version, cause, "upgrade the server").into_error(ErrorKind::Config)
}

async fn ask(shared: &Shared) -> Result<Server> {
    let mut session = shared.pool.session().await?;
    let before = SystemTime::now();
    let row = sqlx::query(
        "SELECT current_setting('server_version_num')::integer, \
             current_setting('transaction_read_only') = 'on', current_setting('fsync') = 'on', \
             current_setting('full_page_writes') = 'on', current_setting('autovacuum') = 'on', \
             (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
    )
    .fetch_one(session.connection()?)
    .await;
    let after = SystemTime::now();
    let row = shared.typed(session.end(row), Phase::Read)?;
    let read = || -> std::result::Result<Server, sqlx::Error> {
        let clock = UNIX_EPOCH + Duration::from_micros(row.try_get::<i64, _>(5)?.unsigned_abs());
        let early = before.duration_since(clock).unwrap_or_default();
        let late = clock.duration_since(after).unwrap_or_default();
        Ok(Server {
            version: row.try_get(0)?,
            read_only: row.try_get(1)?,
            fsync: row.try_get(2)?,
            full_pages: row.try_get(3)?,
            autovacuum: row.try_get(4)?,
            clock_off: early.max(late),
        })
    };
    shared.pool.typed(read(), Phase::Read)
}

/// Finds a pooler that does not keep one session of the server for each connection. Two connections then
/// take turns on one session, or a connection changes its session while another is in a transaction.
pub(crate) async fn look_for_pooler(shared: &Shared) -> Result<Option<Finding>> {
    let mut session = shared.pool.session().await?;
    let mut other = match shared.pool.dial().await {
        Ok(dialed) => dialed.connection,
        Err(error) if error.finding().is_some_and(|finding| finding.topic() == FindingTopic::Memory) => {
            let cause = "the server has no connection left beside those of the pool, and the log needs one";
            let cure = "raise max_connections, or lower the size of the pools";
            return Ok(Some(Finding::slows(FindingTopic::Memory, cause, cure)));
        }
        Err(error) => return Err(error),
    };
    let own = session.connection()?;
    let looked = tokio::time::timeout(POOLER_TIMEOUT, shares_sessions(own, &mut other)).await;
    let looked = looked.unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())));
    // A pooler by statements refuses the transaction.
    let shares = match looked {
        Err(sqlx::Error::Database(report)) if report.code().is_some_and(|code| code == "08P01") => Ok(true),
        looked => looked,
    };
    if shared.pool.typed(session.end(shares), Phase::Read)? {
        let cause = "a pooler between this process and the server gives statements of one connection to several \
                     sessions of the server (pool_mode = transaction or statement)";
        let cure = "let the pooler work by sessions (pool_mode = session; at Supabase port 5432), or connect to \
                    the server itself";
        return Err(Finding::stops(FindingTopic::Pooler, cause, cure).into_error(ErrorKind::Config));
    }
    Ok(None)
}

/// Whether the two connections have one session of the server, or the first has several.
async fn shares_sessions(
    own: &mut PgConnection,
    other: &mut PgConnection,
) -> std::result::Result<bool, sqlx::Error> {
    let before = session_of(own).await?;
    sqlx::raw_sql("BEGIN").execute(&mut *other).await?;
    let others = session_of(other).await?;
    let shares = others == before || session_of(own).await? != before;
    sqlx::raw_sql("ROLLBACK").execute(other).await?;
    Ok(shares)
}

/// By the simple protocol: a prepared statement may be one of another client.
async fn session_of(connection: &mut PgConnection) -> std::result::Result<i32, sqlx::Error> {
    sqlx::raw_sql("SELECT pg_backend_pid()").fetch_one(connection).await?.try_get(0)
}

/// Does all that the cache will do, on a key of its own and in a transaction that is rolled back: a missing
/// right, function or table is found before a caller meets it.
pub(crate) async fn try_all(row: &NamespaceRow, id: i32) -> Result<()> {
    let mut session = row.shared.pool.session().await?;
    let connection = session.connection()?;
    let tried = async {
        sqlx::raw_sql("BEGIN").execute(&mut *connection).await?;
        let tried = try_statements(row, id, connection).await;
        let ended = sqlx::raw_sql("ROLLBACK").execute(&mut *connection).await;
        tried.and(ended.map(drop))
    }
    .await;
    // Nothing of it has happened, so no outcome is unknown.
    row.typed(session.end(tried), Phase::Read)
}

async fn try_statements(
    row: &NamespaceRow,
    id: i32,
    connection: &mut PgConnection,
) -> std::result::Result<(), sqlx::Error> {
    let statements = row.shared.statements();
    let role = row.namespace.role;
    let digest: [u8; 16] = std::array::from_fn(|_| fastrand::u8(..));
    let key = TierKey { bytes: bytes::Bytes::copy_from_slice(&digest), digest };
    let token = signed(Token::random().as_u64());
    let digests = vec![digest.as_slice()];
    let put = Op::Put {
        order: Order::Author(Condition::Always),
        deadlines: Deadlines::forever(Timestamp::from_millis(1)),
        body: Some(bytes::Bytes::new()),
        tombstone_ttl: Duration::from_secs(1),
    };
    write::run(row, id, connection, &[(key.clone(), put)]).await?;
    write::run(row, id, connection, &[(key, Op::Remove { tombstone_ttl: Duration::from_secs(1) })]).await?;
    sqlx::query(statements.of(role).get.clone())
        .bind(id)
        .bind(digest.as_slice())
        .fetch_all(&mut *connection)
        .await?;
    sqlx::query(statements.of(role).get_many.clone())
        .bind(id)
        .bind(&digests)
        .fetch_all(&mut *connection)
        .await?;
    if role == Role::Cache {
        sqlx::query(statements.lease.of(false).clone())
            .bind(id)
            .bind(&digests)
            .bind(&digests)
            .bind(vec![token])
            .bind(vec![1_000_i64])
            .bind(vec![None::<i64>])
            .bind(vec![None::<i64>])
            .fetch_all(&mut *connection)
            .await?;
        sqlx::query(statements.leases.keep_alive.clone())
            .bind(vec![token])
            .bind(1_000_i64)
            .bind(false)
            .execute(&mut *connection)
            .await?;
        sqlx::query(statements.leases.status.clone())
            .bind(vec![id])
            .bind(&digests)
            .bind(vec![token])
            .fetch_all(&mut *connection)
            .await?;
    }
    let server = sqlx::query(statements.outbox.server.clone()).fetch_one(&mut *connection).await?;
    sqlx::query(statements.outbox.read.clone())
        .bind(server.try_get::<&str, _>(2)?)
        .bind(vec![row.namespace.name.as_str()])
        .bind(true)
        .bind(1_i64)
        .fetch_all(connection)
        .await?;
    Ok(())
}
