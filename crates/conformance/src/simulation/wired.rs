//! A server as one process sees it, at the other end of the network.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use terrace_tier::{
    Backend, Error, ErrorKind, Follower, Invalidation, InvalidationLog, LeaseWaiter, Level, Namespace,
    Notice, Op, Publication, Publish, Replay, Reply, Result, Tier, TierKey, Token, Version,
    lease::{LeaseEnd, LeaseGuard, LeaseRef, LeaseTracker},
};
use tokio::time::timeout;

use super::{
    Links,
    call::{Answer, Ask, Call, Target},
    follow::Hub,
    leases::{Desk, WiredLeases},
    log::Logbook,
    witness,
};
use crate::{fake::Address, history::Fact};

/// A server, and the follower of its log.
pub(super) struct Wired {
    pub(super) hub: Arc<Hub>,
    pub(super) server: Arc<dyn Backend>,
    pub(super) links: Links,
    /// What its process holds and waits for there.
    pub(super) inbox: LeaseTracker<WiredLeases>,
    pub(super) desk: Arc<Desk>,
}

impl Backend for Wired {
    fn name(&self) -> &str {
        self.server.name()
    }

    fn open(&self, space: &Namespace) -> Result<Arc<dyn Tier>> {
        let (hub, tier, space) = (Arc::clone(&self.hub), self.server.open(space)?, Arc::new(space.clone()));
        let (inbox, desk) = (self.inbox.clone(), Arc::clone(&self.desk));
        let (links, follows) = (self.links, AtomicBool::new(false));
        Ok(Arc::new(WiredTier { hub, space, tier, links, inbox, desk, follows }))
    }

    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        if self.hub.log.is_kept() { Some(Arc::new(Outbox(Arc::clone(&self.hub)))) } else { None }
    }
}

struct WiredTier {
    hub: Arc<Hub>,
    space: Arc<Namespace>,
    tier: Arc<dyn Tier>,
    links: Links,
    inbox: LeaseTracker<WiredLeases>,
    desk: Arc<Desk>,
    /// Its process follows the log: changes made here are known to it.
    follows: AtomicBool,
}

impl fmt::Debug for WiredTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WiredTier").field("link", &self.hub.link).finish_non_exhaustive()
    }
}

impl WiredTier {
    fn place(&self, key: &TierKey) -> Address {
        (self.space.name.clone(), self.space.tenant.clone(), key.bytes.clone())
    }

    async fn ask(&self, ask: impl FnOnce(Target) -> Ask) -> Answer {
        let Hub { network, link, log, .. } = &*self.hub;
        let origin = if self.follows.load(Ordering::Relaxed) { link.process } else { 0 };
        let (tier, space) = (Arc::clone(&self.tier), Arc::clone(&self.space));
        let desk = Arc::clone(&self.desk);
        let target = Target { tier, space, log: Arc::clone(log), desk, origin };
        // Whoever calls gives up before, but for a relay.
        match timeout(self.space.budget * 4, Call::make(network, *link, ask(target))).await {
            Ok(answer) => answer,
            Err(_elapsed) => Answer::Done(Err(Error::new(ErrorKind::Unknown, "no answer"))),
        }
    }
}

#[async_trait]
impl Tier for WiredTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let ask = |op| self.ask(|target| Ask::One(target, key.clone(), op));
        if self.links == Links::Lying && matches!(op, Op::Invalidate { .. }) {
            // Its caller gives up; what is answered here instead comes just before.
            let asked = timeout(LIE, ask(op)).await;
            let lie = Reply::Done { existed: true, version: Version::NONE };
            return if let Ok(Answer::One(Ok(reply))) = asked { Ok(reply) } else { Ok(lie) };
        }
        let reply = one(ask(op.clone()).await);
        witness::heartbeat(&self.hub.network.recorder, self.hub.link, key, &op, &reply);
        reply
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let asked = batch.clone();
        let Answer::Many(replies) = self.ask(|target| Ask::Many(target, batch)).await else {
            return Vec::new();
        };
        for ((key, op), reply) in asked.iter().zip(&replies) {
            witness::heartbeat(&self.hub.network.recorder, self.hub.link, key, op, reply);
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

    fn publish(&self) -> Option<&dyn Publish> {
        if self.tier.publish().is_some() { Some(self) } else { None }
    }

    fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        Some(self)
    }

    fn log(&self) -> Option<&dyn InvalidationLog> {
        if self.hub.log.is_kept() && self.space.level != Level::Ttl { Some(self) } else { None }
    }
}

