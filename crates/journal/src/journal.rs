//! The journal as its owner uses it: appends that share a sync, made by a thread of its own.

use std::{
    future::Future,
    io,
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
    Write,
    frame::Frame,
    log::Log,
    worker::{Queue, Shared, Waiting, Worker, thread_ended},
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

    /// As [`open_in`](Self::open_in), for callers outside of a runtime: the directory is read by the calling thread.
    ///
    /// # Errors
    /// Those of [`open`](Self::open).
    pub fn open_blocking(
        directory: Arc<dyn Directory>,
        options: JournalOptions,
    ) -> Result<(Self, Recovered)> {
        let (log, recovered) = Log::open(directory, options.clone())?;
        let (journal, worker) = Self::over(log, &recovered, options);
        spawn(move || worker.run())?;
        Ok((journal, recovered))
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
        let (mut journal, worker) = Self::over(log, &recovered, options);
        journal.inline = Some(Mutex::new(Some(worker)));
        Ok((journal, recovered))
    }

    async fn start(
        directory: impl FnOnce() -> io::Result<Arc<dyn Directory>> + Send + 'static,
        options: JournalOptions,
    ) -> Result<(Self, Recovered)> {
        let (opened, answer) = oneshot::channel();
        spawn(move || {
            let opening = directory().map_err(JournalError::from);
            let (log, recovered) = match opening.and_then(|directory| Log::open(directory, options.clone())) {
                Ok(opened) => opened,
                Err(error) => return drop(opened.send(Err(error))),
            };
            let (journal, worker) = Self::over(log, &recovered, options);
            // If the opener has gone, this drops the journal, which ends the thread.
            let _ = opened.send(Ok((journal, recovered)));
            worker.run();
        })?;
        answer.await.unwrap_or_else(|_| Err(thread_ended()))
    }

    fn over(log: Log, recovered: &Recovered, options: JournalOptions) -> (Self, Worker) {
        let (front, stats) = (recovered.front.clone(), log.stats());
        let queue = Mutex::new(Queue { front, stats, ..Queue::default() });
        let shared = Arc::new(Shared { queue, work: Condvar::new() });
        let worker = Worker { shared: Arc::clone(&shared), log: Some(log) };
        let journal = Self {
            shared,
            options,
            #[cfg(any(test, feature = "testing"))]
            inline: None,
        };
        (journal, worker)
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

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.queue.lock().ended.get_or_insert(JournalError::Closed);
        self.shared.work.notify_one();
    }
}

fn spawn(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = thread::Builder::new().name("terrace-journal".to_owned()).spawn(work);
    spawned.map(drop).map_err(JournalError::from)
}
