//! The journal as its owner uses it: appends that share a sync, made by a thread of its own.

use std::{
    future::Future,
    io, mem,
    path::PathBuf,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    thread,
};

use parking_lot::{Condvar, Mutex};
use terrace_tier::Version;
use tokio::sync::oneshot;

use crate::{
    Address, Directory, Disk, FrontIdentity, JournalError, JournalOptions, JournalStats, Recovered, Result,
    Write, frame::Frame, log::Log,
};

/// The nonces of openings that a journal keeps.
const MAX_NONCES: usize = 16;

/// An open journal.
///
/// Appends are queued in the order of the calls, and never wait: they may be made under a lock of the owner,
/// which so decides the order. One thread writes all that is queued, syncs once, and acknowledges. A caller
/// that stops waiting takes nothing back.
///
/// Dropping the journal writes what is queued, in the background. [`close`](Self::close) waits for that and
/// for the directory's lock to be free.
///
/// # Cost
/// An append is one allocation, and one sync shared with all that wait; the thread is woken once a group.
#[derive(Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    options: JournalOptions,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Tells the thread that there is something to do.
    work: Condvar,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: Vec<Waiting>,
    /// The size of the frames that wait or are being written.
    bytes: u64,
    front: FrontIdentity,
    /// Why nothing more is taken.
    ended: Option<JournalError>,
    /// Who waits until the directory is free.
    closing: Vec<oneshot::Sender<()>>,
    is_free: bool,
    stats: JournalStats,
}

#[derive(Debug)]
struct Waiting {
    frame: Frame,
    bytes: u64,
    answer: Option<oneshot::Sender<Result<()>>>,
}

/// The answer to an append: ready once the frame is synced.
///
/// # Errors
/// [`JournalError::DiskFull`], [`Ended`](JournalError::Ended) and [`Closed`](JournalError::Closed): the frame
/// is certainly not in the journal. [`JournalError::Unknown`]: it may or may not be.
#[derive(Debug)]
#[must_use = "the frame is acknowledged only once this is ready"]
pub struct Acknowledgement(oneshot::Receiver<Result<()>>);

impl Future for Acknowledgement {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context).map(|answer| answer.unwrap_or_else(|_| Err(thread_ended())))
    }
}

impl Journal {
    /// Opens the journal in the directory at `path`, or creates it.
    ///
    /// # Errors
    /// [`JournalError::InUse`], [`OtherNamespace`](JournalError::OtherNamespace),
    /// [`Format`](JournalError::Format), [`Corrupt`](JournalError::Corrupt),
    /// [`DiskFull`](JournalError::DiskFull) and [`Io`](JournalError::Io). A journal that was refused is as before.
    ///
    /// # Cost
    /// Reads all segments, and writes the last one anew. Where the disk is too full for that, the journal opens and
    /// refuses appends until there is space, or until all that it gave back is settled.
    pub async fn open(path: impl Into<PathBuf>, options: JournalOptions) -> Result<(Self, Recovered)> {
        let path = path.into();
        Self::start(move || Disk::open(path).map(|disk| Arc::new(disk) as _), options).await
    }