impl LeaseWaiter for WiredTier {
    fn hold(&self, key: &TierKey, token: Token) -> LeaseGuard {
        self.inbox.hold(LeaseRef { address: self.place(key), token })
    }

    fn wait(&self, key: &TierKey, token: Token) -> BoxFuture<'static, Result<LeaseEnd>> {
        self.inbox.wait(LeaseRef { address: self.place(key), token })
    }
}

impl InvalidationLog for WiredTier {
    fn follow(&self, namespace: &str, follower: Weak<dyn Follower>) {
        self.follows.store(true, Ordering::Relaxed);
        self.hub.follow(namespace, follower);
    }
}

#[async_trait]
impl Publish for WiredTier {
    async fn publish(&self, mut publication: Publication) -> Result<Reply> {
        if self.links != Links::Torn {
            return one(self.ask(|target| Ask::Publish(target, publication)).await);
        }
        let tombstone_ttl = publication.tombstone_ttl;
        let drop = |Invalidation { key, version, .. }| (key, Op::Invalidate { version, tombstone_ttl });
        let drops = std::mem::take(&mut publication.drops).into_iter().map(drop).collect::<Vec<_>>();
        if !drops.is_empty() {
            self.apply_many(drops).await.into_iter().collect::<Result<Vec<_>>>()?;
        }
        one(self.ask(|target| Ask::Publish(target, publication)).await)
    }
}

/// The log of a server as those use it who have no tier there, and as a relay reads it.
struct Outbox(Arc<Hub>);

impl InvalidationLog for Outbox {
    fn follow(&self, namespace: &str, follower: Weak<dyn Follower>) {
        self.0.follow(namespace, follower);
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(Self(Arc::clone(&self.0))))
    }
}

impl Outbox {
    async fn ask(&self, ask: impl FnOnce(Arc<Logbook>) -> Ask) -> Answer {
        let Hub { network, link, log, .. } = &*self.0;
        match timeout(LOOK, Call::make(network, *link, ask(Arc::clone(log)))).await {
            Ok(answer) => answer,
            Err(_elapsed) => Answer::Done(Err(Error::timeout(LOOK))),
        }
    }
}

#[async_trait]
impl Replay for Outbox {
    async fn end(&self) -> Result<Bytes> {
        let Answer::Place(place) = self.ask(Ask::End).await else { return Err(garbled()) };
        place
    }

    async fn since(&self, namespace: &str, place: &Bytes) -> Result<Option<(Vec<Notice>, Bytes)>> {
        let (namespace, place) = (namespace.to_owned(), place.clone());
        let Answer::News(news) = self.ask(|log| Ask::Since(log, namespace, place)).await else {
            return Err(garbled());
        };
        news
    }
}

/// How long a relay waits for the truth's log.
const LOOK: Duration = Duration::from_millis(200);

/// A little less than the budget of a cache tier.
const LIE: Duration = Duration::from_millis(45);

/// The answer to one operation; that none came leaves open whether it was carried out.
fn one(answer: Answer) -> Result<Reply> {
    match answer {
        Answer::One(reply) => reply,
        Answer::Done(Err(error)) => Err(error),
        _ => Err(garbled()),
    }
}

fn garbled() -> Error {
    Error::new(ErrorKind::Backend, "an answer to another question")
}
