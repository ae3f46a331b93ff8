//! How long entries live.

use std::{sync::Arc, time::Duration};

use terrace_core::policy::{Expiry, Freshness, Lifetime, WriteContext};

use crate::{
    early::{Early, EarlyRefresh, XFetch},
    freshness::{StaleIfError, StaleWhileRevalidate, Windows},
};

/// A time to live, counted from the write.
///
/// An entry with a time to live of its own (`Item::ttl`) uses that one instead. Absences are not kept
/// unless [`negative`](Ttl::negative) or the entry itself sets their time to live. A time that is too
/// long to count never ends.
///
/// ```
/// use std::time::Duration;
/// use terrace_policies::Ttl;
///
/// let expiry = Ttl::secs(60)
///     .jitter(0.1)
///     .negative(Duration::from_secs(2))
///     .stale_while_revalidate(Duration::from_secs(30))
///     .stale_if_error(Duration::from_secs(600));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ttl {
    ttl: Duration,
    jitter: f64,
    negative: Duration,
    while_revalidate: Duration,
    if_error: Duration,
    early: Early,
    is_idle: bool,
}

impl Ttl {
    /// Entries live for `ttl`. Zero keeps only entries with a time to live of their own.
    pub const fn of(ttl: Duration) -> Self {
        let zero = Duration::ZERO;
        let (while_revalidate, if_error) = (zero, zero);
        let (early, is_idle) = (Early::Never, false);
        Self { ttl, jitter: 0.0, negative: zero, while_revalidate, if_error, early, is_idle }
    }

    /// Entries live for `secs` seconds.
    pub const fn secs(secs: u64) -> Self {
        Self::of(Duration::from_secs(secs))
    }

    /// An idle life: an entry ends when nobody has read it for between nine tenths of `ttl` and `ttl`. A read that
    /// hits extends the life in the background, at most once in a tenth of it for each process, and near copies stay.
    ///
    /// An idle life is for caches without a store, and for an entry without a life of its own. It is at least a
    /// second, and has no jitter, no stale time and no early renewal. For the records of a store call
    /// `Cache::touch`.
    ///
    /// # Cost
    /// A near hit costs the same. One trip to the farthest tier in a tenth of the life, for each key and process.
    ///
    /// ```
    /// use std::time::Duration;
    /// use terrace_policies::Ttl;
    ///
    /// let sessions = Ttl::idle(Duration::from_secs(30 * 60));
    /// ```
    pub const fn idle(ttl: Duration) -> Self {
        Self { is_idle: true, ..Self::of(ttl) }
    }

    /// Renews entries in the background once this part of their time to live has passed, as [`EarlyRefresh`] does.
    #[must_use]
    pub const fn refresh_early(mut self, part: f64) -> Self {
        self.early = Early::At(EarlyRefresh::at(part));
        self
    }

    /// Renews entries in the background some time before their time to live ends, by chance and by the time of their
    /// loads, as [`XFetch`] does.
    #[must_use]
    pub const fn xfetch(mut self, beta: f64) -> Self {
        self.early = Early::ByChance(XFetch::beta(beta));
        self
    }

    /// Shortens each time to live by a random part of it, up to `part`, so that entries written
    /// together do not expire together. A tier's own cap is shortened in the same way. Jitter never
    /// lengthens a time to live, which is a promise of how old a value may be.
    ///
    /// At least a millisecond remains, so that chance never decides whether an entry is kept. `part`
    /// is clamped to 0 to 1; NaN counts as 0.
    #[must_use]
    pub const fn jitter(mut self, part: f64) -> Self {
        self.jitter = if part.is_nan() { 0.0 } else { part.clamp(0.0, 1.0) };
        self
    }

    /// Keeps absences for `ttl`. Use seconds rather than minutes, since a value may appear.
    #[must_use]
    pub const fn negative(mut self, ttl: Duration) -> Self {
        self.negative = ttl;
        self
    }

    /// Serves a value for up to `window` after its time to live, while a task renews it in the
    /// background.
    ///
    /// Source: RFC 5861, section 3.
    #[must_use]
    pub const fn stale_while_revalidate(mut self, window: Duration) -> Self {
        self.while_revalidate = window;
        self
    }

    /// Serves a value for up to `window` after its time to live if renewing it fails. This window and
    /// the window of [`stale_while_revalidate`](Ttl::stale_while_revalidate) begin at the same moment, the
    /// end of the time to live.
    ///
    /// Source: RFC 5861, section 4.
    #[must_use]
    pub const fn stale_if_error(mut self, window: Duration) -> Self {
        self.if_error = window;
        self
    }

    fn jittered(&self, life: Duration, chance: f64) -> Duration {
        let cut = self.jitter * chance.clamp(0.0, 1.0);
        // `cut` is NaN where a caller's own chance is NaN.
        if cut == 0.0 || cut.is_nan() {
            return life;
        }
        // Rounding may exceed the longest duration; the life then stays as it is.
        let shorter = Duration::try_from_secs_f64(life.as_secs_f64() * (1.0 - cut)).unwrap_or(life);
        shorter.clamp(life.min(Duration::from_millis(1)), life)
    }
}

