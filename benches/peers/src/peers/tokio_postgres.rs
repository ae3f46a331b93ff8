//! The raw Postgres client tokio-postgres, which sends the statements of concurrent callers one after the other
//! without a wait between them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio_postgres::{Client, NoTls, Statement};

use super::sqlx::{POOL, Raw};
use crate::{
    Result,
    data::{User, key},
    peer::Peer,
    work::{loaders::SELECT, remote::Remote},
};

/// What is said of it.
pub const PEER: Peer = Peer {
    name: "tokio-postgres",
    package: "tokio-postgres",
    leaves_out: "the cache: near tier, single flight, fences, versions, outbox",
};

/// As many connections as the pools of the other sides have; callers take turns on them.
#[derive(Clone)]
pub struct Pipelined {
    sessions: Arc<Vec<Session>>,
    next: Arc<AtomicUsize>,
}

struct Session {
    client: Client,
    select: Statement,
    upsert: Statement,
}

impl Pipelined {
    /// Connects to the database at `url`, in which [`make_table`](super::sqlx::make_table) made the table.
    ///
    /// # Errors
    /// The server is not there.
    pub async fn connect(url: &str) -> Result<Self> {
        let mut sessions = Vec::new();
        for _ in 0..POOL {
            let (client, connection) = tokio_postgres::connect(url, NoTls).await?;
            tokio::spawn(connection);
            let (select, upsert) = (client.prepare(SELECT).await?, client.prepare(Raw::UPSERT).await?);
            sessions.push(Session { client, select, upsert });
        }
        Ok(Self { sessions: Arc::new(sessions), next: Arc::default() })
    }

    fn session(&self) -> &Session {
        &self.sessions[self.next.fetch_add(1, Ordering::Relaxed) % self.sessions.len()]
    }
}

impl Remote for Pipelined {
    async fn get(&self, n: usize) -> Result<u64> {
        let session = self.session();
        let row = session.client.query_one(&session.select, &[&key(n)]).await?;
        Ok(User::decode(row.get(0))?.id)
    }

    async fn put(&self, n: usize) -> Result<()> {
        let session = self.session();
        let body = User::new(n).encode()?;
        session.client.execute(&session.upsert, &[&key(n), &body]).await?;
        Ok(())
    }
}
