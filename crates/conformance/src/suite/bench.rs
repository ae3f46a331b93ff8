//! One tier under test, with short methods for its operations.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use terrace_core::{Version, key::key_digest};
use terrace_tier::{
    Condition, Deadlines, Fence, Namespace, Op, Order, Reply, Role, Stored, Tier, TierKey, Timestamp, Token,
};

use super::{Failure, Outcome, ensure, ensure_eq, subject::Subject};

/// Longer than any test run.
pub(crate) const LONG: Duration = Duration::from_secs(3600);

/// A tier of the subject under a namespace that no other case uses.
pub(crate) struct Bench {
    pub(crate) subject: Subject,
    pub(crate) namespace: Namespace,
    pub(crate) tier: Arc<dyn Tier>,
}

impl Bench {
    pub(crate) fn open(subject: Subject, role: Role, case: &str) -> Result<Self, Failure> {
        let case: String = case.chars().take(60).collect();
        let name = format!("{case}-{:016x}", fastrand::u64(..));
        let namespace = Namespace::new(name, role).with_type(1, 7).with_budget(Duration::from_secs(60));
        let tier = subject.backend.open(&namespace)?;
        Ok(Self { subject, namespace, tier })
    }

    /// A tier of the same backend for another namespace.
    pub(crate) fn sibling(&self, change: impl FnOnce(&mut Namespace)) -> Result<Self, Failure> {
        let mut namespace = self.namespace.clone();
        change(&mut namespace);
        let tier = self.subject.backend.open(&namespace)?;
        Ok(Self { subject: self.subject.clone(), namespace, tier })
    }

    /// As [`sibling`](Self::sibling), through the second handle.
    pub(crate) fn sibling_through_second(
        &self,
        change: impl FnOnce(&mut Namespace),
    ) -> Result<Self, Failure> {
        let mut namespace = self.namespace.clone();
        change(&mut namespace);
        let backend = self.subject.second.as_ref().unwrap_or(&self.subject.backend);
        let tier = backend.open(&namespace)?;
        Ok(Self { subject: self.subject.clone(), namespace, tier })
    }

    /// The same namespace through the second handle.
    pub(crate) fn through_second_handle(&self) -> Result<Self, Failure> {
        self.sibling_through_second(|_| {})
    }

    pub(crate) fn role(&self) -> Role {
        self.namespace.role
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.subject.clock.now()
    }

    pub(crate) async fn wait(&self, time: Duration) {
        (self.subject.wait)(time).await;
    }

    pub(crate) fn key(&self, bytes: impl AsRef<[u8]>) -> TierKey {
        let bytes = bytes.as_ref();
        let digest = key_digest(&self.namespace.name, self.namespace.tenant.as_deref(), bytes);
        TierKey { bytes: Bytes::copy_from_slice(bytes), digest }
    }

    pub(crate) fn long(&self) -> Deadlines {
        Deadlines::ttl(self.now(), LONG)
    }

    pub(crate) async fn apply(&self, key: &TierKey, op: Op) -> Result<Reply, Failure> {
        Ok(self.tier.apply(key, op).await?)
    }

    pub(crate) async fn get(&self, key: &TierKey) -> Result<Reply, Failure> {
        self.apply(key, Op::Get).await
    }

    /// The value or negative entry of the key; the read must hit.
    pub(crate) async fn hit(&self, key: &TierKey) -> Result<Stored, Failure> {
        let reply = self.get(key).await?;
        let Reply::Hit(stored) = reply else { return wrong("a read must hit", &reply) };
        Ok(stored)
    }

    /// Checks that a read finds this body.
    pub(crate) async fn reads(&self, key: &TierKey, body: &'static str) -> Outcome {
        ensure_eq!(self.hit(key).await?.body, Some(bytes(body)), "a read must give the value");
        Ok(())
    }

    /// Checks that a read finds nothing.
    pub(crate) async fn misses(&self, key: &TierKey) -> Outcome {
        ensure_eq!(self.get(key).await?, Reply::Miss(Fence::default()), "a read must miss, without a fence");
        Ok(())
    }

    /// The fence of a lease; the tier must grant it.
    pub(crate) async fn lease(&self, key: &TierKey) -> Result<Fence, Failure> {
        self.lease_for(key, LONG, None).await
    }

    pub(crate) async fn lease_for(
        &self,
        key: &TierKey,
        ttl: Duration,
        over: Option<Version>,
    ) -> Result<Fence, Failure> {
        let reply =
            self.apply(key, Op::Lease { token: Token::random(), ttl, over, replaces: Token::NONE }).await?;
        let Reply::Miss(fence) = reply else { return wrong("a lease must be granted", &reply) };
        Ok(fence)
    }

