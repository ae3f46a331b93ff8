//! Lifetimes and caps.

use std::time::Duration;

use terrace_core::policy::{Expiry, OnStale, StaleHit, WriteContext};

use crate::suite::{Outcome, ensure, ensure_eq};

/// From none at all to more than fits in any counter of milliseconds.
const TIMES: [Duration; 8] = [
    Duration::ZERO,
    Duration::from_nanos(1),
    Duration::from_millis(1),
    Duration::from_secs(1),
    Duration::from_secs(86_400),
    Duration::from_millis(u64::MAX),
    Duration::from_secs(u64::MAX),
    Duration::MAX,
];

/// The whole range of the chance that a write is given: 0 up to 1.
const CHANCES: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0 - f64::EPSILON];

fn writings(chance: f64) -> Vec<WriteContext> {
    let lives = TIMES.into_iter().map(Some).chain([None]);
    let of =
        |ttl| [WriteContext::value(), WriteContext::absent()].map(|w| w.with_ttl(ttl).with_chance(chance));
    lives.flat_map(of).collect()
}

pub(super) fn any_time_is_answered(policy: &dyn Expiry) -> Outcome {
    for chance in CHANCES {
        for writing in writings(chance) {
            let _any = policy.lifetime(&writing);
        }
        for ttl in TIMES {
            let _any = policy.cap(ttl, chance);
        }
    }
    Ok(())
}

/// The caller knows how long its value holds; a policy may cut that, never stretch it.
pub(super) fn a_life_of_its_own_is_not_exceeded(policy: &dyn Expiry) -> Outcome {
    for writing in CHANCES.into_iter().flat_map(writings) {
        let fresh = policy.lifetime(&writing).fresh;
        ensure!(writing.ttl.is_none_or(|own| fresh <= own), "fresh for {fresh:?}, given {writing:?}");
    }
    Ok(())
}

pub(super) fn chance_does_not_decide_whether_an_entry_is_kept(policy: &dyn Expiry) -> Outcome {
    let kept = |writing: &WriteContext| !policy.lifetime(writing).fresh.is_zero();
    // Of less than a millisecond nothing may be left.
    let long = |writing: &WriteContext| writing.ttl.is_none_or(|ttl| ttl > Duration::from_millis(1));
    for writing in writings(0.0).into_iter().filter(long) {
        for chance in CHANCES {
            let other = writing.clone().with_chance(chance);
            ensure_eq!(kept(&other), kept(&writing), "whether an entry is kept, at the chance {chance}");
        }
    }
    Ok(())
}

/// Else neither its tests nor those of its cache can be repeated. A second is allowed to policies
/// that read a clock.
pub(super) fn there_is_no_chance_but_the_one_given(policy: &dyn Expiry) -> Outcome {
    for writing in CHANCES.into_iter().flat_map(writings) {
        let (first, fresh) = (policy.lifetime(&writing).fresh, |_| policy.lifetime(&writing).fresh);
        let differs = (0..8).map(fresh).find(|next| next.abs_diff(first) > Duration::from_secs(1));
        ensure!(differs.is_none(), "fresh for {first:?}, then for {differs:?}, of the same {writing:?}");
    }
    Ok(())
}

/// An absence that outlives its time hides a value that has appeared.
pub(super) fn an_absence_is_never_stale(policy: &dyn Expiry) -> Outcome {
    for writing in CHANCES.into_iter().flat_map(writings).filter(|writing| writing.negative) {
        ensure_eq!(policy.lifetime(&writing).stale, Duration::ZERO, "the stale time of an absence");
    }
    Ok(())
}

pub(super) fn a_cap_never_extends(policy: &dyn Expiry) -> Outcome {
    for chance in CHANCES {
        for ttl in TIMES {
            let cap = policy.cap(ttl, chance);
            ensure!(cap <= ttl, "a tier's cap of {ttl:?} became {cap:?} at the chance {chance}");
        }
    }
    Ok(())
}

/// A policy that brings a freshness policy means its stale time to be used by it.
pub(super) fn a_stale_time_of_its_own_is_used(policy: &dyn Expiry) -> Outcome {
    let stale = policy.lifetime(&WriteContext::value()).stale;
    let Some(freshness) = policy.freshness() else { return Ok(()) };
    let hit = StaleHit::new(Duration::ZERO, stale, true);
    let used = freshness.on_stale(&hit) != OnStale::Miss || freshness.on_error(&hit);
    ensure!(used && !stale.is_zero(), "its freshness policy makes no use of a stale time of {stale:?}");
    Ok(())
}
