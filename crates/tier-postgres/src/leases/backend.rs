//! Polls, keeps alive and releases leases: one statement for all leases of a process.
//!
//! The server does not announce a fill. A process that waits for a lease polls, often at first and then
//! less often.

use std::time::Duration;

use terrace_tier::{
    NamespaceRegistry, Result,
    lease::{LeaseBackend, LeaseRef, LeaseStatus, LeaseTracker, PollInterval},
};

use crate::{
    connection::pool::Pool,
    error::{NAME, Phase},
    sql::{
        numbers::{millis, signed},
        statements::LeaseStatements,
    },
};

/// The limits of the time between two polls.
const POLL_INTERVAL: PollInterval = PollInterval::new(Duration::from_millis(10), Duration::from_millis(100));
/// How long the row of a released lease lives; after that the lease counts as silent.
const RELEASED_LIFETIME: Duration = Duration::from_secs(60);

/// The address of a lease's cell: the id of its namespace, and the digest of its key.
pub(crate) type CellAddress = (i32, [u8; 16]);

/// The server, as the leases of a process use it.
pub(crate) struct PostgresLeases {
    pool: Pool,
    statements: LeaseStatements,
    namespaces: NamespaceRegistry,
}

impl PostgresLeases {
    pub(crate) fn tracker(
        pool: &Pool,
        statements: &LeaseStatements,
        namespaces: NamespaceRegistry,
    ) -> LeaseTracker<Self> {
        let (pool, statements) = (pool.clone(), statements.clone());
        LeaseTracker::new(Self { pool, statements, namespaces }, POLL_INTERVAL)
    }

    /// Records a keep-alive, or the release, of each lease for this time.
    async fn record(
        &self,
        leases: &[LeaseRef<CellAddress>],
        released: bool,
        lifetime: Duration,
    ) -> Result<()> {
        // Sorted, so that two processes that lock the same rows cannot deadlock.
        let mut tokens: Vec<i64> = leases.iter().map(|lease| signed(lease.token.as_u64())).collect();
        tokens.sort_unstable();
        let mut session = self.pool.session().await?;
        let done = sqlx::query(self.statements.keep_alive.clone())
            .bind(tokens)
            .bind(millis(lifetime))
            .bind(released)
            .execute(session.connection()?)
            .await;
        self.pool.typed(session.end(done), Phase::Write).map(drop)
    }
}

impl LeaseBackend for PostgresLeases {
    type Address = CellAddress;

    fn log_names(&self) -> (&str, String) {
        (NAME, self.namespaces.names())
    }

    async fn poll(&self, leases: &[LeaseRef<CellAddress>]) -> Result<Vec<LeaseStatus>> {
        let (namespaces, digests): (Vec<i32>, Vec<&[u8]>) =
            leases.iter().map(|lease| (lease.address.0, lease.address.1.as_slice())).unzip();
        let tokens: Vec<i64> = leases.iter().map(|lease| signed(lease.token.as_u64())).collect();
        let mut session = self.pool.session().await?;
        let letters: Result<Vec<i8>, sqlx::Error> = sqlx::query_scalar(self.statements.status.clone())
            .bind(namespaces)
            .bind(digests)
            .bind(tokens)
            .fetch_all(session.connection()?)
            .await;
        let letters = self.pool.typed(session.end(letters), Phase::Read)?;
        Ok(letters.into_iter().map(status).collect())
    }

    async fn keep_alive(&self, leases: &[LeaseRef<CellAddress>], lifetime: Duration) -> Result<()> {
        self.record(leases, false, lifetime).await
    }

    async fn release(&self, lease: &LeaseRef<CellAddress>) -> Result<()> {
        self.record(std::slice::from_ref(lease), true, RELEASED_LIFETIME).await
    }
}

fn status(letter: i8) -> LeaseStatus {
    match letter.cast_unsigned() {
        b'A' => LeaseStatus::Alive,
        b'F' => LeaseStatus::Free,
        b'S' => LeaseStatus::Silent,
        _ => LeaseStatus::Changed,
    }
}
