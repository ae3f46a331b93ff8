//! Postgres passes the suite in both roles.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use terrace_conformance::suite::Subject;
use terrace_testbed::shared_postgres;
use terrace_tier_postgres::Postgres;
use tokio::sync::OnceCell;

/// One database for all cases: each has namespaces of its own.
static DATABASE: OnceCell<String> = OnceCell::const_new();

async fn postgres() -> Subject {
    let url = DATABASE.get_or_init(async || shared_postgres().await.expect("a server")).await;
    // The suite's own budgets decide, also on a busy machine.
    let patience = Duration::from_secs(60);
    let handle = || Postgres::builder(url).statement_timeout(patience).build().expect("a handle");
    Subject::new(handle()).second(handle()).evict(move |_, key| {
        Box::pin(async move {
            let mut connection = PgConnection::connect(url).await.expect("a connection");
            sqlx::query("DELETE FROM terrace.cache_entries WHERE digest = $1")
                .bind(key.digest)
                .execute(&mut connection)
                .await
                .expect("a deletion");
        })
    })
}

terrace_conformance::tier_suite!(postgres);
terrace_conformance::tier_suite!(postgres, evict);
terrace_conformance::tier_suite!(postgres, processes);
