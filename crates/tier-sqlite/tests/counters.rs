//! The counters of SQLite pass the suite, and outlive the handle.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use terrace_conformance::check_counters;
use terrace_tier::Backend;
use terrace_tier_sqlite::Sqlite;

#[tokio::test]
async fn counters_are_shared_and_bounded() {
    let memory = Sqlite::memory();
    check_counters(&memory, &memory, "memory").await;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("counters.db");
    let file = Sqlite::file(&path).unwrap();
    check_counters(&file, &file, "file").await;
    drop(file);
    let file = Sqlite::file(&path).unwrap();
    let sums = file.counters("file").unwrap().read().await.unwrap();
    assert!(sums.contains(&("m:hits".to_owned(), 42)), "{sums:?}");
}
