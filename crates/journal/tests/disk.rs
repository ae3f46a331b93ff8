//! The journal in a real directory.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{fs, path::Path, sync::Arc};

use support::*;
use tempfile::tempdir;
use terrace_journal::{Address, Journal, JournalError, JournalOptions, Recovered, Write};

async fn open(path: &Path) -> (Journal, Recovered) {
    Journal::open(path, options()).await.unwrap()
}

#[tokio::test]
async fn what_was_acknowledged_and_is_not_settled_comes_back() {
    let folder = tempdir().unwrap();
    let path = folder.path().join("of/users");
    let (journal, recovered) = open(&path).await;
    assert!(recovered.writes.is_empty() && recovered.front.nonces.is_empty());
    let tenant =
        Write { address: Address { tenant: Some(Arc::from("acme")), ..address("1") }, ..put("1", 3, b"t") };
    for write in [put("1", 1, b"one"), put("2", 2, b"two"), tenant.clone(), removal("2", 4), put("3", 5, b"")]
    {
        journal.write(write).unwrap().await.unwrap();
    }
    journal.settled(address("3"), version(5)).unwrap();
    journal.dead(address("2"), version(4), "the store refused it").unwrap().await.unwrap();
    journal.close().await;

    let (journal, recovered) = open(&path).await;
    assert_eq!(writes(&recovered), [put("1", 1, b"one"), removal("2", 4), tenant]);
    assert_eq!((recovered.high, recovered.torn_bytes), (version(5), 0));
    let dead = recovered.writes.iter().find(|found| found.dead.is_some()).unwrap();
    assert_eq!((dead.write.version, dead.dead.as_deref()), (version(4), Some("the store refused it")));
    journal.retried(address("2"), version(4)).unwrap().await.unwrap();
    journal.close().await;
    let (_journal, recovered) = open(&path).await;
    assert!(recovered.writes.iter().all(|found| found.dead.is_none()));
}

#[tokio::test]
async fn an_older_version_that_is_settled_leaves_the_newer_write() {
    let folder = tempdir().unwrap();
    let (journal, _) = open(folder.path()).await;
    for write in [put("1", 1, b"one"), put("1", 2, b"two")] {
        journal.write(write).unwrap().await.unwrap();
    }
    journal.settled(address("1"), version(1)).unwrap();
    journal.close().await;
    assert_eq!(writes(&open(folder.path()).await.1), [put("1", 2, b"two")]);
}

#[tokio::test]
async fn a_second_opener_is_refused_until_the_first_has_closed() {
    let folder = tempdir().unwrap();
    let (journal, _) = open(folder.path()).await;
    assert!(matches!(Journal::open(folder.path(), options()).await, Err(JournalError::InUse)));
    journal.close().await;
    assert!(matches!(journal.write(put("1", 1, b"")), Err(JournalError::Closed)));
    journal.close().await;
    open(folder.path()).await;
}

#[tokio::test]
async fn the_journal_of_another_namespace_is_refused() {
    let folder = tempdir().unwrap();
    open(folder.path()).await.0.close().await;
    let other = Journal::open(folder.path(), JournalOptions::new("orders")).await;
    assert!(matches!(other, Err(JournalError::OtherNamespace { namespace }) if namespace == "users"));
}

#[tokio::test]
async fn the_front_is_known_by_its_last_success_and_what_may_have_come_after() {
    let folder = tempdir().unwrap();
    let (journal, recovered) = open(folder.path()).await;
    let id = recovered.front.id;
    assert_ne!(id, 0);
    journal.intend(7).unwrap().await.unwrap();
    journal.granted(7, 3).unwrap().await.unwrap();
    for nonce in 100..150 {
        journal.intend(nonce).unwrap().await.unwrap();
    }
    journal.close().await;
    let (_journal, recovered) = open(folder.path()).await;
    let nonces: Vec<u64> = [7].into_iter().chain(135..150).collect();
    assert_eq!((recovered.front.id, recovered.front.term, recovered.front.nonces), (id, 3, nonces));
}

#[tokio::test]
async fn a_journal_that_is_opened_again_and_again_keeps_one_segment() {
    let folder = tempdir().unwrap();
    for number in 1..20 {
        let (journal, _) = open(folder.path()).await;
        journal.write(put("1", number, b"value")).unwrap().await.unwrap();
        journal.close().await;
    }
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["00000001.seg", "lock"]);
}
