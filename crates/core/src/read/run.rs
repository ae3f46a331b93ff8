//! A load runs in a task of its own, which no caller's cancellation stops.

use std::{sync::Arc, time::Instant};

use terrace_tier::{Op, Reply, Stored, TierKey, Token};
use tracing::Instrument;

use super::PendingLoad;
use crate::{
    Error, ErrorKind, Event, Item, Key, Result, Value,
    cache::{Inner, Load},
    chain::Chain,
    flight::FlightId,
    near::Near,
    panics::{PanicText, caught},
};

tokio::task_local! {
    /// The flights whose loaders run in this task. A loader that waits for one of these flights would
    /// wait for itself.
    static LOADING: Arc<[FlightId]>;
}

/// Whether the caller is the loader of this flight.
pub(super) fn is_reentrant(flight: FlightId) -> bool {
    LOADING.try_with(|loading| loading.contains(&flight)).unwrap_or(false)
}

/// Spawns the task of a load.
pub(super) fn spawn_load<K: Key, V: Value, N: Near<K, V>>(
    inner: &Arc<Inner<K, V, N>>,
    chain: &Arc<Chain>,
    loads: Vec<PendingLoad<K, V>>,
    load: Load<V>,
) {
    let outer = LOADING.try_with(Arc::clone).unwrap_or_default();
    let flights = loads.iter().map(|load| load.ticket.flight().id);
    let loading: Arc<[FlightId]> = outer.iter().copied().chain(flights).collect();
    let (task, chain) = (Arc::clone(inner), Arc::clone(chain));
    let run = async move { task.run_load(&chain, loads, load, loading).await };
    inner.tasks.spawn(run.instrument(tracing::Span::current()));
}

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    async fn run_load(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        mut loads: Vec<PendingLoad<K, V>>,
        load: Load<V>,
        loading: Arc<[FlightId]>,
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
        match self.run_loader(load, loading).await {
            Ok(Ok(items)) => self.accept_all(chain, loads, items).await,
            Ok(Err(error)) => loads.into_iter().for_each(|load| self.fail_load(load, error.clone())),
            // The leaders' guards report the panic when they are dropped. After this report a follower
            // with a loader takes over.
            Err(panic) => loads.iter_mut().for_each(|load| load.leader.panicked(Arc::clone(&panic))),
        }
    }

    /// Ends a load with an error for all its callers.
    pub(super) fn fail_load(&self, load: PendingLoad<K, V>, error: Error) {
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
                    renewals.extend(self.is_to_be_replaced(&hit).then_some((at, hit.version)));
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

    /// Whether a load replaces this entry, because the entry is negative or has become stale.
    fn is_to_be_replaced(&self, hit: &Stored) -> bool {
        hit.body.is_none() || hit.deadlines.fresh_until <= self.clock.now()
    }

    /// Runs the loader within its deadline. Returns the loader's items, or the error of the whole load.
    /// The outer error is a panic.
    async fn run_loader(
        &self,
        load: Load<V>,
        loading: Arc<[FlightId]>,
    ) -> Result<Result<Vec<Result<Option<Item<V>>>>>, PanicText> {
        let began = Instant::now();
        let load = caught(LOADING.scope(loading, load));
        let result = match tokio::time::timeout(self.periods.load, load).await {
            Ok(Ok(items)) => Ok(Ok(items)),
            Ok(Err(panic)) => Err(panic),
            Err(_elapsed) => Ok(Err(self.late_load())),
        };
        let ok = matches!(&result, Ok(Ok(items)) if items.iter().all(Result::is_ok));
        self.tell(&Event::Loaded { elapsed: began.elapsed(), ok });
        result
    }

    fn late_load(&self) -> Error {
        let deadline = self.periods.load;
        let message = format!("the loader gave no answer within the load deadline of {deadline:?}");
        let error = Error::new(ErrorKind::Timeout, message);
        error.with_cure("make the loader quicker, or raise `Builder::load_deadline`")
    }
}
