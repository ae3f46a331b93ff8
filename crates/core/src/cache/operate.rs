//! These methods operate a cache: its values' lives, its readiness, its statistics and its end.

use std::{sync::atomic::Ordering, time::Duration};

use terrace_tier::{Deadlines, Finding, KeyName, Op, Reply, Role, runtime::current_runtime};

use super::Cache;
use crate::{
    BorrowedKey, Error, Key, Result, Value,
    chain::FULL_BUDGET,
    freshness::{ANY_AGE, STORE_ONLY},
    near::{Entry, Near, TenantId, TenantKeyRef},
    panics::joined,
    write::unconfirmed_error,
};

/// How long `close` waits for writes and fills under way.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// The pause after the first attempt of `ready`.
const FIRST_PAUSE: Duration = Duration::from_millis(10);

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// The name of the cache.
    pub fn namespace(&self) -> &str {
        &self.inner.monitor.namespace
    }

    /// The name under which other processes and servers know a key. Code outside this process, such as a
    /// transaction of the origin, invalidates the key by this name.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::Key`](crate::ErrorKind::Key) for a key that no server can take,
    /// and with [`ErrorKind::Config`](crate::ErrorKind::Config) if the cache has neither a remote tier
    /// nor a store nor a log that it follows. No other process knows a cache without these parts.
    pub fn name_of<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<KeyName> {
        let Some(codec) = &self.inner.key_codec else {
            let error = Error::config(
                "no other process knows this cache: give it a shared tier, a store, or `watch_origin`",
            );
            return Err(self.name_error(error, "name_of"));
        };
        Ok(KeyName {
            namespace: self.namespace().to_owned(),
            tenant: self.chain.tenant_name.clone(),
            key: codec.key(&key.to_key()).map_err(|error| self.name_error(error, "name_of"))?,
        })
    }

    /// The rest of a key's life in the tier that keeps the key longest: in the store, or without a store
    /// in the farthest tier that answers. The result is `None` if there is no value, and
    /// [`Duration::MAX`] if the value lives for ever.
    ///
    /// At level `Bounded` the result is `None` for a copy that is not proven. At level `Strong` the call
    /// asks only the store.
    ///
    /// # Errors
    /// The call fails with the error of the last tier, if no tier answers.
    ///
    /// # Cost
    /// The call makes one round trip to a tier, and one more for each tier that fails.
    pub async fn ttl<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<Option<Duration>> {
        self.ttl_of(key).await.map_err(|error| self.name_error(error, "ttl"))
    }

    async fn ttl_of<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<Option<Duration>> {
        let oldest_proof = self.begin_read(false)?.oldest_proof;
        if self.chain.is_local() {
            let entry = self.inner.near.get(&TenantKeyRef { tenant: self.chain.tenant, key });
            let accepts = |entry: &Entry<V>| {
                let now = self.inner.clock.now();
                oldest_proof == ANY_AGE || self.mode.accepts_near(entry, now, &self.inner.coherence)
            };
            let entry = entry.filter(|entry| entry.value().is_some() && accepts(entry));
            return Ok(entry.and_then(|entry| self.remaining(&entry.deadlines())));
        }
        let key = self.inner.tier_key(&self.chain, &self.tenant_key(key.to_key()))?;
        if let Some(reply) = self.inner.behind.as_ref().and_then(|behind| behind.read(&key)) {
            return Ok(match reply {
                Reply::Hit(hit) => self.remaining(&hit.deadlines),
                _ => None,
            });
        }
        let mut failed = None;
        for slot in self.chain.far_to_near().filter(|slot| !slot.owes(&key)) {
            if oldest_proof == STORE_ONLY && slot.shared.role == Role::Cache {
                break;
            }
            let (clock, began) = (&self.inner.clock, self.inner.clock.now());
            match slot.call(FULL_BUDGET, &key, Op::Get).await {
                Ok(Reply::Hit(hit)) if hit.body.is_some() => {
                    let proof = || self.inner.proof_source.of_copy(&hit, began, clock);
                    let proven = slot.shared.role == Role::Store || proof() >= oldest_proof;
                    return Ok(self.remaining(&hit.deadlines).filter(|_| proven));
                }
                Ok(_) => return Ok(None),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(None), Err)
    }

    fn remaining(&self, deadlines: &Deadlines) -> Option<Duration> {
        if deadlines.expires_at == crate::Timestamp::NEVER {
            return Some(Duration::MAX);
        }
        let remaining = deadlines.remaining(self.inner.clock.now());
        (remaining > Duration::ZERO).then_some(remaining)
    }

    /// Gives a value another life, counted from now. In a cache with a store the record gets the new
    /// life, and in a cache without a store the copies get it. The result says whether the key had a
    /// value.
    ///
    /// # Errors
    /// The call fails with the error of the authority, with
    /// [`ErrorKind::Partial`](crate::ErrorKind::Partial) if a copy could not be changed, and with
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) at level `Bounded` without a store or a
    /// watched origin: in such a cache only the life of a copy bounds its age.
    ///
    /// # Cost
    /// The call makes one round trip to each tier, far to near. It goes on if its caller goes away.
    pub async fn expire<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q, ttl: Duration) -> Result<bool> {
        self.inner.renewals.forget(&TenantKeyRef { tenant: self.chain.tenant, key });
        self.named("expire", self.expire_one(key.to_key(), ttl).await)
    }

    /// Renews the life of a value that is in use, such as a session, if this process has not renewed it
    /// within a tenth of `life`. A key without a value stays without one.
    ///
    /// # Errors
    /// The errors are those of [`expire`](Self::expire). After an error, and after a call that was
    /// cancelled, the next call tries again.
    ///
    /// # Cost
    /// In a process at most one call in a tenth of `life` makes the round trips of [`expire`](Self::expire)
    /// for a key, and drops the key's copies. The other calls compare two times and allocate nothing. A
    /// process remembers its renewals of 10,000 keys.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use terrace_core::{Cache, NoNear, Result};
    /// # async fn example(sessions: &Cache<u64, String, NoNear>) -> Result<()> {
    /// if let Some(session) = sessions.get(&7).await? {
    ///     sessions.touch(&7, Duration::from_secs(30 * 60)).await?; // on each request
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn touch<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q, life: Duration) -> Result<()> {
        self.named("touch", self.touch_one(key, life).await)
    }

    /// Drops all cached copies of the namespace, or in a tenant's cache all copies of the tenant. The
    /// records of a store stay. The values of loads under way are not kept.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::Partial`](crate::ErrorKind::Partial) if a tier did not confirm
    /// the clear. This process reads past an unconfirmed tier until the tier confirms.
    ///
    /// # Cost
    /// The call makes one round trip to each cache tier, far to near, in a spawned task.
    pub async fn clear(&self) -> Result<()> {
        self.named("clear", self.inner.begin_call(&self.chain, true))?;
        let cache = self.clone();
        let task = async move {
            let mut failed = Vec::new();
            let inner = &cache.inner;
            let _guard = match inner.fencing.unfenced() {
                Some(fills) => Some(fills.clear().await),
                None => None,
            };
            for slot in cache.chain.tiers.iter().rev() {
                failed.extend(slot.clear().await.err());
            }
            let tenant = cache.chain.tenant;
            inner.drop_copies((tenant != TenantId::NONE).then_some(tenant));
            let result = match failed.is_empty() {
                true => Ok(()),
                false => Err(unconfirmed_error("did not confirm the clear", &failed)),
            };
            inner.tell_dropped(&result);
            result
        };
        let result = joined(self.inner.tasks.spawn(task)).await.flatten();
        result.map_err(|error| self.name_error(error, "clear"))
    }

    /// Makes one round trip to every remote tier.
    ///
    /// # Errors
    /// The call fails with the error of the first tier that does not answer.
    pub async fn ping(&self) -> Result<()> {
        let ping = async {
            self.inner.begin_call(&self.chain, false)?;
            for slot in self.chain.far_to_near() {
                slot.ping().await?;
            }
            Ok(())
        };
        self.named("ping", ping.await)
    }

    /// Waits until every remote tier, and the backend given to
    /// [`watch_origin`](super::Builder::watch_origin), answers, has its tables, and agrees with the
    /// other processes on the options of the namespace. A cache works without a call of `ready`. A tier
    /// that does not answer is a lost tier, and the call waits until it answers: where that may never
    /// happen, bound the wait by [`timeout`](tokio::time::timeout).
    ///
    /// It tries on each server what the cache will do, and returns what is wrong there and only slows the
    /// cache. Each finding names its tier, the cause and the cure.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::NamespaceInUse`](crate::ErrorKind::NamespaceInUse), also while another
    /// write-behind front holds the namespace, and with other errors that waiting does not resolve. [`Error::finding`](crate::Error::finding) tells what is
    /// wrong with a server.
    pub async fn ready(&self) -> Result<Vec<Finding>> {
        self.named("ready", self.until_ready().await)
    }

    async fn until_ready(&self) -> Result<Vec<Finding>> {
        self.inner.begin_call(&self.chain, true)?;
        let mut findings = Vec::new();
        for slot in self.chain.far_to_near() {
            let mut pause = FIRST_PAUSE;
            findings.extend(loop {
                match slot.ready().await {
                    Err(error) if error.is_transient() => self.pause(&mut pause).await?,
                    found => break found?,
                }
            });
        }
        if let Some(behind) = &self.inner.behind {
            behind.keep_flushing();
            let mut pause = FIRST_PAUSE;
            while let Err(error) = behind.open(&self.chain).await {
                match error.is_transient() {
                    true => self.pause(&mut pause).await?,
                    false => return Err(error),
                }
            }
        }
        if let Some(relay) = &self.inner.relay {
            while !relay.handle().started().await? {
                self.inner.begin_call(&self.chain, true)?;
            }
        } else if let Some(origin) = self.chain.origin_log.as_ref().and_then(|log| log.replay()) {
            let mut pause = FIRST_PAUSE;
            loop {
                match origin.end().await {
                    Err(error) if error.is_transient() => self.pause(&mut pause).await?,
                    end => break end.map(drop)?,
                }
            }
        }
        Ok(findings)
    }

    /// Waits before `ready` asks again, each time twice as long, up to half a second.
    async fn pause(&self, pause: &mut Duration) -> Result<()> {
        tokio::time::sleep(*pause).await;
        *pause = (*pause * 2).min(Duration::from_millis(500));
        self.inner.check_open()
    }

    /// Waits until no load, fill or write is under way. `settled` is for tests.
    pub async fn settled(&self) {
        self.inner.tasks.settled().await;
    }

    /// Ends the cache for all its handles. The method waits for writes and fills under way, for at most
    /// five seconds. A cache with write-behind flushes for at most five seconds first: use
    /// [`close_within`](Cache::close_within) to give it more time, and to learn what is left. Any later use of the cache fails with [`ErrorKind::Closed`](crate::ErrorKind::Closed).
    pub async fn close(&self) {
        self.end_front(CLOSE_WITHIN).await;
        self.end().await;
    }

    pub(crate) async fn end(&self) {
        self.inner.closed.store(true, Ordering::Release);
        // A task that still runs after this wait is bounded by the budgets of its calls. Outside of a runtime
        // there is nothing that this call could wait for.
        if current_runtime().is_ok() {
            let _ = tokio::time::timeout(CLOSE_WITHIN, self.inner.tasks.settled()).await;
        }
        self.inner.flights.detach_all(|_| true);
        self.inner.near.clear(None);
    }
}
