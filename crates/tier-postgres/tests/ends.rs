//! Every row that the library writes for itself has an end or a bound: docs/operations.md lists the tables.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use support::{connect, key, namespace, open, put};
use terrace_testbed::shared_postgres;
use terrace_tier::{Backend, Op, Reply, Role};
use terrace_tier_postgres::Postgres;

#[tokio::test]
async fn every_table_is_listed() {
    let url = shared_postgres().await.expect("a server");
    Postgres::new(&url).expect("a URL").prepare().await.expect("a schema");
    let tables =
        "SELECT relname FROM pg_class WHERE relnamespace = 'terrace'::regnamespace AND relkind = 'r'";
    let tables: Vec<String> =
        sqlx::query_scalar(tables).fetch_all(&mut connect(&url).await).await.expect("tables");
    assert!(tables.len() >= 8, "{tables:?}");
    let guide = include_str!("../../../docs/operations.md");
    for table in tables {
        assert!(guide.contains(&format!("| `{table}` |")), "{table} is not in the guide");
    }
}

#[tokio::test]
async fn the_row_of_a_tenant_may_be_deleted_and_is_made_again() {
    let url = shared_postgres().await.expect("a server");
    let tenant = namespace(Role::Cache).with_tenant(Some("left".to_owned()));
    let tier = Postgres::new(&url).expect("a URL").open(&tenant).expect("a tier");
    let other = open(&url, Role::Cache);
    tier.apply(&key(1), put("old")).await.expect("a copy");
    other.apply(&key(1), put("other")).await.expect("a copy");
    let delete = "DELETE FROM terrace.spaces WHERE tenant = 'left' AND role = 'cache'";
    let deleted = sqlx::query(delete).execute(&mut connect(&url).await).await.expect("a row");
    assert_eq!(deleted.rows_affected(), 1);
    assert!(!matches!(tier.apply(&key(1), Op::Get).await, Ok(Reply::Hit(_))), "its copies went with it");
    // The first write says that the row is gone, and the next one makes it again.
    let error = tier.apply(&key(1), put("new")).await.expect_err("no row");
    assert!(error.is_transient(), "{error}");
    tier.apply(&key(1), put("new")).await.expect("a copy");
    assert!(
        matches!(tier.apply(&key(1), Op::Get).await, Ok(Reply::Hit(hit)) if hit.body == Some("new".into()))
    );
    assert!(matches!(other.apply(&key(1), Op::Get).await, Ok(Reply::Hit(_))), "others keep theirs");
}
