//! A server as one process uses it, over the network.

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
use terrace_conformance::parts::Address;
use terrace_tier::{
    Backend, Error, ErrorKind, Follower, Invalidation, InvalidationLog, LeaseWaiter, Level, Namespace,
    Notice, Op, Publication, Publish, Replay, Reply, Result, Tier, TierKey, Token, Version,
    lease::{LeaseEnd, LeaseGuard, LeaseRef, LeaseTracker},
};
use tokio::time::timeout;

use super::{follow::Followers, leases::RemoteLeases};
use crate::{
    history::Fact,
    message::{Request, Response, Target, mismatch},
    parts::Links,
    witness,
};

/// A server over the network, and the followers of its log.
pub(crate) struct Remote {
    pub(crate) followers: Arc<Followers>,
    pub(crate) server: Arc<dyn Backend>,
    pub(crate) links: Links,
    /// The leases that its process holds and waits for there.
    pub(crate) leases: LeaseTracker<RemoteLeases>,
    /// The server keeps a log.
    pub(crate) logged: bool,
}

impl Backend for Remote {
    fn name(&self) -> &str {
        self.server.name()
    }

    fn open(&self, namespace: &Namespace) -> Result<Arc<dyn Tier>> {
        let (followers, tier, leases) =
            (Arc::clone(&self.followers), self.server.open(namespace)?, self.leases.clone());
        let (namespace, follows) = (Arc::new(namespace.clone()), AtomicBool::new(false));
        let (links, logged) = (self.links, self.logged);
        Ok(Arc::new(RemoteTier { followers, namespace, tier, links, leases, logged, follows }))
    }

    fn log(&self) -> Option<Arc<dyn InvalidationLog>> {
        if self.logged { Some(Arc::new(Outbox(Arc::clone(&self.followers)))) } else { None }
    }
}

struct RemoteTier {
    followers: Arc<Followers>,
    namespace: Arc<Namespace>,
    tier: Arc<dyn Tier>,
    links: Links,
    leases: LeaseTracker<RemoteLeases>,
    logged: bool,
    /// Its process follows the log, and knows its own changes.
    follows: AtomicBool,
}

impl fmt::Debug for RemoteTier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTier").field("link", &self.followers.link).finish_non_exhaustive()
    }
}

impl RemoteTier {
    fn place(&self, key: &TierKey) -> Address {
        (self.namespace.name.clone(), self.namespace.tenant.clone(), key.bytes.clone())
    }

    async fn ask(&self, request: impl FnOnce(Target) -> Request) -> Response {
        let Followers { network, link, .. } = &*self.followers;
        let origin = if self.follows.load(Ordering::Relaxed) { link.process } else { 0 };
        let (tier, namespace) = (Arc::clone(&self.tier), Arc::clone(&self.namespace));
        let target = Target { tier, namespace, origin };
        // All callers but a relay give up before.
        match timeout(self.namespace.budget * 4, network.ask(*link, request(target))).await {
            Ok(response) => response,
            Err(_elapsed) => Response::Done(Err(Error::new(ErrorKind::Unknown, "no answer"))),
        }
    }
}

#[async_trait]
impl Tier for RemoteTier {
    async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply> {
        let ask = |op| self.ask(|target| Request::One(target, key.clone(), op));
        if self.links == Links::Lying && matches!(op, Op::Invalidate { .. }) {
            // The cache would give up; this lie is answered just before.
            let asked = timeout(LIE, ask(op)).await;
            let lie = Reply::Done { existed: true, version: Version::NONE };
            return if let Ok(Response::One(Ok(reply))) = asked { Ok(reply) } else { Ok(lie) };
        }
        let Followers { network, link, .. } = &*self.followers;
        let asked_at = network.recorder.now();
        let reply = one(ask(op.clone()).await);
        witness::answered(&network.recorder, asked_at, *link, key, &op, &reply);
        reply
    }

    async fn apply_many(&self, batch: Vec<(TierKey, Op)>) -> Vec<Result<Reply>> {
        let Followers { network, link, .. } = &*self.followers;
        let (asked, asked_at) = (batch.clone(), network.recorder.now());
        let Response::Many(replies) = self.ask(|target| Request::Many(target, batch)).await else {
            return Vec::new();
        };
        for ((key, op), reply) in asked.iter().zip(&replies) {
            witness::answered(&network.recorder, asked_at, *link, key, op, reply);
        }
        replies
    }

