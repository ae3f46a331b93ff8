//! The contract of invalidation logs, which report the changes that other processes make.

use std::{
    sync::{Arc, Weak},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::{sync::Notify, time::Instant};

use crate::{Result, Version};

/// A change that the log reports for a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A key was written, invalidated or removed.
    Key {
        /// The tenant of the key, where the cache is built per tenant.
        tenant: Option<String>,
        /// The encoded key, the same as [`TierKey::bytes`](crate::TierKey::bytes).
        key: Bytes,
        /// The version that the change was given. Copies of this version and of later ones may stay.
        /// `None` means that no copy older than this notice may stay.
        version: Option<Version>,
    },
    /// All copies of the namespace, or all copies of one tenant in it, are dead. A read through the handle
    /// whose log reports this finds none of them, if it begins after the notice.
    Clear {
        /// The tenant. `None` means all tenants.
        tenant: Option<String>,
    },
    /// The log has lost entries or went back in time: no copy that was kept before is proven any more. It
    /// may have lost a clear, so it counts as one for the reads that begin after it.
    Lost,
}

/// Receives the changes of a namespace.
///
/// The log calls it in the order of the log, never concurrently for one namespace, and never while it
/// holds a lock of its own. Notices since the last [`Notice::Lost`] may come again.
pub trait Follower: Send + Sync + 'static {
    /// Something has happened.
    fn notice(&self, notice: &Notice);

    /// The same as [`notice`](Self::notice), from a log that gives each change a number of its own. A follower
    /// that has applied the change already may leave it out. By default it does not.
    fn change(&self, number: u64, notice: &Notice) {
        let _ = number;
        self.notice(notice);
    }

    /// Everything that had happened before `at` has been reported.
    ///
    /// `at` is the time at which the log *sent* the request whose answer shows this, less the time by which
    /// the server says that its entries are late. The time of the answer would be wrong: a process that
    /// was paused between request and answer would take old news for new.
    fn heartbeat(&self, at: Instant);

    /// Whether no copy that the log covers has answered a read since the last call. A log calls it about once a
    /// second. By default a follower is always in use.
    fn is_unused(&self) -> bool {
        false
    }

    /// The log gives no heartbeat until it is woken by `wake`, because all its followers are unused. The follower
    /// uses no copy that rests on an earlier heartbeat, and calls [`Notify::notify_one`] when it needs the log
    /// again. Its copies stay: the log goes on at its position, and reports changes late.
    fn suspend(&self, _wake: &Arc<Notify>) {}
}

/// A backend that reports to its processes every change made through it, by any of the processes.
///
/// There is one log for each backend handle, with one connection of its own, for any number of caches that
/// follow it. It is reached from [`Tier::log`](crate::Tier::log).
///
/// - A put, invalidation, removal, change of deadlines, or clear of a tier is in the log before the tier
///   answers it, whether or not it changed the cell.
/// - A put that was refused because of its condition is not in the log, and neither is a fill of a cache
///   tier.
/// - Caches of level `Ttl` have no log.
pub trait InvalidationLog: Send + Sync {
    /// Reports the changes of `namespace`, of all tenants, to `follower` until it is dropped. It gets
    /// [`Notice::Lost`] once before the first [`heartbeat`](Follower::heartbeat), since no near copy that
    /// was kept before the log was followed is proven.
    ///
    /// A change without a version that was made through this tier need not be reported: its own process
    /// has dropped its copies. A change with a version is reported, because a put may arrive after its
    /// writer has given up on it. A cache calls this on the tiers of all its tenants, with one follower.
    fn follow(&self, namespace: &str, follower: Weak<dyn Follower>);

    /// Goes on reading for the followers, where that is a task of the process and has ended with its runtime.
    /// A cache that follows calls this with each read that near does not answer, so it must be cheap: one
    /// atomic load where nothing is to be done. By default there is no such task.
    fn keep_following(&self) {}

    /// The log as a relay reads it. Only a log that reports the changes of the source itself, and that can
    /// be read from any position, has one. By default there is none.
    fn replay(&self) -> Option<Arc<dyn Replay>> {
        None
    }
}

/// A log that one process can go on reading at the position where another process has stopped.
#[async_trait]
pub trait Replay: Send + Sync + 'static {
    /// The position after everything that has happened, as text without a zero byte.
    ///
    /// # Errors
    /// The errors of the server.
    async fn end(&self) -> Result<Bytes>;

    /// What has happened in `namespace` after `position`, and the position after that. `None` where the
    /// log no longer knows, because it was cut or is not the log that gave the position.
    ///
    /// # Errors
    /// The errors of the server.
    async fn since(&self, namespace: &str, position: &Bytes) -> Result<Option<(Vec<Notice>, Bytes)>>;

    /// The same as [`since`](Self::since), with the number that the log gives each change, if it gives any.
    ///
    /// # Errors
    /// The errors of the server.
    async fn changes_since(&self, namespace: &str, position: &Bytes) -> Result<Option<NumberedChanges>> {
        let read = self.since(namespace, position).await?;
        Ok(read.map(|(notices, next)| (notices.into_iter().map(|notice| (None, notice)).collect(), next)))
    }
}

/// The changes in a log, each with its number if the log gives numbers, and the position after them.
pub type NumberedChanges = (Vec<(Option<u64>, Notice)>, Bytes);

/// When a log sent a request, on two clocks. The monotonic clock goes on while the process is stopped, and
/// the wall clock goes on while the machine sleeps.
#[derive(Clone, Copy, Debug)]
pub struct SentAt {
    monotonic: Instant,
    wall: SystemTime,
}

impl SentAt {
    /// The current time. It is taken before the request is sent.
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// The time on the monotonic clock, by which timers run.
    pub fn at(&self) -> Instant {
        self.monotonic
    }

    /// The argument for [`Follower::heartbeat`] when the answer has just come: the earlier of the times
    /// that the two clocks give.
    pub fn heartbeat_at(&self) -> Instant {
        let now = Instant::now();
        let age = self.wall.elapsed().unwrap_or_default().max(now - self.monotonic);
        now.checked_sub(age).unwrap_or(self.monotonic)
    }
}