impl Expiry for Ttl {
    fn lifetime(&self, context: &WriteContext) -> Lifetime {
        let (default, stale) = match context.negative {
            true => (self.negative, Duration::ZERO),
            false => (self.ttl, self.while_revalidate.max(self.if_error)),
        };
        Lifetime { fresh: self.jittered(context.ttl.unwrap_or(default), context.chance), stale }
    }

    fn cap(&self, tier_ttl: Duration, chance: f64) -> Duration {
        self.jittered(tier_ttl, chance)
    }

    fn idle(&self) -> Option<Duration> {
        self.is_idle.then_some(self.ttl)
    }

    fn freshness(&self) -> Option<Arc<dyn Freshness>> {
        if self.while_revalidate.max(self.if_error).is_zero() && self.early == Early::Never {
            return None;
        }
        Some(Arc::new(Windows {
            revalidate: StaleWhileRevalidate::within(self.while_revalidate),
            error: StaleIfError::within(self.if_error),
            early: self.early,
        }))
    }
}

/// Entries never expire: for values that never change, such as values stored by a digest of their
/// content. An entry with a time to live of its own uses that one. Absences without one are not kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Forever;

impl Expiry for Forever {
    fn lifetime(&self, context: &WriteContext) -> Lifetime {
        let default = if context.negative { Duration::ZERO } else { Duration::MAX };
        Lifetime::fresh(context.ttl.unwrap_or(default))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_core::policy::{OnStale, StaleHit};

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn fresh(expiry: &Ttl, chance: f64) -> Duration {
        expiry.lifetime(&WriteContext::value().with_chance(chance)).fresh
    }

    #[test]
    fn a_value_lives_for_the_ttl_and_an_absence_not_at_all() {
        let expiry = Ttl::secs(60);
        assert_eq!(expiry.lifetime(&WriteContext::value()), Lifetime::fresh(secs(60)));
        assert_eq!(expiry.lifetime(&WriteContext::absent()), Lifetime::fresh(Duration::ZERO));
        assert!(expiry.freshness().is_none());
    }

    #[test]
    fn an_entry_may_bring_a_life_of_its_own() {
        for expiry in [&Ttl::secs(60) as &dyn Expiry, &Forever] {
            for context in [WriteContext::value(), WriteContext::absent()] {
                let life = expiry.lifetime(&context.with_ttl(Some(secs(5))));
                assert_eq!(life.fresh, secs(5));
            }
        }
    }

    #[test]
    fn jitter_shortens_by_at_most_its_part() {
        let expiry = Ttl::secs(100).jitter(0.1);
        assert_eq!(fresh(&expiry, 0.0), secs(100));
        assert_eq!(fresh(&expiry, 0.5), secs(95));
        assert!(fresh(&expiry, 0.999) >= secs(90));
        assert_eq!(expiry.cap(secs(10), 0.5), Duration::from_millis(9_500));
    }

    #[test]
    fn jitter_outside_of_0_to_1_is_clamped() {
        assert_eq!(fresh(&Ttl::secs(100).jitter(-3.0), 0.9), secs(100));
        assert_eq!(fresh(&Ttl::secs(100).jitter(f64::NAN), 0.9), secs(100));
        assert_eq!(fresh(&Ttl::secs(100).jitter(7.0), 0.5), secs(50));
        assert_eq!(fresh(&Ttl::secs(100).jitter(f64::INFINITY), 0.5), secs(50));
        assert_eq!(fresh(&Ttl::secs(100).jitter(0.5), f64::NAN), secs(100));
        assert_eq!(fresh(&Ttl::secs(100).jitter(1.0), 1.0), Duration::from_millis(1));
    }

    #[test]
    fn the_longest_times_do_not_overflow() {
        let longest = Ttl::of(Duration::MAX).jitter(1e-300).stale_if_error(Duration::MAX);
        assert_eq!(fresh(&longest, 0.9), Duration::MAX);
        assert!(fresh(&Ttl::secs(u64::MAX).jitter(0.5), 0.5) > secs(u64::MAX / 2));
    }

    #[test]
    fn both_windows_count_from_the_end_of_the_life() {
        let expiry = Ttl::secs(60).stale_while_revalidate(secs(30)).stale_if_error(secs(600));
        assert_eq!(expiry.lifetime(&WriteContext::value()).stale, secs(600));
        assert_eq!(expiry.lifetime(&WriteContext::absent()).stale, Duration::ZERO);
        let freshness = expiry.freshness().unwrap();
        let soon = StaleHit::new(secs(29), secs(571), true);
        let later = StaleHit::new(secs(30), secs(570), true);
        assert_eq!(freshness.on_stale(&soon), OnStale::ServeAndRefresh);
        assert_eq!(freshness.on_stale(&later), OnStale::Miss);
        assert!(freshness.on_error(&later));
        assert!(!freshness.on_error(&StaleHit::new(secs(600), Duration::ZERO, true)));
    }
}
