//! SQLite works in threads of its own, and does not depend on tokio's clock.

use std::time::Duration;

use bytes::Bytes;
use terrace_tier::{
    Backend, Condition, Deadlines, Level, Namespace, Op, Order, Reply, Role, Scope, TierKey, Timestamp,
};
use terrace_tier_sqlite::Sqlite;

fn key(number: u64) -> TierKey {
    let bytes = Bytes::from(number.to_be_bytes().to_vec());
    TierKey { digest: Scope::new("paused", None).digest(&bytes), bytes }
}

fn put() -> Op {
    Op::Put {
        order: Order::Author(Condition::Always),
        deadlines: Deadlines::forever(Timestamp::default()),
        body: Some(Bytes::from_static(b"value")),
        tombstone_ttl: Duration::from_secs(60),
    }
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_ends_no_call_and_does_not_move() {
    let folder = tempfile::tempdir().unwrap();
    let file = Sqlite::file(folder.path().join("terrace.db")).unwrap();
    for sqlite in [Sqlite::memory(), file] {
        for role in [Role::Cache, Role::Store] {
            let began = tokio::time::Instant::now();
            let namespace = Namespace::new(format!("{role:?}"), role).with_level(Level::Fenced);
            let tier = sqlite.open(&namespace.with_budget(Duration::from_secs(5))).unwrap();
            tier.ready().await.unwrap();
            for number in 0..50 {
                tier.apply(&key(number), put()).await.unwrap();
                assert!(matches!(tier.apply(&key(number), Op::Get).await.unwrap(), Reply::Hit(_)));
            }
            let batch = (0..50).map(|number| (key(number), put())).collect();
            assert!(tier.apply_many(batch).await.iter().all(Result::is_ok));
            tier.clear().await.unwrap();
            tier.ping().await.unwrap();
            assert_eq!(began.elapsed(), Duration::ZERO, "no timer of tokio was waited for");
        }
    }
}

#[test]
fn a_handle_serves_one_runtime_after_another() {
    let namespace = Namespace::new("runtimes", Role::Store).with_budget(Duration::from_secs(5));
    let tier = Sqlite::memory().open(&namespace).unwrap();
    for number in 0..20 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tier.apply(&key(number), put()).await.unwrap();
            assert!(matches!(tier.apply(&key(0), Op::Get).await.unwrap(), Reply::Hit(_)));
        });
    }
}