    /// The fence of a granted lease, which replaces the lease with the token `replaces`.
    pub(crate) async fn lease_replacing(
        &self,
        key: &TierKey,
        over: Option<Version>,
        replaces: Token,
    ) -> Result<Fence, Failure> {
        let reply = self.apply(key, lease_op(over, replaces)).await?;
        let Reply::Miss(fence) = reply else { return wrong("a lease must be granted", &reply) };
        Ok(fence)
    }

    /// Fills with the version of the fence.
    pub(crate) async fn fill(
        &self,
        key: &TierKey,
        fence: Fence,
        body: &'static str,
    ) -> Result<Reply, Failure> {
        self.fill_version(key, fence, fence.version, body).await
    }

    pub(crate) async fn fill_version(
        &self,
        key: &TierKey,
        fence: Fence,
        version: Version,
        body: &'static str,
    ) -> Result<Reply, Failure> {
        let body = Some(bytes(body));
        self.apply(key, Op::Fill { fence, version, deadlines: self.long(), body }).await
    }

    /// Checks that the tier refuses a fill.
    pub(crate) async fn refuses(&self, key: &TierKey, fence: Fence) -> Outcome {
        let reply = self.fill(key, fence, "must be refused").await?;
        ensure!(matches!(reply, Reply::Refused(_)), "the fill must be refused\n  found    {reply:?}");
        Ok(())
    }

    /// Puts as the authority, unconditionally.
    pub(crate) async fn put(&self, key: &TierKey, body: &'static str) -> Result<Version, Failure> {
        self.put_until(key, body, self.long()).await
    }

    pub(crate) async fn put_until(
        &self,
        key: &TierKey,
        body: &'static str,
        deadlines: Deadlines,
    ) -> Result<Version, Failure> {
        let reply = self.write(key, Order::Author(Condition::Always), Some(bytes(body)), deadlines).await?;
        kept(&reply)
    }

    pub(crate) async fn put_if(
        &self,
        key: &TierKey,
        condition: Condition,
        body: &'static str,
    ) -> Result<Reply, Failure> {
        self.write(key, Order::Author(condition), Some(bytes(body)), self.long()).await
    }

    pub(crate) async fn follow(
        &self,
        key: &TierKey,
        version: Version,
        body: &'static str,
    ) -> Result<Reply, Failure> {
        self.write(key, Order::Follow(version), Some(bytes(body)), self.long()).await
    }

    pub(crate) async fn write(
        &self,
        key: &TierKey,
        order: Order,
        body: Option<Bytes>,
        deadlines: Deadlines,
    ) -> Result<Reply, Failure> {
        self.apply(key, Op::Put { order, deadlines, body, tombstone_ttl: LONG }).await
    }

    /// Returns whether a value was there, and the version that stays.
    pub(crate) async fn invalidate(
        &self,
        key: &TierKey,
        version: Option<Version>,
    ) -> Result<(bool, Version), Failure> {
        self.done(key, Op::Invalidate { version, tombstone_ttl: LONG }).await
    }

    pub(crate) async fn remove(&self, key: &TierKey) -> Result<(bool, Version), Failure> {
        self.done(key, Op::Remove { tombstone_ttl: LONG }).await
    }

    pub(crate) async fn expire(
        &self,
        key: &TierKey,
        deadlines: Deadlines,
    ) -> Result<(bool, Version), Failure> {
        self.done(key, Op::Expire { deadlines }).await
    }

    async fn done(&self, key: &TierKey, op: Op) -> Result<(bool, Version), Failure> {
        let reply = self.apply(key, op).await?;
        let Reply::Done { existed, version } = reply else {
            return wrong("the reply must be `Done`", &reply);
        };
        Ok((existed, version))
    }
}

/// The version of a reply, which must be `Kept`.
pub(crate) fn kept(reply: &Reply) -> Result<Version, Failure> {
    let Reply::Kept(version) = reply else { return wrong("the value must be kept", reply) };
    Ok(*version)
}

pub(crate) fn wrong<T>(what: &str, reply: &Reply) -> Result<T, Failure> {
    let what = format!("{what}\n  found    {}", super::shortened(reply));
    Err(Failure::Broken { at: "the tier's reply".to_owned(), what })
}

pub(crate) fn bytes(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

pub(super) fn lease_op(over: Option<Version>, replaces: Token) -> Op {
    Op::Lease { token: Token::random(), ttl: LONG, over, replaces }
}
