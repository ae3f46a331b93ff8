//! Helpers that the tests of the Postgres tier share.
#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

pub(crate) mod follower;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use sqlx::{Connection, PgConnection};
use terrace_tier::{Backend, Condition, Deadlines, Namespace, Op, Order, Role, Tier, TierKey, Timestamp};
use terrace_tier_postgres::Postgres;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn namespace(role: Role) -> Namespace {
    Namespace::new("users", role).with_type(1, 7).with_budget(Duration::from_secs(10))
}

pub(crate) fn open(url: &str, role: Role) -> Arc<dyn Tier> {
    Postgres::new(url).expect("a URL").open(&namespace(role)).expect("a tier")
}

pub(crate) fn key(number: u64) -> TierKey {
    let mut digest = [0; 16];
    digest[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    digest[8..].copy_from_slice(&number.to_be_bytes());
    TierKey { bytes: Bytes::copy_from_slice(&number.to_be_bytes()), digest }
}

pub(crate) fn put(body: &'static str) -> Op {
    put_if(Condition::Always, body)
}

pub(crate) fn put_if(condition: Condition, body: &'static str) -> Op {
    Op::Put {
        order: Order::Author(condition),
        deadlines: Deadlines::forever(Timestamp::from_millis(1)),
        body: Some(Bytes::from_static(body.as_bytes())),
        tombstone_ttl: HOUR,
    }
}

pub(crate) async fn connect(url: &str) -> PgConnection {
    PgConnection::connect(url).await.expect("a connection")
}

pub(crate) async fn run(url: &str, sql: &'static str) {
    sqlx::raw_sql(sql).execute(&mut connect(url).await).await.expect(sql);
}

/// Runs `sql` as the superuser of the shared server, for what only an operator may do.
pub(crate) async fn run_as_superuser(url: &str, sql: &str) {
    let superuser = terrace_testbed::shared_postgres_superuser(url).await.expect("a URL");
    let sql = sqlx::AssertSqlSafe(sql.to_owned());
    sqlx::raw_sql(sql).execute(&mut connect(&superuser).await).await.expect("an operator's statement");
}

/// Makes a role that may log in and nothing else, and gives the URL for it. Its name is unique on the server.
pub(crate) async fn make_role(url: &str) -> (String, String) {
    let role = terrace_testbed::unique_name("role");
    let parsed = url::Url::parse(url).expect("a URL");
    let password = parsed.password().map(|password| format!(" PASSWORD '{password}'")).unwrap_or_default();
    run_as_superuser(url, &format!("CREATE ROLE {role} LOGIN{password}")).await;
    let mut parsed = parsed;
    parsed.set_username(&role).expect("a user");
    (parsed.into(), role)
}
