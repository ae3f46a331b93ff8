//! What operates a cache: lives, readiness, numbers, the end.

use std::{hash::Hash, sync::atomic::Ordering, time::Duration};

use super::{
    Cache,
    grounds::ProofSource,
    inner::NEAR,
    proof::{ANY, NONE},
    write::finished,
};
use crate::{
    Deadlines, Entry, Error, ErrorKind, Event, KeyName, Level, Near, Op, Reply, Result, Role, Stats,
    TierStats,
    chain::{TierCounters, TierShared, TierSlot},
    key::BorrowedKey,
    near::{TenantId, TenantKeyRef},
};

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    /// The name of the cache.
    pub fn namespace(&self) -> &str {
        &self.inner.monitor.namespace
    }

    /// The name under which other processes and servers know a key: for what invalidates it from
    /// there, such as a transaction of the origin.
    ///
    /// # Errors
    /// [`ErrorKind::Key`] for a key that no server can take; [`ErrorKind::Config`] where the cache has
    /// neither a remote tier nor a store nor a log that it follows: nobody else knows it.
    pub fn name_of<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<KeyName> {
        let Some(keys) = &self.inner.keys else {
            return Err(Error::config("nobody but this process knows this cache"));
        };
        Ok(KeyName {
            namespace: self.namespace().to_owned(),
            tenant: self.chain.tenant_name.clone(),
            key: keys.key(&key.to_key())?,
        })
    }

    /// What remains of a key's life where it is kept longest: in the store, else in the farthest
    /// tier that answers. `None` if there is no value; [`Duration::MAX`] if it lives for ever.
    ///
    /// At level `Bounded` a copy that is not proven has none, and at `Strong` the store alone is asked.
    ///
    /// # Errors
    /// The last tier's, where none answers.
    pub async fn ttl<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q) -> Result<Option<Duration>> {
        self.check_readable()?;
        let oldest = self.oldest();
        if self.chain.is_local() {
            let entry = self.inner.near.get(&TenantKeyRef { tenant: self.chain.tenant, key });
            let is_good = |entry: &Entry<V>| oldest == ANY || self.trusts(entry, self.inner.clock.now());
            let entry = entry.filter(|entry| entry.value().is_some() && is_good(entry));
            return Ok(entry.and_then(|entry| self.remaining(&entry.deadlines())));
        }
        let key = self.inner.tier_key(&self.chain, &self.scoped(key.to_key()))?;
        let mut failed = None;
        for place in self.chain.far_to_near().filter(|place| !place.owes(&key)) {
            if oldest == NONE && place.line.role == Role::Cache {
                break;
            }
            let began = self.inner.clock.now();
            match place.call(&key, Op::Get).await {
                Ok(Reply::Hit(hit)) if hit.body.is_some() => {
                    let proven = place.line.role == Role::Store || self.inner.proof_of(&hit, began) >= oldest;
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

    /// Gives a value another life, counted from now: a record's own in a store, else its copies'.
    /// Whether a value was there.
    ///
    /// # Errors
    /// The authority's; [`ErrorKind::Partial`] where a copy could not be changed;
    /// [`ErrorKind::Unsupported`] at level `Bounded` without a truth to ask: nothing but the life of a
    /// copy says there how old it may be.
    pub async fn expire<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q, ttl: Duration) -> Result<bool> {
        self.inner.check_open()?;
        if matches!(self.inner.grounds, ProofSource::Age) {
            let message = "at level Bounded without a truth to ask, a longer life is a new put";
            return Err(Error::new(ErrorKind::Unsupported, message));
        }
        let deadlines = Deadlines::ttl(self.inner.clock.now(), ttl);
        let scoped = self.scoped(key.to_key());
        if self.chain.is_local() {
            return Ok(self.inner.expire_local(&scoped, deadlines));
        }
        let (inner, chain) = (std::sync::Arc::clone(&self.inner), std::sync::Arc::clone(&self.chain));
        let task = async move { inner.expire_through(&chain, &scoped, deadlines).await };
        finished(self.inner.tasks.spawn(task)).await
    }

    /// Drops all cached copies of the namespace (of a tenant's: the tenant's); records stay. Loads
    /// under way are kept nowhere.
    ///
    /// # Errors
    /// [`ErrorKind::Partial`] where a tier did not confirm: this process reads past it until it has.
    pub async fn clear(&self) -> Result<()> {
        self.inner.check_open()?;
        self.inner.tell(&Event::Dropped);
        let cache = self.clone();
        let task = async move {
            let mut failed = Vec::new();
            let inner = &cache.inner;
            let _clearing = match inner.level {
                Level::Ttl => Some(inner.open_fills.clear().await),
                _ => None,
            };
            for place in cache.chain.tiers.iter().rev() {
                failed.extend(place.clear().await.err());
            }
            let tenant = cache.chain.tenant;
            inner.drop_copies((tenant != TenantId::NONE).then_some(tenant));
            match failed.is_empty() {
                true => Ok(()),
                false => {
                    let tiers: Vec<String> = failed.iter().map(Error::to_string).collect();
                    Err(Error::new(ErrorKind::Partial, format!("not cleared: {}", tiers.join("; "))))
                }
            }
        };
        finished(self.inner.tasks.spawn(task)).await
    }

    /// One trip to every remote tier.
    ///
    /// # Errors
    /// The first tier's that does not answer.
    pub async fn ping(&self) -> Result<()> {
        self.inner.check_open()?;
        for place in self.chain.far_to_near() {
            place.ping().await?;
        }
        Ok(())
    }

    /// Waits until every remote tier, and what [`changes`](super::Builder::watch_origin) named, answers, has
    /// its tables, and agrees on the namespace's terms with the other processes. A cache works without;
    /// tiers that are away are lost tiers, and waited for until they come: bound the wait by
    /// [`timeout`](tokio::time::timeout) where that may be never.
    ///
    /// # Errors
    /// [`ErrorKind::NamespaceInUse`] and other errors that waiting does not heal.
    pub async fn ready(&self) -> Result<()> {
        for place in self.chain.far_to_near() {
            self.until_it_answers(|| place.ready()).await?;
        }
        if let Some(relay) = &self.inner.relay {
            while !relay.started().await? {
                self.inner.check_open()?;
            }
        } else if let Some(origin) = self.chain.changes.as_ref().and_then(|log| log.replay()) {
            self.until_it_answers(|| origin.end()).await?;
        }
        Ok(())
    }

    async fn until_it_answers<T>(&self, ask: impl AsyncFn() -> Result<T>) -> Result<T> {
        let mut pause = Duration::from_millis(10);
        loop {
            self.inner.check_open()?;
            match ask().await {
                Err(error) if error.is_transient() => tokio::time::sleep(pause).await,
                answer => return answer,
            }
            pause = (pause * 2).min(Duration::from_millis(500));
        }
    }

    /// What the cache has done since it was built.
    pub fn stats(&self) -> Stats {
        let inner = &self.inner;
        let near = inner.near.size();
        let monitor = &inner.monitor;
        let mut tiers = Vec::new();
        if inner.near.is_enabled() {
            tiers.push(tier_stats(NEAR, &inner.near_counters, false));
        }
        let places = self.chain.tiers.iter().chain(&self.chain.store);
        tiers.extend(places.map(|place: &TierSlot| line_stats(&place.line)));
        Stats {
            tiers,
            loads: monitor.loads.sum(),
            load_errors: monitor.load_errors.sum(),
            coalesced: monitor.coalesced.sum(),
            waits: monitor.waits.sum(),
            stale_served: monitor.stale_served.sum(),
            puts: monitor.puts.sum(),
            drops: monitor.drops.sum(),
            fills_skipped: monitor.fills_skipped.sum(),
            near_entries: near.entries,
            near_weight: near.weight,
            flights: inner.flights.len(),
        }
    }

    /// Waits until no load, fill or write is under way: for tests.
    pub async fn settled(&self) {
        self.inner.tasks.settled().await;
    }

    /// Ends the cache, for all its handles: waits for writes and fills under way, at most five
    /// seconds. Any later use is [`ErrorKind::Closed`].
    pub async fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        // What still runs after that is bounded by its own budgets.
        let _ = tokio::time::timeout(Duration::from_secs(5), self.inner.tasks.settled()).await;
        self.inner.flights.detach_all(|_| true);
        self.inner.near.clear(None);
    }
}

fn line_stats(line: &TierShared) -> TierStats {
    tier_stats(line.name, &line.counters, line.health.is_lost())
}

fn tier_stats(name: &str, counters: &TierCounters, lost: bool) -> TierStats {
    TierStats {
        name: name.to_owned(),
        hits: counters.hits.sum(),
        misses: counters.misses.sum(),
        fills: counters.fills.sum(),
        fills_refused: counters.fills_refused.sum(),
        errors: counters.errors.sum(),
        unproven: counters.unproven.sum(),
        undecodable: counters.undecodable.sum(),
        lost,
    }
}
