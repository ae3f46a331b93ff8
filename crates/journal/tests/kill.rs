//! kill -9 of a process in the middle of small writes.
//!
//! The test starts this very program as the process that is killed: the test `child` does nothing unless the
//! variable below is set.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{
    collections::HashMap,
    env, fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use support::*;
use tempfile::tempdir;
use terrace_journal::Journal;

const DIRECTORY: &str = "TERRACE_JOURNAL_KILLED";
const KILLS: u64 = 100;
const CALLERS: u64 = 8;

/// Writes small values without an end, and prints `key version` of each that is acknowledged, and a line
/// for each that the store has been told of.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn child() {
    let Ok(directory) = env::var(DIRECTORY) else { return };
    let (journal, recovered) = Journal::open(directory, options()).await.unwrap();
    let journal = std::sync::Arc::new(journal);
    let first = recovered.high.as_u64() + 1;
    let callers = (0..CALLERS).map(|caller| {
        let journal = journal.clone();
        tokio::spawn(async move {
            for number in 0.. {
                // The versions of a key grow; each caller has its own keys.
                let number = first + caller + number * CALLERS;
                let key = format!("{caller} {}", number % 5);
                let write = if number.is_multiple_of(7) {
                    removal(&key, number)
                } else {
                    put(&key, number, b"small value")
                };
                journal.write(write).unwrap().await.unwrap();
                say(&format!("acknowledged\t{key}\t{number}"));
                if number.is_multiple_of(3) {
                    say(&format!("settled\t{key}\t{number}"));
                    journal.settled(address(&key), version(number)).unwrap();
                }
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.unwrap();
    }
}

/// One write to the pipe, so that a line is whole or not there.
fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(format!("{line}\n").as_bytes());
    let _ = out.flush();
}

/// Runs the child for a while, kills it, and gives what it said.
fn run_and_kill(directory: &Path, pause: Duration) -> Vec<(String, String, u64)> {
    let mut child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture", "--test-threads=1"])
        .env(DIRECTORY, directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    let (started, is_started) = std::sync::mpsc::channel();
    let reader = thread::spawn(move || {
        let mut said = Vec::new();
        for line in out.lines() {
            let line = line.unwrap();
            let mut parts = line.split('\t').map(str::to_owned);
            let (Some(what), Some(key), Some(number)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            said.push((what, key, number.parse().unwrap()));
            let _ = started.send(());
        }
        said
    });
    is_started.recv_timeout(Duration::from_secs(60)).unwrap();
    thread::sleep(pause);
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap()
}

#[tokio::test]
async fn a_hundred_kills_lose_no_acknowledged_write_and_bring_no_settled_one_back() {
    let folder = tempdir().unwrap();
    let (mut newest, mut settled): (HashMap<String, u64>, HashMap<String, u64>) = Default::default();
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        for (what, key, number) in run_and_kill(folder.path(), Duration::from_millis(5 + kill % 20)) {
            match what.as_str() {
                "acknowledged" => {
                    acknowledged += 1;
                    newest.insert(key, number);
                }
                _ => drop(settled.insert(key, number)),
            }
        }
        let (journal, recovered) = Journal::open(folder.path(), options()).await.unwrap();
        let found: HashMap<String, u64> = recovered
            .writes
            .iter()
            .map(|found| {
                let key = String::from_utf8(found.write.address.key.to_vec()).unwrap();
                let number = found.write.version.as_u64();
                assert_eq!(found.write.envelope.is_none(), number.is_multiple_of(7));
                (key, number)
            })
            .collect();
        for (key, newest) in &newest {
            let is_settled = settled.get(key) >= Some(newest);
            match found.get(key) {
                Some(found) => {
                    assert!(found >= newest, "kill {kill}: {found} came back over {newest} of {key}")
                }
                None => assert!(is_settled, "kill {kill}: {newest} of {key} is lost"),
            }
        }
        // A write that was under way may be there, and is acknowledged to the next process by its opening.
        newest.extend(found);
        journal.close().await;
    }
    let segments = fs::read_dir(folder.path()).unwrap().count();
    println!("{KILLS} kills, {acknowledged} acknowledged writes, 0 lost; {segments} files are left");
    assert!(acknowledged > KILLS * 5, "{acknowledged}");
}
