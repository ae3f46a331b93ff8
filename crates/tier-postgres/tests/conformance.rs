//! Postgres passes the conformance suite in both roles.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

use std::time::Duration;

use sqlx::{Connection, PgConnection};
use terrace_conformance::suite::Subject;
use terrace_testbed::shared_postgres;
use terrace_tier_postgres::Postgres;
use tokio::sync::OnceCell;

/// One database for all cases: each case has namespaces of its own.
static DATABASE: OnceCell<String> = OnceCell::const_new();

/// Cells are evicted by SQL, which may come before the first call of a tier.
async fn prepared() -> String {
    let url = shared_postgres().await.expect("a server");
    Postgres::new(&url).expect("a handle").prepare().await.expect("the schema");
    url
}

async fn postgres() -> Subject {
    let url = DATABASE.get_or_init(prepared).await;
    // The timeout is so long that only the suite's own budgets matter, on a busy machine too.
    let timeout = Duration::from_secs(60);
    let handle = || Postgres::builder(url).statement_timeout(timeout).build().expect("a handle");
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
terrace_conformance::tier_suite!(postgres, lease_waiter);
terrace_conformance::tier_suite!(postgres, front);
terrace_conformance::machine!(postgres, cases = 12);

/// A database for each case, since a loss is reported to all followers.
async fn logged() -> Subject {
    let url = shared_postgres().await.expect("a server");
    let handle = || Postgres::new(&url).expect("a handle");
    let (first, second) = (handle(), handle());
    Subject::new(first).second(second).lose_log(move |namespace| {
        let url = url.clone();
        Box::pin(async move {
            let mut connection = PgConnection::connect(&url).await.expect("a connection");
            // One row more than a follower reads at once.
            sqlx::query("INSERT INTO terrace.outbox (namespace) SELECT $1 FROM generate_series(1, 10001)")
                .bind(namespace.name)
                .execute(&mut connection)
                .await
                .expect("rows");
        })
    })
}

terrace_conformance::tier_suite!(logged, log);
terrace_conformance::tier_suite!(logged, store_log);
