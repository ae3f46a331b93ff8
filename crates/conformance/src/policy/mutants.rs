//! The suite catches each broken policy by the case that names its fault.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use terrace_core::policy::{
    Admission, AdmitContext, Coalesce, Copies, Expiry, Freshness, Lifetime, OnStale, RenewalContext,
    StaleHit, Stampede, WriteContext, WritePlan, WritePolicy,
};

use super::{ADMISSION, Broken, Case, EXPIRY, FRESHNESS, STAMPEDE, WRITE, check};

const MINUTE: Duration = Duration::from_secs(60);

/// A policy made of functions; in each mutant one of them is wrong.
struct Custom {
    lifetime: fn(&WriteContext) -> Lifetime,
    cap: fn(Duration, f64) -> Duration,
    freshness: Option<Stale>,
    idle: Option<Duration>,
}

#[derive(Clone, Copy)]
struct Stale {
    on_stale: fn(&StaleHit) -> OnStale,
    on_error: fn(&StaleHit) -> bool,
    lead: fn(&RenewalContext) -> Option<Duration>,
}

const SOUND: Custom = Custom { lifetime: sound_life, cap: |ttl, _| ttl, freshness: None, idle: None };
const STRICT: Stale = Stale { on_stale: |_| OnStale::Miss, on_error: |_| false, lead: |_| None };

fn sound_life(context: &WriteContext) -> Lifetime {
    Lifetime::fresh(context.ttl.unwrap_or(MINUTE))
}

impl Expiry for Custom {
    fn lifetime(&self, context: &WriteContext) -> Lifetime {
        (self.lifetime)(context)
    }

    fn cap(&self, tier_ttl: Duration, chance: f64) -> Duration {
        (self.cap)(tier_ttl, chance)
    }

    fn freshness(&self) -> Option<Arc<dyn Freshness>> {
        self.freshness.map(|stale| Arc::new(stale) as Arc<dyn Freshness>)
    }

    fn idle(&self) -> Option<Duration> {
        self.idle
    }
}

impl Freshness for Stale {
    fn on_stale(&self, hit: &StaleHit) -> OnStale {
        (self.on_stale)(hit)
    }

    fn on_error(&self, hit: &StaleHit) -> bool {
        (self.on_error)(hit)
    }

    fn lead(&self, renewal: &RenewalContext) -> Option<Duration> {
        (self.lead)(renewal)
    }
}

