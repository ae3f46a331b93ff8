//! What an append costs beside an `fdatasync` of the same bytes on the same disk, and what callers share.
//!
//! `cargo run --release -p terrace-journal --example append_latency -- [directory]`
#![allow(clippy::unwrap_used, reason = "a program for measuring")]

use std::{
    env, fs,
    io::Write as _,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use terrace_journal::{Address, Journal, JournalOptions, Write};
use terrace_tier::{Deadlines, Timestamp, Version};

const VALUE_BYTES: usize = 200;
/// The size of a frame with a key of 8 bytes.
const FRAME_BYTES: usize = VALUE_BYTES + 73;
const ROUNDS: usize = 9;
const APPENDS: usize = 60;

fn write(key: u64, number: u64) -> Write {
    Write {
        address: Address { tenant: None, key: Bytes::copy_from_slice(&key.to_le_bytes()) },
        version: Version::from_u64(number),
        deadlines: Deadlines::forever(Timestamp::from_millis(0)),
        envelope: Some(Bytes::from(vec![7; VALUE_BYTES])),
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// The median time of an append of the raw file, one after the other.
fn raw(file: &mut fs::File) -> Duration {
    let bytes = [7; FRAME_BYTES];
    let append = |_| {
        let began = Instant::now();
        file.write_all(&bytes).unwrap();
        file.sync_data().unwrap();
        began.elapsed()
    };
    median((0..APPENDS).map(append).collect())
}

async fn one_caller(journal: &Journal, first: u64) -> Duration {
    let mut times = Vec::new();
    for number in first..first + APPENDS as u64 {
        let began = Instant::now();
        journal.write(write(number % 1_000, number)).unwrap().await.unwrap();
        times.push(began.elapsed());
    }
    median(times)
}

/// Appends for two seconds; gives appends a second and appends a sync.
async fn many_callers(journal: &Arc<Journal>, callers: u64, first: u64) -> (f64, f64, u64) {
    let syncs = journal.stats().syncs;
    let began = Instant::now();
    let tasks = (0..callers).map(|caller| {
        let journal = Arc::clone(journal);
        tokio::spawn(async move {
            let mut number = first + caller;
            let mut done = 0;
            while began.elapsed() < Duration::from_secs(2) {
                journal.write(write(number % 10_000, number)).unwrap().await.unwrap();
                number += callers;
                done += 1;
            }
            (done, number)
        })
    });
    let (mut done, mut last) = (0, first);
    for task in tasks.collect::<Vec<_>>() {
        let (of_task, number) = task.await.unwrap();
        (done, last) = (done + of_task, last.max(number));
    }
    let syncs = journal.stats().syncs - syncs;
    (f64::from(done) / began.elapsed().as_secs_f64(), f64::from(done) / syncs as f64, last)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let directory = env::args().nth(1).unwrap_or_else(|| "target/append-latency".to_owned());
    let directory = Path::new(&directory);
    let (journal, _) = Journal::open(directory.join("journal"), JournalOptions::new("bench")).await.unwrap();
    let journal = Arc::new(journal);
    let mut file = fs::File::create(directory.join("raw")).unwrap();
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        // Paired: the raw file is measured before and after, since other work on the disk comes and goes.
        let before = raw(&mut file);
        let append = one_caller(&journal, 1 + (round * APPENDS) as u64).await;
        let raw = (before + raw(&mut file)) / 2;
        let ratio = append.as_secs_f64() / raw.as_secs_f64();
        println!("round {round}: fdatasync {raw:?}, append {append:?}, ratio {ratio:.2}");
        ratios.push(ratio);
    }
    ratios.sort_unstable_by(f64::total_cmp);
    println!("one caller: median ratio {:.2}", ratios[ROUNDS / 2]);
    let mut next = 1 + (ROUNDS * APPENDS) as u64;
    for callers in [1, 8, 64, 200, 1_000] {
        let (per_second, per_sync, last) = many_callers(&journal, callers, next).await;
        next = last + 1;
        println!("{callers} callers: {per_second:.0} appends/s, {per_sync:.1} a sync");
    }
    println!("{:?}", journal.stats());
    journal.close().await;
    fs::remove_dir_all(directory).unwrap();
}
