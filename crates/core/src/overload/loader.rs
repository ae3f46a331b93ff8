//! A loader runs within the load limit and its deadline.
//!
//! The load limit of a cache bounds the loads under way in this process, so that a burst of misses does
//! not overload the origin.
//!
//! By Little's law the loads under way are the origin's throughput times the time of one load. More loads
//! under way do not make the origin answer more of them: they only make each load wait longer within the
//! origin, until callers give up before their values come.

use std::{sync::Arc, time::Duration};

use tracing::Instrument;

use super::limit::{Limit, Permit};
use crate::{
    Error, ErrorKind, Event, Item, Key, Result, Value,
    cache::{Inner, Load},
    chain::Warnings,
    flight::{FlightId, Intent},
    near::Near,
    panics::{PanicText, caught},
    read::PendingLoad,
};

/// The load limit of a cache whose builder sets none. An origin of 400 loads a second answers each of 128
/// loads within a third of a second; `docs/adr/0023-a-limit-on-loads-under-way.md` says more.
pub(crate) const DEFAULT_MAX_LOADS: usize = 128;

/// How long a load waits for others to end. A caller learns by then that the origin is overloaded.
const PATIENCE: Duration = Duration::from_millis(100);

const CURE: &str = "give the origin more capacity, or set another limit with max_loads";

pub(crate) struct LoadLimit {
    all: Limit,
    /// The loads of renewals in the background, which leave half of the limit to loads that callers wait for.
    background: Limit,
    warnings: Warnings,
}

/// The permission to run a loader.
pub(crate) struct LoadPermit {
    _all: Permit,
    _background: Option<Permit>,
}

impl LoadLimit {
    pub(crate) fn new(max: usize, cache: Arc<str>) -> Self {
        let warnings = Warnings::new(cache, "loader");
        Self { all: Limit::new(max), background: Limit::new(max.div_ceil(2)), warnings }
    }

    pub(crate) fn under_way(&self) -> usize {
        self.all.under_way()
    }

    pub(crate) fn waiting(&self) -> usize {
        self.all.waiting()
    }

    /// The permission for a load that callers wait for. A load that `may_wait` waits in a short queue.
    pub(crate) async fn enter(&self, may_wait: bool) -> Option<LoadPermit> {
        let all = match self.all.try_enter() {
            None if may_wait => self.all.enter(PATIENCE).await,
            all => all,
        };
        all.map(|all| LoadPermit { _all: all, _background: None })
    }

    /// The permission for a load that no caller waits for.
    pub(crate) fn enter_background(&self) -> Option<LoadPermit> {
        let background = self.background.try_enter()?;
        Some(LoadPermit { _all: self.all.try_enter()?, _background: Some(background) })
    }

    /// The error of a load that was refused. Such errors are told in the program's log once a minute.
    pub(crate) fn refused(&self) -> Error {
        let max = self.all.max();
        let message = format!("{max} loads are under way, which is the limit `max_loads`; no loader ran");
        let error = Error::new(ErrorKind::Busy, message).with_cure(CURE);
        self.warnings.refused(&error);
        error
    }
}

tokio::task_local! {
    /// The loads that the loader of this task is a part of.
    static LOADING: Arc<EnclosingLoads>;
}

/// The loads that a loader is a part of: its own, and those whose loaders wait for it.
pub(crate) struct EnclosingLoads {
    /// The load whose loader waits for this load.
    outer: Option<Arc<Self>>,
    /// A loader that waits for one of these flights, or of those of the outer loads, would wait for itself.
    /// Most loads have one flight.
    flight: Option<FlightId>,
    more_flights: Vec<FlightId>,
    /// The cache of these flights, by its address.
    cache: usize,
}

impl EnclosingLoads {
    /// A load of these flights that the caller's task starts in this cache.
    pub(crate) fn of(cache: usize, mut flights: impl Iterator<Item = FlightId>) -> Self {
        let (outer, flight) = (LOADING.try_with(Arc::clone).ok(), flights.next());
        Self { outer, flight, more_flights: flights.collect(), cache }
    }