impl<F: Fn(&AdmitContext<'_>) -> bool + Send + Sync + 'static> Admission for Answer<F> {
    fn admits(&self, context: &AdmitContext<'_>) -> bool {
        (self.0)(context)
    }
}

struct Answer<F>(F);

/// A policy whose answer alternates.
#[derive(Default)]
struct Alternating(AtomicBool);

impl Alternating {
    fn flip(&self) -> bool {
        self.0.fetch_xor(true, Ordering::Relaxed)
    }
}

impl WritePolicy for Alternating {
    fn plan(&self) -> WritePlan {
        WritePlan { store: self.flip(), copies: Copies::Replace }
    }
}

impl Stampede for Alternating {
    fn coalesce(&self) -> Coalesce {
        if self.flip() { Coalesce::Local } else { Coalesce::Nobody }
    }
}

/// A policy whose puts keep the value nowhere.
struct Nowhere;

impl WritePolicy for Nowhere {
    fn plan(&self) -> WritePlan {
        WritePlan { store: false, copies: Copies::Invalidate }
    }
}

/// Checks that the case of this name finds the fault.
fn caught<P: ?Sized>(cases: &[Case<P>], name: &str, policy: &P) {
    let Err(Broken { cases }) = check(cases, policy) else { panic!("{name} must find the fault") };
    assert!(cases.iter().any(|(found, _)| *found == name), "{name} must find the fault: {cases:?}");
}

#[test]
fn sound_policies_pass() {
    check(EXPIRY, &SOUND).unwrap();
    check(FRESHNESS, &STRICT).unwrap();
    check(ADMISSION, &Answer(|_: &AdmitContext<'_>| true)).unwrap();
}

#[test]
fn expiry_policies_that_panic_are_caught() {
    let lifetime = |context: &WriteContext| Lifetime::fresh(context.ttl.unwrap_or(MINUTE).mul_f64(1.5));
    caught(EXPIRY, "any_time_is_answered", &Custom { lifetime, ..SOUND });
    caught(EXPIRY, "any_time_is_answered", &Custom { cap: |ttl, _| ttl + MINUTE, ..SOUND });
}

#[test]
fn a_life_that_the_entry_did_not_ask_for_is_caught() {
    let lifetime = |_: &WriteContext| Lifetime::fresh(MINUTE);
    caught(EXPIRY, "a_life_of_its_own_is_not_exceeded", &Custom { lifetime, ..SOUND });
    let lifetime = |context: &WriteContext| {
        Lifetime::fresh(
            sound_life(context).fresh.saturating_add(Duration::from_secs(1).mul_f64(context.chance)),
        )
    };
    caught(EXPIRY, "a_life_of_its_own_is_not_exceeded", &Custom { lifetime, ..SOUND });
}

#[test]
fn jitter_that_leaves_nothing_is_caught() {
    let lifetime = |context: &WriteContext| match context.chance > 0.9 {
        true => Lifetime::fresh(Duration::ZERO),
        false => sound_life(context),
    };
    caught(EXPIRY, "chance_does_not_decide_whether_an_entry_is_kept", &Custom { lifetime, ..SOUND });
}

#[test]
fn a_life_by_a_chance_of_its_own_is_caught() {
    let lifetime = |context: &WriteContext| {
        static TURN: AtomicBool = AtomicBool::new(false);
        let whole = sound_life(context).fresh;
        Lifetime::fresh(if TURN.fetch_xor(true, Ordering::Relaxed) { whole } else { whole / 2 })
    };
    caught(EXPIRY, "there_is_no_chance_but_the_one_given", &Custom { lifetime, ..SOUND });
}

#[test]
fn stale_absences_are_caught() {
    let lifetime = |context: &WriteContext| Lifetime { stale: MINUTE, ..sound_life(context) };
    caught(EXPIRY, "an_absence_is_never_stale", &Custom { lifetime, ..SOUND });
}

#[test]
fn a_cap_that_extends_is_caught() {
    let cap = |ttl: Duration, chance| ttl.saturating_add(MINUTE.mul_f64(chance));
    caught(EXPIRY, "a_cap_never_extends", &Custom { cap, ..SOUND });
}

#[test]
fn a_stale_time_that_nobody_uses_is_caught() {
    caught(EXPIRY, "a_stale_time_of_its_own_is_used", &Custom { freshness: Some(STRICT), ..SOUND });
}

#[test]
fn freshness_policies_that_panic_are_caught() {
    let on_stale = |hit: &StaleHit| match hit.stale_for * 2 > hit.remaining {
        true => OnStale::Miss,
        false => OnStale::Serve,
    };
    caught(FRESHNESS, "any_hit_is_answered", &Stale { on_stale, ..STRICT });
}

#[test]
fn answers_that_change_are_caught() {
    let on_error = |_: &StaleHit| {
        static TURN: AtomicBool = AtomicBool::new(false);
        TURN.fetch_xor(true, Ordering::Relaxed)
    };
    caught(FRESHNESS, "the_same_hit_is_answered_alike", &Stale { on_error, ..STRICT });
    caught(WRITE, "the_plan_is_always_the_same", &Alternating::default());
    caught(STAMPEDE, "the_answer_is_always_the_same", &Alternating::default());
}

#[test]
fn a_lead_that_changes_from_read_to_read_is_caught() {
    let lead = |_: &RenewalContext| {
        static TURN: AtomicBool = AtomicBool::new(false);
        TURN.fetch_xor(true, Ordering::Relaxed).then_some(MINUTE)
    };
    caught(FRESHNESS, "the_same_entry_has_one_lead", &Stale { lead, ..STRICT });
}

#[test]
fn an_idle_life_that_no_write_gives_is_caught() {
    caught(EXPIRY, "an_idle_life_is_the_fresh_time", &Custom { idle: Some(MINUTE * 2), ..SOUND });
}

#[test]
fn windows_that_are_upside_down_are_caught() {
    let on_stale = |hit: &StaleHit| match hit.stale_for > hit.remaining {
        true => OnStale::Serve,
        false => OnStale::Miss,
    };
    caught(FRESHNESS, "what_is_served_was_served_when_it_was_younger", &Stale { on_stale, ..STRICT });
    let on_error = |hit: &StaleHit| hit.stale_for > hit.remaining;
    caught(FRESHNESS, "what_an_error_serves_it_served_when_it_was_younger", &Stale { on_error, ..STRICT });
}

#[test]
fn a_refresh_that_nobody_can_make_is_caught() {
    let on_stale = |_: &StaleHit| OnStale::ServeAndRefresh;
    caught(FRESHNESS, "only_what_can_be_renewed_is_refreshed", &Stale { on_stale, ..STRICT });
}

#[test]
fn admission_that_panics_or_wavers_is_caught() {
    let overflows =
        Answer(|context: &AdmitContext<'_>| context.size_bytes.unwrap_or(0).checked_add(1).unwrap() > 0);
    caught(ADMISSION, "any_value_is_answered", &overflows);
    let turn = Alternating::default();
    let wavers = Answer(move |_: &AdmitContext<'_>| !turn.flip());
    caught(ADMISSION, "what_was_admitted_is_admitted_again", &wavers);
}

#[test]
fn a_put_that_is_kept_nowhere_is_caught() {
    caught(WRITE, "the_plan_keeps_the_value_somewhere", &Nowhere);
}
