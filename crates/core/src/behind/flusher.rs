//! The flusher: one task that carries the dirty writes to the store, oldest first.

use std::{
    sync::{Arc, Weak, atomic::Ordering},
    time::Duration,
};

use tokio::time::{Instant, timeout};

use super::{Behind, index::DirtyKey, term::PROLONG_EVERY};
use crate::{Error, ErrorKind, panics::guarded};

/// How long the flusher sleeps if nothing wakes it.
const IDLE: Duration = Duration::from_secs(60);

/// What the flusher remembers between its steps.
#[derive(Default)]
struct Progress {
    failures: u32,
    /// The end of the pause after a failure.
    paused_until: Option<Instant>,
}

impl Behind {
    /// Starts the flusher unless it runs. It ends with its runtime, and another call starts it again.
    pub(crate) fn keep_flushing(self: &Arc<Self>) {
        if self.flusher.runs() {
            return;
        }
        let (behind, wake) = (Arc::downgrade(self), Arc::clone(&self.wake));
        self.flusher.start(|| run(behind, wake));
    }

    /// Starts the flusher for what a journal has restored.
    pub(crate) fn keep_restoring(self: &Arc<Self>) {
        if self.journal.is_some() && !self.flusher.runs() && self.index.lock().waiting() > 0 {
            self.keep_flushing();
        }
    }

    /// Flushes one batch that is due, or returns how long there is nothing to do.
    async fn step(&self, progress: &mut Progress) -> Duration {
        let until_prolonged = self.keep_hold().await;
        let now = Instant::now();
        if let Some(until) = progress.paused_until.filter(|until| *until > now) {
            return until.duration_since(now).min(until_prolonged);
        }
        if let Err(pause) = self.resume(progress).await {
            return pause;
        }
        let (batch, until_due) = self.take_due(now);
        if batch.is_empty() {
            return until_due.min(until_prolonged);
        }
        match guarded("a tier panicked during a flush", self.flush_batch(batch)).await {
            Ok(Ok(())) => {
                (progress.failures, progress.paused_until) = (0, None);
                Duration::ZERO
            }
            Ok(Err(_)) | Err(_) => {
                self.index.lock().abandon_flushes();
                progress.failures = progress.failures.saturating_add(1);
                let pause = self.plan.retry.pause(progress.failures);
                progress.paused_until = Some(Instant::now() + pause);
                pause
            }
        }
    }

    /// Opens the front for what a journal has restored, or returns the pause before the next try.
    async fn resume(&self, progress: &mut Progress) -> Result<(), Duration> {
        if self.journal.is_none() || self.term().is_some() || self.index.lock().waiting() == 0 {
            return Ok(());
        }
        match guarded("a tier panicked", self.open(&self.chain)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => {
                progress.failures = progress.failures.saturating_add(1);
                let pause = self.plan.retry.pause(progress.failures);
                progress.paused_until = Some(Instant::now() + pause);
                Err(pause)
            }
        }
    }

    /// Prolongs the hold when it is time, and returns how long it is until the next time.
    async fn keep_hold(&self) -> Duration {
        let Some(term) = self.term() else { return IDLE };
        let Some(asked_at) = self.state.lock().asked_at else { return IDLE };
        let next = asked_at + PROLONG_EVERY;
        if Instant::now() < next {
            return next.duration_since(Instant::now());
        }
        let _one_at_a_time = self.opening.lock().await;
        // An error is told with the next write, and the store's tier has counted it.
        let _ = guarded("a tier panicked", self.prolong(&self.chain, term)).await;
        PROLONG_EVERY
    }

    fn take_due(&self, now: Instant) -> (Vec<super::index::DirtyWrite>, Duration) {
        let mut index = self.index.lock();
        if self.term().is_none() {
            return (Vec::new(), IDLE);
        }
        let hurries = self.hurry.load(Ordering::Acquire) > 0
            || self.closing.load(Ordering::Acquire)
            || index.waiting() >= self.plan.batch
            || index.bytes() >= self.plan.cap.bytes;
        let delay = self.plan.delay;
        let is_due = |dirty: &DirtyKey| hurries || now.duration_since(dirty.since) >= delay;
        let batch = index.take(self.plan.batch, is_due);
        let until_due = index
            .oldest()
            .map_or(IDLE, |oldest| (oldest.since + delay).duration_since(now).max(Duration::from_millis(1)));
        (batch, until_due)
    }

    /// The write waits for another flush after the store refused it, or becomes a dead letter.
    pub(super) fn refused(&self, write: &super::index::DirtyWrite, error: Error) {
        let refusals = self.index.lock().wait_again(&write.key.digest, write.version, true);
        if refusals >= self.plan.attempts || error.kind() == ErrorKind::Unsupported {
            self.bury(write, error);
        }
    }
}

async fn run(behind: Weak<Behind>, wake: Arc<tokio::sync::Notify>) {
    let mut progress = Progress::default();
    if let Some(behind) = behind.upgrade() {
        behind.index.lock().abandon_flushes();
    }
    loop {
        let pause = match behind.upgrade() {
            Some(behind) => behind.step(&mut progress).await,
            None => return,
        };
        match pause {
            Duration::ZERO => tokio::task::yield_now().await,
            pause => _ = timeout(pause, wake.notified()).await,
        }
    }
}