    /// Whether a loader waits for this load.
    pub(crate) fn are_nested(&self) -> bool {
        self.outer.is_some()
    }

    /// Whether a loader of the same cache waits for this load. Such a load is a part of that loader's own
    /// load: if it needed a permit too, loads that hold all permits would wait for each other.
    fn are_part_of_own(&self) -> bool {
        self.outer().any(|outer| outer.cache == self.cache)
    }

    fn has(&self, flight: FlightId) -> bool {
        self.flight == Some(flight) || self.more_flights.contains(&flight)
    }

    /// The loads whose loaders wait for this one.
    fn outer(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(self.outer.as_deref(), |inner| inner.outer.as_deref())
    }
}

/// Whether the caller is the loader of this flight.
pub(crate) fn is_reentrant(flight: FlightId) -> bool {
    let has =
        |loading: &Arc<EnclosingLoads>| loading.has(flight) || loading.outer().any(|outer| outer.has(flight));
    LOADING.try_with(has).unwrap_or(false)
}

/// Whether no caller waits for the load.
pub(crate) fn is_renewal<K: Key, V>(loads: &[PendingLoad<K, V>]) -> bool {
    loads.iter().all(|load| load.ticket.intent() == Intent::Revalidate)
}

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    /// Runs the loader within the load limit and its deadline. Returns the loader's items, or the error of
    /// the whole load. The outer error is a panic, and `None` says that the limit permits no further load.
    pub(crate) async fn run_loader(
        &self,
        loads: &[PendingLoad<K, V>],
        load: Load<V>,
        loading: EnclosingLoads,
    ) -> Option<Result<Result<Vec<Result<Option<Item<V>>>>>, PanicText>> {
        let _permit = if loading.are_part_of_own() { None } else { Some(self.permit(loads).await?) };
        let began = tokio::time::Instant::now();
        let load = caught(LOADING.scope(Arc::new(loading), load)).instrument(self.monitor.load_span());
        let result = match tokio::time::timeout(self.periods.load, load).await {
            Ok(Ok(items)) => Ok(Ok(items)),
            Ok(Err(panic)) => Err(panic),
            Err(_elapsed) => Ok(Err(self.late_load())),
        };
        let ok = matches!(&result, Ok(Ok(items)) if items.iter().all(Result::is_ok));
        self.tell(&Event::Loaded { elapsed: began.elapsed(), ok });
        Some(result)
    }

    fn late_load(&self) -> Error {
        let deadline = self.periods.load;
        let message = format!("the loader gave no answer within the load deadline of {deadline:?}");
        let error = Error::new(ErrorKind::Timeout, message);
        error.with_cure("make the loader quicker, or raise `Builder::load_deadline`")
    }

    /// The permission to run the loader. A load waits for it unless stale values may answer all its
    /// callers, or no caller waits.
    async fn permit(&self, loads: &[PendingLoad<K, V>]) -> Option<LoadPermit> {
        if is_renewal(loads) {
            return self.load_limit.enter_background();
        }
        let may_wait = !loads.iter().all(|load| !load.miss.refreshes && self.stale_may_answer(&load.miss));
        self.load_limit.enter(may_wait).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn renewals_leave_half_of_the_limit_to_loads_that_callers_wait_for() {
        let limit = LoadLimit::new(5, "tests".into());
        let background: Vec<_> = std::iter::from_fn(|| limit.enter_background()).collect();
        assert_eq!((background.len(), limit.under_way()), (3, 3));
        let awaited = (limit.enter(true).await, limit.enter(false).await);
        assert!(awaited.0.is_some() && awaited.1.is_some());
        drop(background);
        let mut awaited = vec![awaited.0, awaited.1];
        while limit.under_way() < 5 {
            awaited.push(limit.enter(false).await);
        }
        assert!(limit.enter_background().is_none(), "callers have taken the whole limit");
        drop(awaited);
        assert!(LoadLimit::new(1, "tests".into()).enter_background().is_some(), "a limit of one renews, too");
        assert_eq!(limit.under_way(), 0);
    }
}
