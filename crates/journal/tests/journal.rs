//! The journal with its thread: what callers share, and what they are refused.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
};

use parking_lot::Mutex;
use support::*;
use terrace_journal::{Call, Directory, File, Journal, JournalError, JournalStats, Lock, LossyDirectory};

/// A directory in which each sync of data waits for a word of the test.
#[derive(Debug)]
struct Slow {
    inner: LossyDirectory,
    go: Arc<Mutex<mpsc::Receiver<()>>>,
    waiting: Arc<AtomicU64>,
}

#[derive(Debug)]
struct SlowFile {
    inner: Box<dyn File>,
    go: Arc<Mutex<mpsc::Receiver<()>>>,
    waiting: Arc<AtomicU64>,
}

impl Directory for Slow {
    fn lock(&self) -> io::Result<Box<dyn Lock>> {
        self.inner.lock()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }
    fn read(&self, name: &str) -> io::Result<Vec<u8>> {
        self.inner.read(name)
    }
    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let inner = self.inner.create(name)?;
        Ok(Box::new(SlowFile { inner, go: self.go.clone(), waiting: self.waiting.clone() }))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }
    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }
}

impl File for SlowFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.append(bytes)
    }
    fn truncate(&mut self, len: u64) -> io::Result<()> {
        self.inner.truncate(len)
    }
    fn sync_data(&mut self) -> io::Result<()> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        // An error means that the test lets all syncs go.
        let _ = self.go.lock().recv();
        self.inner.sync_data()
    }
}

/// A journal whose thread is in the sync of a first write; the answer to it; the word; and its directory.
async fn busy() -> (Journal, terrace_journal::Acknowledgement, mpsc::Sender<()>, LossyDirectory) {
    let (word, go) = mpsc::channel();
    let (directory, waiting) = (LossyDirectory::new(1), Arc::new(AtomicU64::new(0)));
    word.send(()).unwrap(); // for the opening
    let slow = Slow { inner: directory.clone(), go: Arc::new(Mutex::new(go)), waiting: waiting.clone() };
    let options = options().queue_bytes(2_000);
    let (journal, _) = Journal::open_in(Arc::new(slow), options).await.unwrap();
    let first = journal.write(put("first", 1, b"1")).unwrap();
    while waiting.load(Ordering::SeqCst) < 2 {
        std::thread::yield_now();
    }
    (journal, first, word, directory)
}

#[tokio::test]
async fn all_that_is_appended_during_a_sync_shares_the_next_one() {
    let (journal, first, word, _) = busy().await;
    let answers: Vec<_> =
        (2..12).map(|number| journal.write(put("key", number, b"value")).unwrap()).collect();
    drop(word);
    first.await.unwrap();
    for answer in answers {
        answer.await.unwrap();
    }
    journal.close().await;
    let JournalStats { syncs, frames, .. } = journal.stats();
    assert_eq!((syncs, frames), (2, 11));
}

#[tokio::test]
async fn a_caller_that_stops_waiting_takes_nothing_back() {
    let (journal, first, word, directory) = busy().await;
    drop(first);
    drop(journal.write(put("second", 2, b"2")).unwrap());
    drop(word);
    journal.close().await;
    let (_journal, recovered) =
        Journal::open_inline(Arc::new(directory.after_power_loss()), options()).unwrap();
    assert_eq!(writes(&recovered), [put("first", 1, b"1"), put("second", 2, b"2")]);
}

#[tokio::test]
async fn a_dropped_journal_writes_what_is_queued() {
    let (journal, first, word, directory) = busy().await;
    let second = journal.write(put("second", 2, b"2")).unwrap();
    drop((journal, word));
    first.await.unwrap();
    second.await.unwrap();
    let (_journal, recovered) =
        Journal::open_inline(Arc::new(directory.after_power_loss()), options()).unwrap();
    assert_eq!(recovered.writes.len(), 2);
}

