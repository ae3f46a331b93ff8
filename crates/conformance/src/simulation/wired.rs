//! A server as one process sees it, at the other end of the network.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use terrace_core::{
    Backend, Error, ErrorKind, Follower, InvalidationLog, Level, Op, Reply, Result, Space, Tier, TierKey,
    Version,
};

use super::{
    call::{Answer, Ask, Call, Target},
    follow::Hub,
    witness,
};
use crate::history::Fact;

/// A server, and the follower of its log.
pub(super) struct Wired {
    pub(super) hub: Arc<Hub>,
    pub(super) server: Arc<dyn Backend>,
    /// Writes that failed are answered as if they had not: a switch.
    pub(super) lies: bool,
}

impl Backend for Wired {
    fn name(&self) -> &str {
        self.server.name()
    }

    fn open(&self, space: &Space) -> Result<Arc<dyn Tier>> {
        let (hub, tier, space) = (Arc::clone(&self.hub), self.server.open(space)?, Arc::new(space.clone()));
        Ok(Arc::new(WiredTier { hub, space, tier, lies: self.lies, follows: AtomicBool::new(false) }))
    }
}

struct WiredTier {
    hub: Arc<Hub>,
    space: Arc<Space>,
    tier: Arc<dyn Tier>,
    lies: bool,
    /// Its process follows the log: changes made here are known to it.
    follows: AtomicBool,
}

impl fmt::Debug for WiredTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WiredTier").field("link", &self.hub.link).finish_non_exhaustive()
    }
}

impl WiredTier {
    async fn ask(&self, ask: impl FnOnce(Target) -> Ask) -> Answer {
        let Hub { network, link, log, .. } = &*self.hub;
        let origin = if self.follows.load(Ordering::Relaxed) { link.process } else { 0 };
        let (tier, space) = (Arc::clone(&self.tier), Arc::clone(&self.space));
        let target = Target { tier, space, log: Arc::clone(log), origin };
        Call::make(network, *link, ask(target)).await
    }
}

#[async_trait]
impl Tier for WiredTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let ask = |op| self.ask(|target| Ask::One(target, key.clone(), op));
        if self.lies && matches!(op, Op::Invalidate { .. }) {
            // Its caller gives up; what is answered here instead comes just before.
            let asked = tokio::time::timeout(LIE, ask(op)).await;
            let lie = Reply::Done { existed: true, version: Version::NONE };
            return if let Ok(Answer::One(Ok(reply))) = asked { Ok(reply) } else { Ok(lie) };
        }
        let Answer::One(reply) = ask(op.clone()).await else { return Err(garbled()) };
        witness::heard(&self.hub.network.recorder, self.hub.link, key, &op, &reply);
        reply
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let asked = batch.clone();
        let Answer::Many(replies) = self.ask(|target| Ask::Many(target, batch)).await else {
            return Vec::new();
        };
        for ((key, op), reply) in asked.iter().zip(&replies) {
            witness::heard(&self.hub.network.recorder, self.hub.link, key, op, reply);
        }
        replies
    }

    async fn clear(&self) -> Result<()> {
        let Answer::Done(done) = self.ask(Ask::Clear).await else { return Err(garbled()) };
        if done.is_ok() {
            let (process, tier) = (self.hub.link.process, self.hub.link.server);
            let (key, put, covers) = (None, false, None);
            self.hub.network.recorder.fact(Fact::Confirmed { tier, process, key, put, covers });
        }
        done
    }

    async fn ping(&self) -> Result<()> {
        let Answer::Done(done) = self.ask(Ask::Ping).await else { return Err(garbled()) };
        done
    }

    fn log(&self) -> Option<&dyn InvalidationLog> {
        if self.hub.log.is_kept() && self.space.level != Level::Ttl { Some(self) } else { None }
    }
}

impl InvalidationLog for WiredTier {
    fn follow(&self, namespace: &str, follower: Weak<dyn Follower>) {
        self.follows.store(true, Ordering::Relaxed);
        self.hub.follow(namespace, follower);
    }
}

/// A little less than the budget of a cache tier.
const LIE: std::time::Duration = std::time::Duration::from_millis(45);

fn garbled() -> Error {
    Error::new(ErrorKind::Backend, "an answer to another question")
}
