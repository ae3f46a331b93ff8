//! A front in a file: what is acknowledged survives the process.

use std::path::Path;

use terrace_conformance::Fake;
use terrace_core::{
    ErrorKind,
    policy::{Backlog, FrontPlace, WhenFull},
};
use terrace_tier::Role;

use super::{Behind, has, plan};
use crate::support::{Stack, builder, ms};

fn open(path: &Path, store: &Fake) -> terrace_core::Result<Stack> {
    let mut plan = plan();
    plan.place = FrontPlace::File(path.to_owned());
    plan.cap = Backlog::bytes(1 << 20).when_full(WhenFull::Reject);
    builder().write(Behind(plan)).store(store.another_handle()).build()
}

/// Copies the directory of a journal, as a backup or a clone of a machine does.
fn cloned(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Drops a cache as the death of its process does, and waits until the directory is free.
async fn killed(cache: Stack, path: &Path, store: &Fake) -> Stack {
    drop(cache);
    for _ in 0..1_000 {
        match open(path, store) {
            Ok(cache) => return cache,
            Err(error) => assert_eq!(error.kind(), ErrorKind::NamespaceInUse, "{error}"),
        }
        tokio::time::sleep(ms(5)).await;
    }
    panic!("the directory did not become free")
}

#[tokio::test]
async fn what_was_acknowledged_is_read_and_flushed_after_a_restart() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Fake::named("postgres"));
    let path = folder.path().join("users");
    let cache = open(&path, &store).unwrap();
    cache.put("kept", 1).await.unwrap();
    cache.put("removed", 1).await.unwrap();
    cache.flush().await.unwrap();
    store.set_down(true);
    cache.put("kept", 2).await.unwrap();
    cache.put("kept", 3).await.unwrap();
    cache.remove("removed").await.unwrap();
    cache.put("new", 4).await.unwrap();
    let cache = killed(cache, &path, &store).await;
    assert_eq!(cache.backlog().keys, 3);
    assert_eq!(cache.get("kept").await.unwrap().unwrap(), 3);
    assert!(cache.get("removed").await.unwrap().is_none());
    assert_eq!(cache.put("new", 5).await.unwrap_err().kind(), ErrorKind::Unavailable, "the term is not open");
    store.set_down(false);
    cache.put("new", 6).await.unwrap();
    cache.flush().await.unwrap();
    assert!(!has(&store, Role::Store, "removed").await);
    let reader = builder().store(store.another_handle()).build().unwrap();
    assert_eq!(reader.get("kept").await.unwrap().unwrap(), 3);
    assert_eq!(reader.get("new").await.unwrap().unwrap(), 6);
}

#[tokio::test]
async fn what_a_journal_restored_is_flushed_without_a_write() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Fake::named("postgres"));
    let path = folder.path().join("users");
    let cache = open(&path, &store).unwrap();
    cache.put("first", 0).await.unwrap();
    cache.flush().await.unwrap();
    store.set_down(true);
    cache.put("k", 1).await.unwrap();
    let cache = killed(cache, &path, &store).await;
    store.set_down(false);
    cache.get("first").await.unwrap();
    for _ in 0..500 {
        if cache.backlog().keys == 0 {
            break;
        }
        tokio::time::sleep(ms(5)).await;
    }
    assert!(has(&store, Role::Store, "k").await);
    assert_eq!(cache.backlog().term.map(terrace_tier::Term::as_u64), Some(2));
}

