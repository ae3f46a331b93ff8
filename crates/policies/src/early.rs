//! Renewal in the background before the fresh time of an entry ends, so that no reader waits for it.

use std::time::Duration;

use terrace_core::policy::{Freshness, OnStale, RenewalContext, StaleHit};

/// Renews an entry once a part of its fresh time has passed: the first read that hits it after that gets the value
/// as an ordinary hit, and renews it in the background.
///
/// With the stampede policy [`Lease`](crate::Lease) one process renews for all. Without it each process that reads
/// the entry may run one load of its own.
///
/// # Cost
/// A near hit costs the same as without this policy. While the renewal runs, a near hit costs about as much as a
/// miss of a near tier.
///
/// ```
/// use terrace_policies::EarlyRefresh;
///
/// let at_eight_tenths = EarlyRefresh::at(0.8);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EarlyRefresh(f64);

impl EarlyRefresh {
    /// Renews once this part of the fresh time has passed. It is clamped to 0.5 to 1; at 1, and for NaN, nothing is
    /// renewed early.
    pub const fn at(part: f64) -> Self {
        Self(if part.is_nan() { 1.0 } else { part.clamp(0.5, 1.0) })
    }
}

impl Freshness for EarlyRefresh {
    fn on_stale(&self, _hit: &StaleHit) -> OnStale {
        OnStale::Miss
    }

    fn lead(&self, renewal: &RenewalContext) -> Option<Duration> {
        (self.0 < 1.0).then(|| scaled(renewal.life, 1.0 - self.0))
    }
}

/// Renews an entry by chance, the earlier the longer its load takes: its renewal begins
/// `load time * (1 + beta * Exp(1))` before the end of its fresh time. So the renewal of an entry usually ends before
/// its life does, and entries that were written together are not renewed together.
///
/// The load time is the mean of this process, and the random number comes from the version of the entry, so that
/// each entry has one time of renewal for all reads. A process that has run no load yet renews nothing early. For
/// processes that share a tier see [`EarlyRefresh`], which also says what it costs.
///
/// Source: Vattani, Chierichetti and Lowenstein, Optimal Probabilistic Cache Stampede Prevention, VLDB 2015.
///
/// ```
/// use terrace_policies::XFetch;
///
/// let usual = XFetch::beta(1.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct XFetch(f64);

impl XFetch {
    /// Renews with this `beta`: 1 is the usual choice, and more renews earlier. It is clamped to 0 to 100; NaN counts
    /// as 1.
    pub const fn beta(beta: f64) -> Self {
        Self(if beta.is_nan() { 1.0 } else { beta.clamp(0.0, 100.0) })
    }
}

impl Freshness for XFetch {
    fn on_stale(&self, _hit: &StaleHit) -> OnStale {
        OnStale::Miss
    }

    fn lead(&self, renewal: &RenewalContext) -> Option<Duration> {
        let exponential = -(1.0 - renewal.chance.clamp(0.0, 1.0 - f64::EPSILON)).ln();
        Some(scaled(renewal.load_time?, 1.0 + self.0 * exponential))
    }
}

/// The early renewal of a [`Ttl`](crate::Ttl).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Early {
    Never,
    At(EarlyRefresh),
    ByChance(XFetch),
}

impl Early {
    pub(crate) fn lead(&self, renewal: &RenewalContext) -> Option<Duration> {
        match self {
            Self::Never => None,
            Self::At(policy) => policy.lead(renewal),
            Self::ByChance(policy) => policy.lead(renewal),
        }
    }
}

/// A duration times a factor; the longest one where that is too long to count.
fn scaled(duration: Duration, factor: f64) -> Duration {
    Duration::try_from_secs_f64(duration.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Duration = Duration::from_secs(100);
    const LOAD: Option<Duration> = Some(Duration::from_millis(50));

    #[test]
    fn a_part_of_the_life_sets_the_lead() {
        let lead = |part| EarlyRefresh::at(part).lead(&RenewalContext::new(LIFE, None, 0.5));
        assert_eq!(lead(0.75), Some(Duration::from_secs(25)));
        assert_eq!(lead(0.0), Some(Duration::from_secs(50)), "at most half of the life");
        assert_eq!((lead(1.0), lead(f64::NAN)), (None, None));
    }

    #[test]
    fn the_lead_of_xfetch_is_exponential_with_the_load_time_as_its_least() {
        let leads: Vec<f64> = (0..10_000)
            .map(|chance| RenewalContext::new(LIFE, LOAD, f64::from(chance) / 10_000.0))
            .map(|renewal| XFetch::beta(2.0).lead(&renewal).unwrap().as_secs_f64() / 0.05)
            .collect();
        assert!((leads[0] - 1.0).abs() < 1e-6 && leads.is_sorted());
        let mean = leads.iter().sum::<f64>() / leads.len() as f64;
        assert!((mean - 3.0).abs() < 0.01, "1 + beta is the mean, and {mean} was found");
    }

    #[test]
    fn without_a_load_time_nothing_is_renewed() {
        assert_eq!(XFetch::beta(1.0).lead(&RenewalContext::new(LIFE, None, 0.5)), None);
        let extreme = RenewalContext::new(Duration::MAX, Some(Duration::MAX), 1.0);
        assert_eq!(XFetch::beta(f64::INFINITY).lead(&extreme), Some(Duration::MAX));
    }
}