    /// As [`open`](Self::open), in another kind of directory.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub async fn open_in(
        directory: Arc<dyn Directory>,
        options: JournalOptions,
    ) -> Result<(Self, Recovered)> {
        Self::start(move || Ok(directory), options).await
    }

    async fn start(
        directory: impl FnOnce() -> io::Result<Arc<dyn Directory>> + Send + 'static,
        options: JournalOptions,
    ) -> Result<(Self, Recovered)> {
        let shared = Arc::new(Shared { queue: Mutex::default(), work: Condvar::new() });
        let journal = Self { shared: Arc::clone(&shared), options: options.clone() };
        let (opened, answer) = oneshot::channel();
        let work = move || {
            let opening = directory().map_err(JournalError::io);
            match opening.and_then(|directory| Log::open(directory, options)) {
                Ok((log, recovered)) => {
                    shared.queue.lock().stats = log.stats();
                    // An opener that has gone dropped the journal, which ends the thread.
                    let _ = opened.send(Ok(recovered));
                    Worker { shared, log: Some(log) }.run();
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        };
        thread::Builder::new().name("terrace-journal".to_owned()).spawn(work).map_err(JournalError::io)?;
        let recovered = answer.await.unwrap_or_else(|_| Err(thread_ended()))?;
        journal.shared.queue.lock().front = recovered.front.clone();
        Ok((journal, recovered))
    }

    /// Appends a write. The front has it once the answer is ready.
    ///
    /// # Errors
    /// [`JournalError::TooLarge`], [`QueueFull`](JournalError::QueueFull), [`Ended`](JournalError::Ended) and
    /// [`Closed`](JournalError::Closed): nothing was done.
    pub fn write(&self, write: Write) -> Result<Acknowledgement> {
        self.append(Frame::Write(write))
    }

    /// Marks the write of this version as a dead letter. Of the cause the first 1,024 bytes are kept.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub fn dead(&self, address: Address, version: Version, cause: &str) -> Result<Acknowledgement> {
        self.append(Frame::Dead(address, version, cause.into()))
    }

    /// Makes a dead letter an ordinary write again.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub fn retried(&self, address: Address, version: Version) -> Result<Acknowledgement> {
        self.append(Frame::Retried(address, version))
    }

    /// Says that the writes of the key up to `version` are in the store, or discarded.
    ///
    /// It waits for no sync. If it is lost in a crash, the write is flushed once more, which changes nothing.
    /// A full disk takes it, and so does a queue that is full for writes, up to twice its bytes.
    ///
    /// # Errors
    /// [`JournalError::Ended`] and [`JournalError::Closed`], which the caller may ignore, and
    /// [`JournalError::QueueFull`]: the segment of the write stays until the call is made again.
    pub fn settled(&self, address: Address, version: Version) -> Result<()> {
        let frame = Frame::Settled(address, version);
        let waiting = Waiting { bytes: frame.encoded_len(), frame, answer: None };
        self.enqueue(&mut self.shared.queue.lock(), waiting, 2 * self.options.queue_bytes)
    }

    /// Keeps the nonce of an opening that is about to be asked of the store.
    ///
    /// The store is asked only once the answer is ready. At most 16 nonces are kept: of those whose outcome
    /// is not known the oldest is dropped.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub fn intend(&self, nonce: u64) -> Result<Acknowledgement> {
        self.change_front(|front| {
            if front.nonces.len() == MAX_NONCES {
                front.nonces.remove(1);
            }
            front.nonces.push(nonce);
        })
    }

    /// Keeps that the store has granted the opening with this nonce, as `term`.
    ///
    /// # Errors
    /// Those of [`write`](Self::write).
    pub fn granted(&self, nonce: u64, term: u64) -> Result<Acknowledgement> {
        self.change_front(|front| (front.term, front.nonces) = (term, vec![nonce]))
    }

    fn change_front(&self, change: impl FnOnce(&mut FrontIdentity)) -> Result<Acknowledgement> {
        let mut queue = self.shared.queue.lock();
        change(&mut queue.front);
        let frame = Frame::Front(queue.front.clone());
        self.append_to(&mut queue, frame)
    }

    /// What the journal has on the disk, as of the last group of frames.
    pub fn stats(&self) -> JournalStats {
        self.shared.queue.lock().stats
    }

    /// Writes what is queued, and frees the directory. Later appends are [`JournalError::Closed`].
    pub async fn close(&self) {
        let (freed, answer) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            queue.ended.get_or_insert(JournalError::Closed);
            if queue.is_free {
                return;
            }
            queue.closing.push(freed);
        }
        self.shared.work.notify_one();
        // The sender is dropped, at the latest, with the thread.
        let _ = answer.await;
    }

    fn append(&self, frame: Frame) -> Result<Acknowledgement> {
        self.append_to(&mut self.shared.queue.lock(), frame)
    }

    fn append_to(&self, queue: &mut Queue, frame: Frame) -> Result<Acknowledgement> {
        let (bytes, limit) = (frame.encoded_len(), self.options.group_bytes());
        if bytes > limit {
            return Err(JournalError::TooLarge { bytes, limit });
        }
        let (answer, acknowledgement) = oneshot::channel();
        self.enqueue(queue, Waiting { frame, bytes, answer: Some(answer) }, self.options.queue_bytes)?;
        Ok(Acknowledgement(acknowledgement))
    }

    fn enqueue(&self, queue: &mut Queue, waiting: Waiting, limit: u64) -> Result<()> {
        if let Some(ended) = &queue.ended {
            return Err(ended.clone());
        }
        if queue.bytes + waiting.bytes > limit {
            return Err(JournalError::QueueFull { bytes: queue.bytes });
        }
        queue.bytes += waiting.bytes;
        queue.waiting.push(waiting);
        // The thread takes all that waits, so that the first one wakes it for all.
        if queue.waiting.len() == 1 {
            self.shared.work.notify_one();
        }
        Ok(())
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.queue.lock().ended.get_or_insert(JournalError::Closed);
        self.shared.work.notify_one();
    }
}

