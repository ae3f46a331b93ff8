//! Freshness policies: what happens on a stale hit.

use std::time::Duration;

use terrace_core::policy::{Freshness, OnStale, RenewalContext, StaleHit};

use crate::suite::{Outcome, ensure, ensure_eq};

/// The stale times of the entries in these cases.
const WINDOWS: [Duration; 4] =
    [Duration::from_millis(1), Duration::from_secs(10), Duration::from_secs(86_400), Duration::MAX];

/// Stale hits on one entry with this stale time, at growing ages.
fn ageing(window: Duration, renewable: bool) -> Vec<StaleHit> {
    let last = window.saturating_sub(Duration::from_millis(1));
    let ages = [Duration::ZERO, window / 10, window / 2, window / 10 * 9, last];
    ages.iter().map(|&age| StaleHit::new(age, window - age, renewable)).collect()
}

fn lifetimes() -> impl Iterator<Item = Vec<StaleHit>> {
    WINDOWS.into_iter().flat_map(|window| [ageing(window, true), ageing(window, false)])
}

pub(super) fn any_hit_is_answered(policy: &dyn Freshness) -> Outcome {
    for hit in lifetimes().flatten() {
        let _any = (policy.on_stale(&hit), policy.on_error(&hit));
    }
    Ok(())
}

pub(super) fn the_same_hit_is_answered_alike(policy: &dyn Freshness) -> Outcome {
    let answer = |hit: &StaleHit| (policy.on_stale(hit), policy.on_error(hit));
    for hit in lifetimes().flatten() {
        let first = answer(&hit);
        for _ in 0..8 {
            ensure_eq!(answer(&hit), first, "the answer must be the same for the same {hit:?}");
        }
    }
    Ok(())
}

/// All reads of an entry, in all processes, must find one time of renewal.
pub(super) fn the_same_entry_has_one_lead(policy: &dyn Freshness) -> Outcome {
    let load_times = [None, Some(Duration::ZERO), Some(Duration::from_millis(50)), Some(Duration::MAX)];
    for (life, load_time) in WINDOWS.into_iter().flat_map(|life| load_times.map(|time| (life, time))) {
        for chance in [0.0, 0.5, 1.0 - f64::EPSILON] {
            let lead = || policy.lead(&RenewalContext::new(life, load_time, chance));
            let first = lead();
            for _ in 0..8 {
                ensure_eq!(lead(), first, "the lead must be the same for a life of {life:?} and {chance}");
            }
        }
    }
    Ok(())
}

/// The time in which an entry is served has one end: an entry that is too stale stays too stale.
pub(super) fn what_is_served_was_served_when_it_was_younger(policy: &dyn Freshness) -> Outcome {
    no_gap(|hit| policy.on_stale(hit) != OnStale::Miss)
}

pub(super) fn what_an_error_serves_it_served_when_it_was_younger(policy: &dyn Freshness) -> Outcome {
    no_gap(|hit| policy.on_error(hit))
}

pub(super) fn only_what_can_be_renewed_is_refreshed(policy: &dyn Freshness) -> Outcome {
    for hit in lifetimes().flatten().filter(|hit| !hit.renewable) {
        let answer = policy.on_stale(&hit);
        ensure!(
            answer != OnStale::ServeAndRefresh,
            "an entry that nothing can renew must not be refreshed: {hit:?}"
        );
    }
    Ok(())
}

fn no_gap(serves: impl Fn(&StaleHit) -> bool) -> Outcome {
    for hits in lifetimes() {
        for pair in hits.windows(2) {
            ensure!(
                serves(&pair[0]) || !serves(&pair[1]),
                "an entry that is refused at {:?} must not be served at {:?}",
                pair[0],
                pair[1]
            );
        }
    }
    Ok(())
}
