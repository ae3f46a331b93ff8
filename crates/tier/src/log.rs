//! The contract of invalidation logs: how a process hears of the changes that others make.

use std::{
    sync::{Arc, Weak},
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::time::Instant;

use crate::{Result, Version};

/// What the log says has happened in a namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Notice {
    /// A key was written, invalidated or removed.
    Key {
        /// Whose key, where the cache is built per tenant.
        tenant: Option<String>,
        /// The encoded key, as [`TierKey::bytes`](crate::TierKey) has it.
        key: Bytes,
        /// The version that the change was given: copies of it and of later ones may stay. `None`
        /// says that nothing older than now may.
        version: Option<Version>,
    },
    /// All copies of the namespace, or of one tenant's part of it, are dead.
    Clear {
        /// Whose copies; `None` for everyone's.
        tenant: Option<String>,
    },
    /// The log has a hole or went back in time: nothing that was kept before is proven any more.
    Lost,
}

/// Who is to hear of a namespace's changes; called in the order of the log, never concurrently for
/// one namespace, and never under a lock of the log's. What was told since the last [`Notice::Lost`] may
/// be told again.
pub trait Follower: Send + Sync + 'static {
    /// Something has happened.
    fn notice(&self, notice: &Notice);

    /// All that had happened before `at` was told. `at` is when the request was *sent* whose answer
    /// shows it, less what the server says its news were late by: never when the answer came, or a
    /// process that was paused in between would trust the past.
    fn heartbeat(&self, at: Instant);
}

/// A backend that tells its processes of every change made through it, by whichever process.
///
/// One for each backend handle, with one connection of its own, however many caches follow it.
/// Reached from [`Tier::log`](crate::Tier::log). A put, invalidation, removal, other life or clear of a
/// tier is in the log before the tier has answered it, whether or not it changed the cell. A put that
/// was refused for its condition is not, nor are the fills of a cache tier. Level `Ttl` has no log.
pub trait InvalidationLog: Send + Sync {
    /// Tells `follower` of the namespace's changes, of all tenants, until it is dropped. It is told
    /// [`Notice::Lost`] once before the first [`heard`](Follower::heartbeat): what near kept before the
    /// log was followed is not proven.
    ///
    /// It need not be told of a change without a version that was made through this very tier: its
    /// process has dropped its copies itself. Of one with a version it is told: a put may land after
    /// its writer has given it up. A cache calls this on the tiers of all its tenants, with one follower.
    fn follow(&self, namespace: &str, follower: Weak<dyn Follower>);

    /// The log as a relay reads it, where it tells of the truth itself and can be read from any place.
    /// By default it cannot.
    fn replay(&self) -> Option<Arc<dyn Replay>> {
        None
    }
}

/// A log that can be read on from where another process has left it.
#[async_trait]
pub trait Replay: Send + Sync + 'static {
    /// The place behind everything that has happened.
    ///
    /// # Errors
    /// The server's.
    async fn end(&self) -> Result<Bytes>;

    /// What has happened in `namespace` behind `place`, and the place behind that. `None` where the
    /// log cannot tell any more: it was cut, or it is another one.
    ///
    /// # Errors
    /// The server's.
    async fn since(&self, namespace: &str, place: &Bytes) -> Result<Option<(Vec<Notice>, Bytes)>>;
}

/// When a log's question was sent, on both clocks: the one does not stand still while a process is
/// stopped, the other not while the machine sleeps.
#[derive(Clone, Copy, Debug)]
pub struct SentAt {
    at: Instant,
    wall: SystemTime,
}

impl SentAt {
    /// Now: to be taken before the question goes out.
    pub fn now() -> Self {
        Self { at: Instant::now(), wall: SystemTime::now() }
    }

    /// By the clock that timers go by.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// What a [`Follower`] is to be told of an answer that has just come: the older of what the two
    /// clocks say.
    pub fn heartbeat_at(&self) -> Instant {
        let now = Instant::now();
        let age = self.wall.elapsed().unwrap_or_default().max(now - self.at);
        now.checked_sub(age).unwrap_or(self.at)
    }
}
