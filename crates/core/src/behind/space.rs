//! The cap of the backlog: what a write does while too much is dirty.

use std::time::Duration;

use tokio::{
    sync::SemaphorePermit,
    time::{Instant, timeout_at},
};

use super::{Behind, WhenFull};
use crate::{Error, ErrorKind, Event, Result};

/// How long a write waits for space in the backlog, or beyond the cap for its own flush.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// The permission to add to the backlog.
pub(super) enum Space<'a> {
    /// There is space.
    Free,
    /// There is none, and the write waits for its flush.
    UntilFlushed(SemaphorePermit<'a>),
}

impl Behind {
    /// Waits for space for `bytes` more.
    ///
    /// # Errors
    /// [`ErrorKind::Backlog`] where there is none, as [`WhenFull`] says.
    pub(super) async fn space(&self, bytes: usize) -> Result<Space<'_>> {
        if self.has_space(bytes) {
            return Ok(Space::Free);
        }
        let (began, until) = (Instant::now(), Instant::now() + PATIENCE);
        let space = match self.plan.cap.when_full {
            WhenFull::Reject => Err(self.full()),
            WhenFull::Block => self.wait_for_space(bytes, until).await.map(|()| Space::Free),
            WhenFull::SyncWrite => match self.synchronous.try_acquire() {
                Ok(permit) => Ok(Space::UntilFlushed(permit)),
                Err(_) => self.wait_for_space(bytes, until).await.map(|()| Space::Free),
            },
        };
        self.context.monitor.tell(&Event::BacklogFull { blocked: began.elapsed(), taken: space.is_ok() });
        space.inspect_err(|error| self.context.warnings.failed(error))
    }

    async fn wait_for_space(&self, bytes: usize, until: Instant) -> Result<()> {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            if self.has_space(bytes) {
                return Ok(());
            }
            self.wake.notify_one();
            if timeout_at(until, changed).await.is_err() {
                return Err(self.full());
            }
        }
    }

    /// A single write that is larger than the cap fits into an empty backlog.
    fn has_space(&self, bytes: usize) -> bool {
        let index = self.index.lock();
        let (cap, now) = (&self.plan.cap, Instant::now());
        let is_young = index.oldest().is_none_or(|oldest| now.duration_since(oldest.since) < cap.age);
        is_young && (index.bytes() == 0 || index.bytes() + bytes <= cap.bytes)
    }

    fn full(&self) -> Error {
        let index = self.index.lock();
        let (keys, bytes, dead) = (index.keys(), index.bytes(), index.dead());
        let message = format!(
            "the write-behind backlog is full: {keys} keys, {bytes} bytes, {dead} of them dead letters"
        );
        Error::new(ErrorKind::Backlog, message)
            .with_cure("check that the store answers and keeps up, or give the backlog a larger cap")
    }

    /// Waits until no write of the key up to `version` is dirty.
    pub(super) async fn until_flushed(
        &self,
        digest: &[u8; 16],
        version: terrace_tier::Version,
    ) -> Result<()> {
        let until = Instant::now() + PATIENCE;
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            match self.index.lock().get(digest) {
                Some(dirty) if dirty.oldest <= version => {
                    if let super::Progress::Dead(cause) = &dirty.progress {
                        return Err(cause.clone());
                    }
                }
                _ => return Ok(()),
            }
            self.wake.notify_one();
            if timeout_at(until, changed).await.is_err() {
                let message =
                    "the store did not take the write in time; it is dirty and may still reach the store";
                return Err(Error::new(ErrorKind::Unknown, message));
            }
        }
    }
}
