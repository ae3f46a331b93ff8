//! A load is not stopped by any caller's cancellation: what is not ready at once runs in a task of its own.

use std::{num::NonZero, sync::Arc};

use terrace_tier::{Op, Reply, Stored, TierKey, Token};

use super::{Miss, PendingLoad, StaleCopy};
use crate::{
    Error, Event, Key, Value,
    cache::{Inner, Load, NEAR},
    chain::Chain,
    freshness::STORE_ONLY,
    near::Near,
    overload::{EnclosingLoads, is_renewal},
};

/// Starts a load. The caller polls it once. What is not ready then goes on in a task, so that no cancellation
/// stops it, and a caller that is held and not polled keeps nobody waiting.
///
/// The whole load is a task in two cases:
///
/// - A stale value may answer a caller before the load ends. A loader that blocks must not keep it.
/// - The caller is a loader itself. Loads within loads would otherwise grow the stack with their depth.
pub(super) fn start_load<K: Key, V: Value, N: Near<K, V>>(
    inner: &Arc<Inner<K, V, N>>,
    chain: &Arc<Chain>,
    loads: Vec<PendingLoad<K, V>>,
    load: Load<V>,
) {
    let flights = loads.iter().map(|load| load.ticket.flight().id);
    let loading = EnclosingLoads::of(Arc::as_ptr(inner).addr(), flights);
    let in_task = loading.are_nested() || loads.iter().any(|load| load.miss.stale.is_some());
    let (task, chain) = (Arc::clone(inner), Arc::clone(chain));
    let run = async move { task.run_load(&chain, loads, load, loading).await };
    // Without a runtime the leaders' guards are dropped here, which tells the callers.
    let _started = match in_task {
        true => inner.tasks.spawn(run).map(drop),
        false => inner.tasks.start(run),
    };
}

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    async fn run_load(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        mut loads: Vec<PendingLoad<K, V>>,
        load: Load<V>,
        loading: EnclosingLoads,
    ) {
        self.take_missing_leases(chain, &mut loads).await;
        if self.policies.coalesce.waits() {
            // The wait is boxed, so that loads which wait for no other process do not pay for its stack
            // size.
            loads = Box::pin(self.await_others(chain, loads)).await;
            if loads.is_empty() {
                return;
            }
        }
        let Some(loaded) = self.run_loader(&loads, load, loading).await else { return self.refuse(loads) };
        match loaded {
            Ok(Ok(items)) => self.accept_all(chain, loads, items).await,
            Ok(Err(error)) => loads.into_iter().for_each(|load| self.fail_load(load, error.clone())),
            // The leaders' guards report the panic when they are dropped. After this report a follower
            // with a loader takes over.
            Err(panic) => loads.iter_mut().for_each(|load| {
                self.note_failure(load);
                load.leader.panicked(Arc::clone(&panic));
            }),
        }
    }

    /// Ends a load whose loader does not run. Where no caller began the load, one that follows it by now
    /// takes over, and all others get the error.
    fn refuse(&self, mut loads: Vec<PendingLoad<K, V>>) {
        self.tell(&Event::LoadRefused);
        let error = self.load_limit.refused();
        if is_renewal(&loads) {
            loads.iter_mut().for_each(|load| {
                self.note_failure(load);
                load.leader.refused();
            });
            return;
        }
        loads.into_iter().for_each(|load| self.fail_load(load, error.clone()));
    }

    /// Whether the stale value that a lookup met may answer all callers of the load.
    pub(crate) fn stale_may_answer(&self, miss: &Miss<V>) -> bool {
        let serves = |stale: &StaleCopy<V>| self.serves_on_error(&stale.entry.deadlines());
        miss.oldest_proof != STORE_ONLY && miss.stale.as_ref().is_some_and(serves)
    }

    /// Notes that a load has failed: renewals pause, and the near tier keeps the stale value that stands
    /// in for the value, so that it also does where its tier fails.
    fn note_failure(&self, load: &PendingLoad<K, V>) {
        let key = load.ticket.key();
        if load.miss.stale.is_some() || load.ticket.intent().renews() {
            self.back_off.failed(&**key);
        }
        if let Some(stale) = load.miss.stale.as_ref()
            && self.stale_may_answer(&load.miss)
            && self.admits(NEAR, load.miss.stale_bytes.map(NonZero::get))
        {
            let keep = || self.keep_stale(key, &stale.entry);
            let kept = self.flights.while_attached(key, load.ticket.flight().id, keep);
            self.tell_kept(kept.unwrap_or_default());
        }
    }

    /// Ends a load with an error for all its callers.
    pub(super) fn fail_load(&self, load: PendingLoad<K, V>, error: Error) {
        self.note_failure(&load);
        // The flight leaves the table before its callers get the error, so that a later call begins a
        // new flight.
        self.flights.complete(load.ticket.key(), load.ticket.flight().id);
        load.leader.done(Err(error));
    }

    /// Takes the leases of the farthest cache tier that plain reads did not take. The requests for these
    /// leases have the rest of the budget that the lookups left.
    async fn take_missing_leases(&self, chain: &Chain, loads: &mut [PendingLoad<K, V>]) {
        let Some((last, slot)) = chain.tiers.iter().enumerate().next_back() else { return };
        let wanted: Vec<usize> = (0..loads.len()).filter(|&at| loads[at].miss.unleased).collect();
        if wanted.is_empty() {
            return;
        }
        let spent = wanted.iter().map(|&at| loads[at].miss.spent).max().unwrap_or_default();
        let began = tokio::time::Instant::now();
        let keys: Vec<TierKey> = loads.iter().map(|load| load.miss.key.clone()).collect();
        let tokens: Vec<Token> = loads.iter().map(|_| self.new_token(true)).collect();
        let (ttl, replaces) = (self.periods.lease, Token::NONE);
        let lease =
            |at: usize, over| (keys[at].clone(), Op::Lease { token: tokens[at], ttl, over, replaces });
        let mut renewals = Vec::new();
        let batch = wanted.iter().map(|&at| lease(at, None)).collect();
        for (at, reply) in wanted.into_iter().zip(slot.call_many(spent, batch).await) {
            loads[at].miss.token = tokens[at];
            let fence = match reply {
                Ok(Reply::Miss(given)) => Some(given),
                Ok(Reply::Hit(hit)) => {
                    let replaces = loads[at].miss.shares || self.is_to_be_replaced(&hit);
                    renewals.extend(replaces.then_some((at, hit.version)));
                    None
                }
                _ => None,
            };
            loads[at].miss.fences.set(last, fence);
        }
        let batch = renewals.iter().map(|&(at, version)| lease(at, Some(version))).collect();
        let replies = slot.call_many(spent + began.elapsed(), batch).await;
        for ((at, _), reply) in renewals.into_iter().zip(replies) {
            if let Ok(Reply::Miss(given)) = reply {
                loads[at].miss.fences.set(last, Some(given));
            }
        }
    }

    /// Whether a load replaces this entry of its own type, because the entry is negative or has become stale.
    fn is_to_be_replaced(&self, hit: &Stored) -> bool {
        hit.body.is_none() || hit.deadlines.fresh_until <= self.clock.now()
    }
}
