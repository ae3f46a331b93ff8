//! Before a load: waiting for the load of another process.

use std::sync::Arc;

use terrace_tier::{
    Fence, LeaseWaiter, Token,
    defence::{Defence, enabled},
    lease::LeaseEnd,
};
use tokio::time::{Instant, timeout_at};

use super::{
    LookupOutcome, Miss, PendingLoad,
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
/// Where each holder dies, fails or finds nothing to keep, the remaining processes must not load in a row.
const MAX_WAITS: usize = 3;

/// What another process has loaded; `None` says to load.
type Awaited<V> = Option<(Arc<Entry<V>>, Source)>;

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    /// Waits for the loads of other processes. The returned loads are to be run, under the leases that
    /// this process holds now; the callers of the others were answered.
    ///
    /// The keys of a batch have one load. It waits only if other processes load all of them, so that no
    /// two batches wait for each other.
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

    /// Waits for the load of the lease's holder, and for that of a process that takes its place.
    async fn await_other(self: &Arc<Self>, chain: &Arc<Chain>, load: &mut PendingLoad<K, V>) -> Awaited<V> {
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
                // A plain read holds the lease, and does not load.
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
                // The load will meet the same trouble, and report it.
                _ => return None,
            }
        }
        None
    }

    /// The stale value in place of a wait, where the policy permits it.
    fn stale_instead(&self, miss: &Miss<V>) -> Awaited<V> {
        let stale = miss.stale.as_ref().filter(|_| self.policies.coalesce == Coalesce::LeaseOrStale)?;
        let now = self.clock.now();
        // A fresh entry that is not proven would not be marked, and so look like an answer.
        let marked = match miss.oldest_proof {
            ANY_AGE => true,
            STORE_ONLY => false,
            _ => !stale.is_fresh(now),
        };
        let alive = stale.value().is_some() && marked && now < stale.deadlines().stale_until;
        alive.then(|| {
            self.tell(&Event::StaleServed);
            (Arc::clone(stale), Source::Near)
        })
    }
}

/// Whether a load waits for nobody: its own lease is the one that other processes wait for, or no tier
/// has leases that can be waited for, or a `refresh` began the flight. A copy that another process fills
/// answers none of a refresh's followers, whichever of them leads the load.
fn is_first<K: Key, V>(chain: &Chain, load: &PendingLoad<K, V>) -> bool {
    let lease = lease_of(chain, &load.miss);
    let refreshes = match enabled(Defence::RefreshLoads) {
        true => load.miss.refreshes,
        false => load.ticket.intent() == Intent::Refresh,
    };
    refreshes || lease.is_none_or(|lease| lease.is_of(&load.miss))
}

/// The lease by which processes wait for each other, in the nearest tier that supports it.
struct Lease<'a> {
    /// The tier's index in the chain.
    index: usize,
    waiter: &'a dyn LeaseWaiter,
    token: Token,
}

impl Lease<'_> {
    /// Whether it is this load's own, and other processes wait for it.
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