#[tokio::test]
async fn a_full_queue_refuses_writes_and_takes_twice_its_bytes_of_settled_frames() {
    let (journal, first, word, _) = busy().await;
    let mut taken = Vec::new();
    let full = loop {
        match journal.write(put("key", 2 + taken.len() as u64, &[7; 100])) {
            Ok(answer) => taken.push(answer),
            Err(error) => break error,
        }
    };
    assert!(matches!(full, JournalError::QueueFull { bytes } if bytes <= 2_000), "{full}");
    let settled = (0..).find(|_| journal.settled(address("first"), version(1)).is_err()).unwrap();
    assert!((30..70).contains(&settled), "{settled}");
    drop(word);
    first.await.unwrap();
    for answer in taken {
        answer.await.unwrap();
    }
    while journal.stats().frames < 10 {
        tokio::task::yield_now().await;
    }
    journal.write(put("key", 99, b"")).unwrap().await.unwrap();
}

#[tokio::test]
async fn a_frame_of_more_than_half_a_segment_is_refused() {
    let (journal, _) = Journal::open_inline(Arc::new(LossyDirectory::new(1)), options()).unwrap();
    let error = journal.write(put("key", 1, &[0; SEGMENT as usize / 2])).expect_err("too large");
    assert!(matches!(error, JournalError::TooLarge { limit, .. } if limit == SEGMENT / 2), "{error}");
    journal.write(put("key", 1, &[0; SEGMENT as usize / 2 - 100])).unwrap().await.unwrap();
}

#[tokio::test]
async fn after_a_failed_sync_what_hung_is_unknown_and_what_waited_is_refused() {
    let (journal, first, word, directory) = busy().await;
    let waited = journal.write(put("second", 2, b"2")).unwrap();
    directory.fail_next(Call::SyncData, io::ErrorKind::Other);
    word.send(()).unwrap();
    assert!(matches!(first.await, Err(JournalError::Unknown(_))));
    assert!(matches!(waited.await, Err(JournalError::Ended(_))));
    assert!(matches!(journal.write(put("third", 3, b"3")), Err(JournalError::Ended(_))));
    assert!(matches!(journal.settled(address("first"), version(1)), Err(JournalError::Ended(_))));
    // The directory is free at once, so that the journal can be opened again.
    journal.close().await;
    let (_journal, recovered) = Journal::open_inline(Arc::new(directory), options()).unwrap();
    assert_eq!(writes(&recovered), [put("first", 1, b"1")]);
}

#[tokio::test]
async fn the_disk_has_at_most_two_and_a_half_times_the_live_bytes_and_four_segments() {
    let directory = LossyDirectory::new(1);
    let (journal, _) = Journal::open_inline(Arc::new(directory.clone()), options()).unwrap();
    let (mut most_live, mut most_used, mut most_segments) = (0, 0, 0);
    for number in 1..5_000 {
        // One in twenty keys is never written again, so that old segments keep a little that is live.
        let key =
            if number % 20 == 0 { format!("cold {}", number % 4_000) } else { format!("{}", number % 50) };
        journal.write(put(&key, number, &[7; 120])).unwrap().await.unwrap();
        let stats = journal.stats();
        most_live = most_live.max(stats.live_bytes);
        (most_used, most_segments) =
            (most_used.max(directory.used_bytes()), most_segments.max(stats.segments));
        assert_eq!(directory.used_bytes(), stats.disk_bytes);
        let bound = most_live * 5 / 2 + 4 * SEGMENT;
        assert!(stats.disk_bytes <= bound, "{} of {bound}", stats.disk_bytes);
        assert!(stats.segments as u64 <= bound / (SEGMENT / 2), "{}", stats.segments);
    }
    let copied = journal.stats().copied_bytes;
    println!("live {most_live}, on the disk {most_used}, {most_segments} segments, copied {copied}");
    assert!(copied > 0 && copied < directory.used_bytes() * 40);
}
