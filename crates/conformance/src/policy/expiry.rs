//! Expiry policies: lifetimes and caps.

use std::time::Duration;

use terrace_core::policy::{Expiry, Lifetime, OnStale, RenewalContext, StaleHit, WriteContext};

use crate::suite::{Outcome, ensure, ensure_eq};

/// Times from zero to more than a counter of milliseconds holds.
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

/// The range of the random number that a write gets: from 0 to just below 1.
const CHANCES: [f64; 5] = [0.0, 0.25, 0.5, 0.75, 1.0 - f64::EPSILON];

fn contexts(chance: f64) -> Vec<WriteContext> {
    let ttls = TIMES.into_iter().map(Some).chain([None]);
    let contexts_of =
        |ttl| [WriteContext::value(), WriteContext::absent()].map(|w| w.with_ttl(ttl).with_chance(chance));
    ttls.flat_map(contexts_of).collect()
}

pub(super) fn any_time_is_answered(policy: &dyn Expiry) -> Outcome {
    for chance in CHANCES {
        for context in contexts(chance) {
            let _any = policy.lifetime(&context);
        }
        for ttl in TIMES {
            let _any = policy.cap(ttl, chance);
        }
    }
    Ok(())
}

/// The caller knows how long its value is good. A policy may shorten that time but not extend it.
pub(super) fn a_life_of_its_own_is_not_exceeded(policy: &dyn Expiry) -> Outcome {
    for context in CHANCES.into_iter().flat_map(contexts) {
        let fresh = policy.lifetime(&context).fresh;
        ensure!(
            context.ttl.is_none_or(|own| fresh <= own),
            "the policy must not extend a lifetime: fresh for {fresh:?}, given {context:?}"
        );
    }
    Ok(())
}

pub(super) fn chance_does_not_decide_whether_an_entry_is_kept(policy: &dyn Expiry) -> Outcome {
    let kept = |context: &WriteContext| !policy.lifetime(context).fresh.is_zero();
    // A lifetime of at most a millisecond may be rounded to zero.
    let long = |context: &WriteContext| context.ttl.is_none_or(|ttl| ttl > Duration::from_millis(1));
    for context in contexts(0.0).into_iter().filter(long) {
        for chance in CHANCES {
            let other = context.clone().with_chance(chance);
            ensure_eq!(
                kept(&other),
                kept(&context),
                "the chance {chance} must not decide whether an entry is kept"
            );
        }
    }
    Ok(())
}

/// With randomness of its own, neither the tests of the policy nor the tests of a cache could be
/// repeated. A difference of one second is allowed to policies that read a clock.
pub(super) fn there_is_no_chance_but_the_one_given(policy: &dyn Expiry) -> Outcome {
    for context in CHANCES.into_iter().flat_map(contexts) {
        let (first, fresh) = (policy.lifetime(&context).fresh, |_| policy.lifetime(&context).fresh);
        let differs = (0..8).map(fresh).find(|next| next.abs_diff(first) > Duration::from_secs(1));
        ensure!(differs.is_none(), "fresh for {first:?}, then for {differs:?}, for the same {context:?}");
    }
    Ok(())
}

/// A stale absence would hide a value that was written meanwhile.
pub(super) fn an_absence_is_never_stale(policy: &dyn Expiry) -> Outcome {
    for context in CHANCES.into_iter().flat_map(contexts).filter(|context| context.negative) {
        ensure_eq!(policy.lifetime(&context).stale, Duration::ZERO, "an absence must have no stale time");
    }
    Ok(())
}

pub(super) fn a_cap_never_extends(policy: &dyn Expiry) -> Outcome {
    for chance in CHANCES {
        for ttl in TIMES {
            let cap = policy.cap(ttl, chance);
            ensure!(cap <= ttl, "a cap of {ttl:?} must not become {cap:?} at the chance {chance}");
        }
    }
    Ok(())
}

/// An expiry policy that provides a freshness policy gives values a stale time for that policy to use.
pub(super) fn a_stale_time_of_its_own_is_used(policy: &dyn Expiry) -> Outcome {
    let stale = policy.lifetime(&WriteContext::value()).stale;
    let Some(freshness) = policy.freshness() else { return Ok(()) };
    let renewal = RenewalContext::new(Duration::from_secs(60), Some(Duration::from_millis(50)), 0.5);
    if stale.is_zero() && freshness.lead(&renewal).is_some() {
        return Ok(());
    }
    let hit = StaleHit::new(Duration::ZERO, stale, true);
    let used = freshness.on_stale(&hit) != OnStale::Miss || freshness.on_error(&hit);
    ensure!(used && !stale.is_zero(), "the freshness policy must use a stale time of {stale:?}");
    Ok(())
}

/// A read extends an idle life, so the life that a write gives is the same one.
pub(super) fn an_idle_life_is_the_fresh_time(policy: &dyn Expiry) -> Outcome {
    let Some(idle) = policy.idle() else { return Ok(()) };
    for chance in CHANCES {
        let life = policy.lifetime(&WriteContext::value().with_chance(chance));
        ensure_eq!(life, Lifetime::fresh(idle), "an idle life of {idle:?} is the fresh time of each write");
    }
    Ok(())
}
