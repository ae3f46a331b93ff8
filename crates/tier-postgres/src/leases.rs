//! Waiting at Postgres: looks, signs of life, and leases given back, one statement each for all
//! leases of a process.
//!
//! Nothing announces a fill: a process that waits looks, at first often and then less.

use std::time::Duration;

use terrace_tier::{
    Result,
    lease::{LeaseBackend, LeaseRef, LeaseStatus, LeaseTracker, PollInterval},
};

use crate::{
    error::{During, typed},
    number::{length, signed},
    pool::{Pool, Session},
    statements::LeaseStatements,
};

/// A quarter of the time waited, and at most this often or seldom.
const PACE: PollInterval = PollInterval::new(Duration::from_millis(10), Duration::from_millis(100));
/// For so long a lease is said to be given back; then it is silent.
const GIVEN_BACK_FOR: Duration = Duration::from_secs(60);

/// Where a lease is: the number of its space, and its key's digest.
pub(crate) type Place = (i32, [u8; 16]);

/// The server as those who wait use it.
pub(crate) struct PostgresLeases {
    pool: Pool,
    statements: LeaseStatements,
}

impl PostgresLeases {
    pub(crate) fn inbox(pool: &Pool, statements: &LeaseStatements) -> LeaseTracker<Self> {
        LeaseTracker::new(Self { pool: pool.clone(), statements: statements.clone() }, PACE)
    }

    async fn session(&self) -> Result<Session> {
        self.pool.session().await.map_err(|error| typed(error, During::Connect))
    }

    async fn sign_all(&self, leases: &[LeaseRef<Place>], given_back: bool, life: Duration) -> Result<()> {
        // In one order, so that two processes never wait for each other in a circle.
        let mut tokens: Vec<i64> = leases.iter().map(|lease| signed(lease.token.as_u64())).collect();
        tokens.sort_unstable();
        let mut session = self.session().await?;
        let done = sqlx::query(self.statements.sign.clone())
            .bind(tokens)
            .bind(length(life))
            .bind(given_back)
            .execute(session.connection()?)
            .await;
        session.end(done).map(drop).map_err(|error| typed(error, During::Write))
    }
}

impl LeaseBackend for PostgresLeases {
    type Address = Place;

    async fn poll(&self, leases: &[LeaseRef<Place>]) -> Result<Vec<LeaseStatus>> {
        let (spaces, digests): (Vec<i32>, Vec<&[u8]>) =
            leases.iter().map(|lease| (lease.address.0, lease.address.1.as_slice())).unzip();
        let tokens: Vec<i64> = leases.iter().map(|lease| signed(lease.token.as_u64())).collect();
        let mut session = self.session().await?;
        let found: Result<Vec<i8>, sqlx::Error> = sqlx::query_scalar(self.statements.look.clone())
            .bind(spaces)
            .bind(digests)
            .bind(tokens)
            .fetch_all(session.connection()?)
            .await;
        let found = session.end(found).map_err(|error| typed(error, During::Read))?;
        Ok(found.into_iter().map(sight).collect())
    }

    async fn keep_alive(&self, leases: &[LeaseRef<Place>], life: Duration) -> Result<()> {
        self.sign_all(leases, false, life).await
    }

    async fn release(&self, lease: &LeaseRef<Place>) -> Result<()> {
        self.sign_all(std::slice::from_ref(lease), true, GIVEN_BACK_FOR).await
    }
}

fn sight(letter: i8) -> LeaseStatus {
    match letter.cast_unsigned() {
        b'A' => LeaseStatus::Alive,
        b'F' => LeaseStatus::Free,
        b'S' => LeaseStatus::Silent,
        _ => LeaseStatus::Changed,
    }
}
