//! A load waits for the load of another process, before this process runs a loader of its own.

use std::sync::Arc;

use terrace_tier::{
    Fence, LeaseWaiter, Token,
    defence::{Defence, enabled},
    lease::LeaseEnd,
};
use tokio::time::{Instant, timeout_at};

use super::{
    LookupOutcome, Miss, PendingLoad, StaleCopy,
    fill::TierLease,
    lookup::{FlightKey, LookupPass},
};
use crate::{
    Coalesce, Event, Key, Source, Value,
    cache::Inner,
    chain::Chain,
    flight::Intent,
    freshness::{ANY_AGE, STORE_ONLY},
    near::{Entry, Near},
};

/// How many leases of other loads, one after another, a load waits for before it runs without a lease.
/// Each holder may die, fail or find nothing to keep, and the waiting processes must not load one after
/// the other.
const MAX_WAITS: usize = 3;

/// The entry that another process has loaded. The value `None` means that this process must load.
type RemoteLoad<V> = Option<(Arc<Entry<V>>, Source)>;

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    /// Waits for the loads of other processes. Returns the loads that this process must run, with the
    /// leases that this process holds now. The callers of all other loads have got their answers.
    ///
    /// The keys of a batch have one load. A batch waits only if other processes load all of its keys, so
    /// that no two batches wait for each other.
    pub(super) async fn await_others(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        mut loads: Vec<PendingLoad<K, V>>,
    ) -> Vec<PendingLoad<K, V>> {
        if !loads.iter().any(|load| is_first(chain, load)) {
            let waits = loads.iter_mut().map(|load| self.await_other(chain, load));
            let awaited = futures_util::future::join_all(waits).await;
            if let Some(awaited) = awaited.into_iter().collect::<Option<Vec<_>>>() {
                for (load, loaded) in loads.into_iter().zip(awaited) {
                    self.flights.complete(load.ticket.key(), load.ticket.flight().id);
                    load.leader.done(Ok(loaded));
                }
                return Vec::new();
            }
        }
        for load in &mut loads {
            let lease = lease_of(chain, &load.miss).filter(|lease| lease.is_of(&load.miss));
            load.lease = lease
                .map(|lease| TierLease::new(lease.index, lease.waiter.hold(&load.miss.key, lease.token)));
        }
        loads
    }

    /// Waits for the load of the lease's holder, and for the load of a process that replaces the holder.
    async fn await_other(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        load: &mut PendingLoad<K, V>,
    ) -> RemoteLoad<V> {
        let until = Instant::now() + self.periods.load;
        let waits = if enabled(Defence::Turns) { MAX_WAITS } else { usize::MAX };
        for _ in 0..waits {
            let lease = lease_of(chain, &load.miss).filter(|lease| !lease.is_of(&load.miss))?;
            let (token, tier) = (lease.token, chain.tiers[lease.index].shared.name);
            let end = if token.is_of_loader() || !enabled(Defence::OfLoader) {
                if let Some(stale) = self.stale_instead(&load.miss) {
                    return Some(stale);
                }
                let began = Instant::now();
                let until = if enabled(Defence::WaitEnds) { until } else { until + self.periods.load * 9 };
                let end = timeout_at(until, lease.waiter.wait(&load.miss.key, token)).await;
                self.tell(&Event::Waited { tier, elapsed: began.elapsed() });
                end.ok()?.ok()?
            } else {
                // A plain read holds the lease, and will not load.
                LeaseEnd::Free
            };
            let replaces = if end == LeaseEnd::Free { token } else { Token::NONE };
            let (key, id) = (Arc::clone(load.ticket.key()), load.ticket.flight().id);
            let intent = load.ticket.intent();
            let pass = LookupPass::new(self, chain, intent, load.miss.oldest_proof);
            let flight = FlightKey { key: Arc::clone(&key), id, replaces };
            match pass.look_up(&key, Some(&flight)).await {
                LookupOutcome::Found(entry, source) if entry.value().is_some() || chain.store.is_none() => {
                    return Some((entry, source));
                }
                LookupOutcome::Missed(miss) => {
                    let stale = miss.stale.or(load.miss.stale.take());
                    load.miss = Miss { stale, ..miss };
                }
                // The load will meet the same failure, and report the error.
                _ => return None,
            }
        }
        None
    }

    /// The stale value that a caller gets instead of a wait, where the policy permits it.
    fn stale_instead(&self, miss: &Miss<V>) -> RemoteLoad<V> {
        let leases = self.policies.coalesce == Coalesce::LeaseOrStale;
        let StaleCopy { entry: stale, from } = miss.stale.as_ref().filter(|_| leases)?;
        let now = self.clock.now();
        // A fresh entry without a proof would not be marked as stale, so it would look like a valid
        // answer.
        let marked = match miss.oldest_proof {
            ANY_AGE => true,
            STORE_ONLY => false,
            _ => !stale.is_fresh(now),
        };
        let alive = stale.value().is_some() && marked && now < stale.deadlines().stale_until;
        alive.then(|| (Arc::clone(stale), *from))
    }
}

/// Whether a load waits for no other process. A load waits for no other process in three cases:
///
/// - The load's own lease is the one that other processes wait for.
/// - No tier has leases that a process can wait for.
/// - A `refresh` began the flight. A copy that another process fills does not answer the callers of a
///   refresh, whichever of them leads the load.
fn is_first<K: Key, V>(chain: &Chain, load: &PendingLoad<K, V>) -> bool {
    let lease = lease_of(chain, &load.miss);
    let refreshes = match enabled(Defence::RefreshLoads) {
        true => load.miss.refreshes,
        false => load.ticket.intent() == Intent::Refresh,
    };
    refreshes || lease.is_none_or(|lease| lease.is_of(&load.miss))
}

/// The lease by which processes wait for each other's loads, in the nearest tier that supports such
/// waits.
struct Lease<'a> {
    /// The tier's index in the chain.
    index: usize,
    waiter: &'a dyn LeaseWaiter,
    token: Token,
}

impl Lease<'_> {
    /// Whether the lease is this load's own, and other processes wait for this lease.
    fn is_of<V>(&self, miss: &Miss<V>) -> bool {
        self.token == miss.token && self.token.is_of_loader()
    }
}

fn lease_of<'a, V>(chain: &'a Chain, miss: &Miss<V>) -> Option<Lease<'a>> {
    chain.tiers.iter().enumerate().find_map(|(index, slot)| {
        let Fence { token, .. } = miss.fences.get(index).filter(|fence| fence.token != Token::NONE)?;
        slot.lease_waiter().map(|waiter| Lease { index, waiter, token })
    })
}