fn thread_ended() -> JournalError {
    JournalError::Unknown(Arc::new(io::Error::other("the journal's thread has ended")))
}

/// The thread's part.
struct Worker {
    shared: Arc<Shared>,
    log: Option<Log>,
}

impl Worker {
    fn run(mut self) {
        while let Some(log) = &mut self.log {
            let Some(group) = next_group(&self.shared, log.group_bytes()) else { break };
            commit(&self.shared, log, group);
        }
    }
}

/// The frames that share the next sync, or `None` once nothing waits and nothing more will come.
fn next_group(shared: &Shared, group_bytes: u64) -> Option<Vec<Waiting>> {
    let mut queue = shared.queue.lock();
    while queue.waiting.is_empty() {
        if queue.ended.is_some() {
            return None;
        }
        shared.work.wait(&mut queue);
    }
    let mut bytes = 0;
    let fits = queue.waiting.iter().take_while(|waiting| {
        bytes += waiting.bytes;
        bytes <= group_bytes
    });
    match fits.count() {
        all if all == queue.waiting.len() => Some(mem::take(&mut queue.waiting)),
        // Each frame has at most the size of a group, so that at least one fits.
        some => Some(queue.waiting.drain(..some.max(1)).collect()),
    }
}

fn commit(shared: &Shared, log: &mut Log, group: Vec<Waiting>) {
    let (mut frames, mut answers, mut bytes) = (Vec::with_capacity(group.len()), Vec::new(), 0);
    for waiting in group {
        bytes += waiting.bytes;
        frames.push(waiting.frame);
        answers.extend(waiting.answer);
    }
    let outcome = log.commit(&frames);
    // A caller that learns of the end must not find the journal open.
    {
        let mut queue = shared.queue.lock();
        queue.bytes -= bytes;
        end_with(&mut queue, log);
    }
    for answer in answers {
        // A caller that is gone needs no answer.
        let _ = answer.send(outcome.clone());
    }
    log.reclaim();
    let mut queue = shared.queue.lock();
    queue.stats = log.stats();
    end_with(&mut queue, log);
}

/// If the log has ended, so does the journal, and nothing that waits was written.
fn end_with(queue: &mut Queue, log: &Log) {
    let Some(ended) = log.ended() else { return };
    for waiting in queue.waiting.drain(..) {
        queue.bytes -= waiting.bytes;
        let _ = waiting.answer.map(|answer| answer.send(Err(ended.clone())));
    }
    queue.ended = Some(ended);
}

/// Also after a panic the directory is freed, and nobody waits for ever.
impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(log) = self.log.take() {
            log.close();
        }
        let mut queue = self.shared.queue.lock();
        queue.ended.get_or_insert_with(thread_ended);
        queue.waiting.clear();
        queue.is_free = true;
        queue.closing.clear();
    }
}