#[tokio::test]
async fn a_clone_of_the_directory_is_fenced_and_its_writes_are_dead_letters() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Fake::named("postgres"));
    let (path, copy) = (folder.path().join("users"), folder.path().join("copy"));
    let cache = open(&path, &store).unwrap();
    cache.put("k", 1).await.unwrap();
    cache.flush().await.unwrap();
    store.set_down(true);
    cache.put("k", 2).await.unwrap();
    cloned(&path, &copy);
    let cache = killed(cache, &path, &store).await;
    store.set_down(false);
    cache.put("k", 3).await.unwrap();
    cache.flush().await.unwrap();

    let clone = open(&copy, &store).unwrap();
    assert_eq!(clone.put("other", 9).await.unwrap_err().kind(), ErrorKind::FrontLost);
    assert_eq!(
        clone.get("k").await.unwrap().unwrap(),
        3,
        "the clone reads the record, not its own old write"
    );
    assert_eq!(clone.dead_letters().list().len(), 1);
    assert_eq!(clone.backlog().dead, 1);
    let reader = builder().store(store.another_handle()).build().unwrap();
    assert_eq!(reader.get("k").await.unwrap().unwrap(), 3);

    // By force the clone becomes the front. Its old write gives way, and the other front is fenced.
    clone.take_over().await.unwrap();
    clone.flush().await.unwrap();
    assert_eq!(clone.stats().writes_gave_way, 1);
    clone.put("other", 9).await.unwrap();
    clone.flush().await.unwrap();
    cache.put("k", 4).await.unwrap();
    assert_eq!(cache.flush().await.unwrap_err().kind(), ErrorKind::FrontLost);
}

#[tokio::test]
async fn a_close_that_leaves_nothing_gives_the_namespace_back() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Fake::named("postgres"));
    let path = folder.path().join("users");
    let cache = open(&path, &store).unwrap();
    cache.put("k", 1).await.unwrap();
    assert_eq!(cache.close_within(ms(5_000)).await.keys, 0);
    let direct = builder().store(store.another_handle()).build().unwrap();
    direct.put("k", 2).await.unwrap();
    let again = open(&path, &store).unwrap();
    again.put("k", 3).await.unwrap();
    assert_eq!(direct.put("k", 4).await.unwrap_err().kind(), ErrorKind::NamespaceInUse);
    again.flush().await.unwrap();
    assert_eq!(direct.with(terrace_core::Level::Strong).get("k").await.unwrap().unwrap(), 3);
}

#[tokio::test]
async fn a_close_that_leaves_something_keeps_it_for_the_next_start() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Fake::named("postgres"));
    let path = folder.path().join("users");
    let cache = open(&path, &store).unwrap();
    cache.put("first", 0).await.unwrap();
    cache.flush().await.unwrap();
    store.set_down(true);
    cache.put("k", 1).await.unwrap();
    assert_eq!(cache.close_within(ms(100)).await.keys, 1);
    store.set_down(false);
    let again = open(&path, &store).unwrap();
    assert_eq!(again.get("k").await.unwrap().unwrap(), 1);
    again.ready().await.unwrap();
    again.flush().await.unwrap();
    assert!(has(&store, Role::Store, "k").await);
}

#[tokio::test]
async fn one_directory_is_for_one_open_cache_of_one_namespace() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Fake::named("postgres"));
    let path = folder.path().join("users");
    let _cache = open(&path, &store).unwrap();
    let error = open(&path, &store).expect_err("a second opener");
    assert_eq!(error.kind(), ErrorKind::NamespaceInUse);
    assert!(error.to_string().contains("users"), "{error}");
}

#[tokio::test]
async fn puts_of_many_callers_share_syncs_and_the_newest_is_kept() {
    let (folder, store) = (tempfile::tempdir().unwrap(), Fake::named("postgres"));
    let path = folder.path().join("users");
    let cache = open(&path, &store).unwrap();
    cache.put("k", 0).await.unwrap();
    cache.flush().await.unwrap();
    store.set_down(true);
    let callers = (1..=200).map(|value| {
        let cache = cache.clone();
        async move { (cache.put("k", value).await.unwrap(), value) }
    });
    let newest = futures_util::future::join_all(callers).await.into_iter().max().unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), newest.1);
    let cache = killed(cache, &path, &store).await;
    assert_eq!(cache.get("k").await.unwrap().unwrap(), newest.1);
}
