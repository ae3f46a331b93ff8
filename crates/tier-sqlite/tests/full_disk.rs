//! A file that cannot grow: writes are typed errors, nothing is lost, and the tier is back by itself.
#![allow(clippy::expect_used, reason = "a failed preparation fails the test")]

use std::{path::Path, process::Command, sync::Arc, time::Duration};

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use terrace_tier::{
    Backend, Condition, Deadlines, ErrorKind, Namespace, Op, Order, Reply, Role, Tier, TierKey, Timestamp,
};
use terrace_tier_sqlite::Sqlite;

/// The largest size of a file. Beyond it a write fails, as it does on a full disk.
const LIMIT_BYTES: u64 = 512 * 1024;
const BODY_BYTES: usize = 4_000;
/// More than fits.
const RECORDS: u64 = 500;

fn open(path: &Path) -> (Arc<dyn Tier>, Arc<dyn Tier>) {
    let handle = Sqlite::file(path).expect("the only handle");
    let open = |name: &str, role| {
        let namespace = Namespace::new(name, role).with_type(1, 7).with_budget(Duration::from_secs(10));
        handle.open(&namespace).expect("a tier")
    };
    (open("records", Role::Store), open("copies", Role::Cache))
}

fn key(number: u64) -> TierKey {
    let mut digest = [0; 16];
    digest[8..].copy_from_slice(&number.to_be_bytes());
    TierKey { bytes: Bytes::copy_from_slice(&number.to_be_bytes()), digest }
}

fn body(number: u64) -> Bytes {
    Bytes::from(format!("{number:0BODY_BYTES$}"))
}

fn put(number: u64) -> Op {
    Op::Put {
        order: Order::Author(Condition::Always),
        deadlines: Deadlines::forever(Timestamp::from_millis(1)),
        body: Some(body(number)),
        tombstone_ttl: Duration::from_secs(60),
    }
}

async fn is_there(tier: &Arc<dyn Tier>, number: u64) -> bool {
    let found = tier.apply(&key(number), Op::Get).await.expect("reads work on a full disk");
    matches!(found, Reply::Hit(hit) if hit.body == Some(body(number)))
}

/// The limit is that of a whole process, so a second one that runs this same test has it.
#[tokio::test]
async fn a_file_that_cannot_grow_loses_nothing_and_is_used_again() {
    const PATH: &str = "TERRACE_SQLITE_FULL";
    if let Some(path) = std::env::var_os(PATH) {
        return fill(Path::new(&path)).await;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("terrace.db");
    // A signal of the system would end the process at the limit. The error of the write is wanted.
    let limited = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$0\" --exact \"$1\" --nocapture"])
        .arg(std::env::current_exe().expect("this test"))
        .arg("a_file_that_cannot_grow_loses_nothing_and_is_used_again")
        .env(PATH, &path)
        .output()
        .expect("a process");
    let output = String::from_utf8_lossy(&limited.stdout);
    assert!(limited.status.success(), "{output}{}", String::from_utf8_lossy(&limited.stderr));
    let line = output.lines().find_map(|line| line.split_once("acknowledged ")).expect("it has printed them");
    let acknowledged: Vec<u64> = line.1.split(',').map(|number| number.parse().expect("a number")).collect();
    let (records, _) = open(&path);
    for number in acknowledged {
        assert!(is_there(&records, number).await, "{number} is lost");
    }
}

/// Writes until the file cannot grow, and then on without the limit.
async fn fill(path: &Path) {
    let (records, copies) = open(path);
    let hard = getrlimit(Resource::Fsize).maximum;
    let limit = |current| setrlimit(Resource::Fsize, Rlimit { current, maximum: hard }).expect("a limit");
    limit(Some(LIMIT_BYTES));
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for number in 0..RECORDS {
        let tier = if number % 5 == 0 { &copies } else { &records };
        match tier.apply(&key(number), put(number)).await {
            Ok(_) if number % 5 != 0 => acknowledged.push(number),
            Ok(_) => {}
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
                assert!(error.to_string().contains("grow") || error.to_string().contains("full"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(acknowledged.len() > 10 && refused > 10, "{} taken, {refused} refused", acknowledged.len());
    for number in &acknowledged {
        assert!(is_there(&records, *number).await, "{number} is lost while the disk is full");
    }
    limit(hard);
    for number in RECORDS..RECORDS + 20 {
        records.apply(&key(number), put(number)).await.expect("the disk has space again");
        acknowledged.push(number);
    }
    copies.clear().await.expect("done");
    for number in &acknowledged {
        assert!(is_there(&records, *number).await, "{number} is lost afterwards");
    }
    let numbers: Vec<String> = acknowledged.iter().map(u64::to_string).collect();
    println!("acknowledged {}", numbers.join(","));
}
