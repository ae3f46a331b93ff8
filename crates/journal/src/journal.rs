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
    /// The worker of a journal without a thread.
    #[cfg(any(test, feature = "testing"))]
    inline: Option<Mutex<Option<Worker>>>,
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

    /// Opens a journal without a thread, for simulations on one thread: the call that appends a frame writes
    /// and syncs it before it returns.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    #[cfg(any(test, feature = "testing"))]
    #[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
    pub fn open_inline(directory: Arc<dyn Directory>, options: JournalOptions) -> Result<(Self, Recovered)> {
        let (log, recovered) = Log::open(directory, options.clone())?;
        let shared = Shared::new(&log, &recovered);
        let inline = Mutex::new(Some(Worker { shared: Arc::clone(&shared), log: Some(log) }));
        Ok((Self { shared, options, inline: Some(inline) }, recovered))
    }

    async fn start(
        directory: impl FnOnce() -> io::Result<Arc<dyn Directory>> + Send + 'static,
        options: JournalOptions,
    ) -> Result<(Self, Recovered)> {
        let (opened, answer) = oneshot::channel();
        let for_log = options.clone();
        let work = move || {
            let opening = directory().map_err(JournalError::io);
            let (log, recovered) = match opening.and_then(|directory| Log::open(directory, for_log)) {
                Ok(opened) => opened,
                Err(error) => return drop(opened.send(Err(error))),
            };
            let shared = Shared::new(&log, &recovered);
            let worker = Worker { shared: Arc::clone(&shared), log: Some(log) };
            let journal = Self {
                shared,
                options,
                #[cfg(any(test, feature = "testing"))]
                inline: None,
            };
            // If the opener has gone, this drops the journal, which ends the thread.
            let _ = opened.send(Ok((journal, recovered)));
            worker.run();
        };
        thread::Builder::new().name("terrace-journal".to_owned()).spawn(work).map_err(JournalError::io)?;
        answer.await.unwrap_or_else(|_| Err(thread_ended()))
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
        self.shared.queue.lock().push(waiting, 2 * self.options.queue_bytes)?;
        self.wake();
        Ok(())
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
        self.append_with(|queue| {
            change(&mut queue.front);
            Frame::Front(queue.front.clone())
        })
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
        self.wake();
        // The sender is dropped, at the latest, with the thread.
        let _ = answer.await;
    }

    fn append(&self, frame: Frame) -> Result<Acknowledgement> {
        self.append_with(|_| frame)
    }

    fn append_with(&self, frame: impl FnOnce(&mut Queue) -> Frame) -> Result<Acknowledgement> {
        let (answer, acknowledgement) = oneshot::channel();
        {
            let mut queue = self.shared.queue.lock();
            let frame = frame(&mut queue);
            let (bytes, limit) = (frame.encoded_len(), self.options.group_bytes());
            if bytes > limit {
                return Err(JournalError::TooLarge { bytes, limit });
            }
            queue.push(Waiting { frame, bytes, answer: Some(answer) }, self.options.queue_bytes)?;
        }
        self.wake();
        Ok(Acknowledgement(acknowledgement))
    }

    /// Lets the worker look at the queue.
    fn wake(&self) {
        #[cfg(any(test, feature = "testing"))]
        if let Some(inline) = &self.inline {
            let mut worker = inline.lock();
            if worker.as_mut().is_some_and(|worker| !worker.drain()) {
                *worker = None;
            }
        }
        self.shared.work.notify_one();
    }
}

impl Shared {
    fn new(log: &Log, recovered: &Recovered) -> Arc<Self> {
        let (front, stats) = (recovered.front.clone(), log.stats());
        Arc::new(Self { queue: Mutex::new(Queue { front, stats, ..Queue::default() }), work: Condvar::new() })
    }
}

impl Queue {
    fn push(&mut self, waiting: Waiting, limit: u64) -> Result<()> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        if self.bytes + waiting.bytes > limit {
            return Err(JournalError::QueueFull { bytes: self.bytes });
        }
        self.bytes += waiting.bytes;
        self.waiting.push(waiting);
        Ok(())
    }

    /// The frames that share the next sync, if any wait.
    fn take_group(&mut self, group_bytes: u64) -> Vec<Waiting> {
        let mut bytes = 0;
        let fits = self.waiting.iter().take_while(|waiting| {
            bytes += waiting.bytes;
            bytes <= group_bytes
        });
        match fits.count() {
            all if all == self.waiting.len() => mem::take(&mut self.waiting),
            // No frame is larger than a group, so that at least one fits.
            some => self.waiting.drain(..some).collect(),
        }
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

/// What writes the queue: a thread, or each call of a journal without one.
#[derive(Debug)]
struct Worker {
    shared: Arc<Shared>,
    log: Option<Log>,
}

impl Worker {
    /// The thread's work: until nothing waits and nothing more will come.
    fn run(mut self) {
        while self.drain() {
            let mut queue = self.shared.queue.lock();
            while queue.waiting.is_empty() && queue.ended.is_none() {
                self.shared.work.wait(&mut queue);
            }
        }
    }

    /// Writes all that waits. `false` if nothing more will come.
    fn drain(&mut self) -> bool {
        let Some(log) = &mut self.log else { return false };
        loop {
            let group = {
                let mut queue = self.shared.queue.lock();
                if queue.waiting.is_empty() {
                    return queue.ended.is_none();
                }
                queue.take_group(log.group_bytes())
            };
            commit(&self.shared, log, group);
        }
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