    async fn clear(&self) -> Result<()> {
        let Response::Done(done) = self.ask(Request::Clear).await else { return Err(mismatch()) };
        if done.is_ok() {
            let (process, tier) = (self.followers.link.process, self.followers.link.server);
            let (key, put, covers) = (None, false, None);
            self.followers.network.recorder.fact(Fact::Confirmed { tier, process, key, put, covers });
        }
        done
    }

    async fn ping(&self) -> Result<()> {
        let Response::Done(done) = self.ask(Request::Ping).await else { return Err(mismatch()) };
        done
    }

    fn may_be_held(&self) -> bool {
        true
    }

    fn publish(&self) -> Option<&dyn Publish> {
        if self.tier.publish().is_some() { Some(self) } else { None }
    }

    fn lease_waiter(&self) -> Option<&dyn LeaseWaiter> {
        Some(self)
    }

    fn log(&self) -> Option<&dyn InvalidationLog> {
        if self.logged && self.namespace.level != Level::Ttl { Some(self) } else { None }
    }
}

impl LeaseWaiter for RemoteTier {
    fn hold(&self, key: &TierKey, token: Token) -> LeaseGuard {
        self.leases.hold(LeaseRef { address: self.place(key), token })
    }

    fn wait(&self, key: &TierKey, token: Token) -> BoxFuture<'static, Result<LeaseEnd>> {
        self.leases.wait(LeaseRef { address: self.place(key), token })
    }
}

impl InvalidationLog for RemoteTier {
    fn follow(&self, namespace: &str, follower: Weak<dyn Follower>) {
        self.follows.store(true, Ordering::Relaxed);
        self.followers.follow(namespace, follower);
    }
}

#[async_trait]
impl Publish for RemoteTier {
    async fn publish(&self, mut publication: Publication) -> Result<Reply> {
        if self.links != Links::Torn {
            return one(self.ask(|target| Request::Publish(target, publication)).await);
        }
        let tombstone_ttl = publication.tombstone_ttl;
        let drop = |Invalidation { key, version, .. }| (key, Op::Invalidate { version, tombstone_ttl });
        let drops = std::mem::take(&mut publication.drops).into_iter().map(drop).collect::<Vec<_>>();
        if !drops.is_empty() {
            self.apply_many(drops).await.into_iter().collect::<Result<Vec<_>>>()?;
        }
        one(self.ask(|target| Request::Publish(target, publication)).await)
    }
}

/// The log of a server, for followers without a tier there and for relays.
struct Outbox(Arc<Followers>);

impl InvalidationLog for Outbox {
    fn follow(&self, namespace: &str, follower: Weak<dyn Follower>) {
        self.0.follow(namespace, follower);
    }

    fn replay(&self) -> Option<Arc<dyn Replay>> {
        Some(Arc::new(Self(Arc::clone(&self.0))))
    }
}

impl Outbox {
    async fn ask(&self, request: Request) -> Response {
        let Followers { network, link, .. } = &*self.0;
        match timeout(LOOK, network.ask(*link, request)).await {
            Ok(response) => response,
            Err(_elapsed) => Response::Done(Err(Error::timeout(LOOK))),
        }
    }
}

#[async_trait]
impl Replay for Outbox {
    async fn end(&self) -> Result<Bytes> {
        let Response::Place(place) = self.ask(Request::End).await else { return Err(mismatch()) };
        place
    }

    async fn since(&self, namespace: &str, place: &Bytes) -> Result<Option<(Vec<Notice>, Bytes)>> {
        let (namespace, place) = (namespace.to_owned(), place.clone());
        let Response::News(news) = self.ask(Request::Since(namespace, place)).await else {
            return Err(mismatch());
        };
        news
    }
}

/// How long a relay waits for the log of the store.
const LOOK: Duration = Duration::from_millis(200);

/// A little less than the budget of a cache tier.
const LIE: Duration = Duration::from_millis(45);

/// The reply to one operation; without a response it is unknown whether it was carried out.
fn one(response: Response) -> Result<Reply> {
    match response {
        Response::One(reply) => reply,
        Response::Done(Err(error)) => Err(error),
        _ => Err(mismatch()),
    }
}
