//! A recorder writes which keys a cache is asked for, each request once.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use terrace_core::{Cache, ErrorKind, Recorder};
use terrace_tier_memory::Memory;

type Squares = Cache<u64, u64, Memory<u64, u64>>;

fn recorded(one_in: u32) -> (tempfile::TempDir, PathBuf, Recorder, Squares) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("requests.csv");
    let recorder = Recorder::new(&path).one_in(one_in).max_bytes(1 << 20);
    let cache = Cache::builder("squares").near(Memory::entries(1_000)).record(&recorder).build().unwrap();
    (folder, path, recorder, cache)
}

/// The operations of the file with their keys.
fn lines(path: &Path) -> Vec<(String, u64)> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.next(), Some("micros,op,key"));
    let line = |line: &str| {
        let [_, op, key] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
        (op.to_owned(), key.parse().unwrap())
    };
    lines.map(line).collect()
}

async fn square(cache: &Squares, key: u64) -> u64 {
    *cache.get_or_load(&key, || async move { Ok::<_, std::io::Error>(key * key) }).await.unwrap()
}

#[tokio::test]
async fn each_request_is_recorded_once_by_its_operation() {
    let (_folder, path, recorder, cache) = recorded(1);
    square(&cache, 7).await;
    recorder.start().unwrap();
    square(&cache, 7).await; // a near hit
    square(&cache, 8).await; // a miss
    cache.get(&7).await.unwrap();
    cache.get(&9).await.unwrap();
    cache.put(&7, 50).await.unwrap();
    cache.get_many(&[7, 9]).await.into_values().unwrap();
    cache.put_many(vec![(7, 49)]).await;
    cache.invalidate(&7).await.unwrap();
    cache.remove(&7).await.unwrap();
    cache.invalidate_many(&[8]).await;
    let found = recorder.stop().unwrap();
    cache.get(&7).await.unwrap();

    let lines = lines(&path);
    let ops: Vec<&str> = lines.iter().map(|(op, _)| op.as_str()).collect();
    let expected =
        ["get", "get", "get", "get", "put", "get", "get", "put", "invalidate", "remove", "invalidate"];
    assert_eq!(ops, expected);
    let keys = [7, 8, 7, 9, 7, 7, 9, 7, 7, 7, 8];
    let mut hashes = BTreeMap::new();
    for (key, (_, hash)) in keys.into_iter().zip(&lines) {
        assert_eq!(hashes.entry(key).or_insert(*hash), hash, "key {key}");
        assert_ne!(*hash, key);
    }
    assert_eq!(hashes.values().collect::<std::collections::BTreeSet<_>>().len(), 3);
    assert_eq!((found.requests, found.left_out, found.is_full), (11, 0, false));
    assert_eq!(found.bytes, std::fs::metadata(&path).unwrap().len());
}

#[tokio::test]
async fn it_is_switched_on_and_off_while_the_cache_runs() {
    let (_folder, path, recorder, cache) = recorded(1);
    for requests in [3, 1, 2] {
        assert!(!recorder.is_on());
        square(&cache, 1).await;
        recorder.start().unwrap();
        recorder.start().unwrap();
        for key in 0..requests {
            square(&cache, key).await;
        }
        assert!(recorder.is_on());
        assert_eq!(recorder.stop().unwrap().requests, requests);
        assert_eq!(lines(&path).len(), requests as usize);
    }
    assert_eq!(recorder.stop().unwrap().requests, 0);
}

#[tokio::test]
async fn a_sample_has_all_requests_of_one_key_in_many() {
    let (_folder, path, recorder, cache) = recorded(10);
    recorder.start().unwrap();
    for _ in 0..3 {
        for key in 0..5_000 {
            square(&cache, key).await;
        }
    }
    let found = recorder.stop().unwrap();
    let mut counts = BTreeMap::new();
    lines(&path).into_iter().for_each(|(_, key)| *counts.entry(key).or_insert(0) += 1);
    assert!((400..=600).contains(&counts.len()), "{} of 5,000 keys", counts.len());
    assert!(counts.values().all(|count| *count == 3));
    assert_eq!(found.requests, counts.len() as u64 * 3);
}

#[tokio::test]
async fn a_full_file_ends_the_recording_and_stays_within_its_bound() {
    let (_folder, path, recorder, cache) = recorded(1);
    let recorder = {
        // the bound of a clone is its own
        let small = recorder.clone().max_bytes(4 << 10);
        small.start().unwrap();
        small
    };
    for key in 0..10_000 {
        square(&cache, key).await;
    }
    while recorder.is_on() {
        square(&cache, 1).await;
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let found = recorder.stop().unwrap();
    assert!(found.is_full && found.requests > 50, "{found:?}");
    assert!(std::fs::metadata(&path).unwrap().len() <= 4 << 10);
}

#[tokio::test]
async fn a_file_that_cannot_be_made_or_written_is_named() {
    let recorder = Recorder::new("/no/such/folder/requests.csv");
    let error = recorder.start().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("/no/such/folder/requests.csv"), "{error}");
    assert!(!recorder.is_on());

    let full = Recorder::new("/dev/full").one_in(1);
    let cache: Squares = Cache::builder("squares").record(&full).build().unwrap();
    full.start().unwrap();
    square(&cache, 1).await;
    let error = full.stop().unwrap_err().to_string();
    assert!(error.contains("/dev/full"), "{error}");
}
