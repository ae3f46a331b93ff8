//! The queue of a journal, and what writes it.

use std::{io, mem, sync::Arc};

use parking_lot::{Condvar, Mutex};
use tokio::sync::oneshot;

use crate::{FrontIdentity, JournalError, JournalStats, Result, frame::Frame, log::Log};

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) queue: Mutex<Queue>,
    /// Tells the thread that there is something to do.
    pub(crate) work: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    pub(crate) waiting: Vec<Waiting>,
    /// The size of the frames that wait or are being written.
    pub(crate) bytes: u64,
    pub(crate) front: FrontIdentity,
    /// Why nothing more is taken.
    pub(crate) ended: Option<JournalError>,
    /// Who waits until the directory is free.
    pub(crate) closing: Vec<oneshot::Sender<()>>,
    pub(crate) is_free: bool,
    pub(crate) stats: JournalStats,
}

#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) frame: Frame,
    pub(crate) bytes: u64,
    pub(crate) answer: Option<oneshot::Sender<Result<()>>>,
}

impl Queue {
    pub(crate) fn push(&mut self, waiting: Waiting, limit: u64) -> Result<()> {
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

/// What writes the queue: a thread, or each call of a journal without one.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Option<Log>,
}

impl Worker {
    /// The thread's work: until nothing waits and nothing more will come.
    pub(crate) fn run(mut self) {
        while self.drain() {
            let mut queue = self.shared.queue.lock();
            while queue.waiting.is_empty() && queue.ended.is_none() {
                self.shared.work.wait(&mut queue);
            }
        }
    }

    /// Writes all that waits. `false` if nothing more will come.
    pub(crate) fn drain(&mut self) -> bool {
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

/// The error of callers whom a thread that has ended will not answer.
pub(crate) fn thread_ended() -> JournalError {
    JournalError::Unknown(Arc::new(io::Error::other("the journal's thread has ended")))
}
