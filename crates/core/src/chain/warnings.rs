//! What a tier does not do is said in the program's log: each reason of a tier at most once a minute.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use terrace_tier::{Finding, FindingTopic};
use tokio::time::Instant;

use super::{Chain, names::interned};
use crate::{Error, ErrorKind};

/// The shortest time between two warnings for one reason.
const EVERY: Duration = Duration::from_secs(60);

/// The number of late or lost answers within a minute for which a tier is warned of although it is not lost.
const AWAY: u32 = 10;

/// Why a tier does not do what it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Reason {
    /// The server does not answer, or is not the one that should.
    Away,
    Found(FindingTopic),
    Failed(ErrorKind),
}

/// One reason within the minute that began with its first failure.
struct Window {
    began: Instant,
    failures: u32,
    told: bool,
}

/// The warnings of one tier, or of another part of a cache that its name stands for.
pub(crate) struct Warnings {
    cache: Arc<str>,
    tier: &'static str,
    /// There are as many entries as reasons, which are variants of two enums.
    windows: Mutex<HashMap<Reason, Window>>,
    /// Whether the log says that the tier is away or takes no writes, and not yet that it is back.
    told_away: AtomicBool,
}

impl Warnings {
    pub(crate) fn new(cache: Arc<str>, tier: &'static str) -> Self {
        Self { cache, tier, windows: Mutex::default(), told_away: AtomicBool::new(false) }
    }

    /// The warnings of all shared tiers of a chain together.
    pub(crate) fn of_shared_tiers(cache: &Arc<str>, chain: &Chain) -> Self {
        let tiers: Vec<&str> = chain.tiers.iter().chain(&chain.store).map(|slot| slot.shared.name).collect();
        Self::new(Arc::clone(cache), interned(&tiers.join(", ")))
    }

    /// A loaded value cannot be encoded.
    pub(crate) fn unencodable(&self, error: &Error) {
        if self.is_due(Reason::Failed(error.kind()), 1) {
            let what = "a value is not kept in the shared tiers; each read of its key loads it again";
            self.tell(error, what);
        }
    }

    /// The tier has given bytes that are no value of this cache.
    pub(crate) fn undecodable(&self, error: &Error) {
        if self.is_due(Reason::Failed(error.kind()), 1) {
            self.tell(error, "stored bytes are not readable, and count as a miss");
        }
    }

    /// A load was refused, because as many are under way as may be.
    pub(crate) fn refused(&self, error: &Error) {
        if self.is_due(Reason::Failed(error.kind()), 1) {
            self.tell(error, "the cache refuses loads");
        }
    }

    /// A call of the tier failed. A few late answers are no reason for a warning while the tier is not lost.
    pub(crate) fn failed(&self, error: &Error) {
        let reason = Reason::of(error);
        if self.is_due(reason, if reason == Reason::Away { AWAY } else { 1 }) {
            let is_away = matches!(reason, Reason::Away | Reason::Failed(ErrorKind::ReadOnly));
            self.told_away.fetch_or(is_away, Ordering::Relaxed);
            self.warn(error);
        }
    }

    /// The tier is lost because of this error.
    pub(crate) fn lost(&self, error: &Error) {
        if self.is_due(Reason::of(error), 1) {
            self.told_away.store(true, Ordering::Relaxed);
            self.warn(error);
        }
    }

    /// A lost tier has answered, or a tier has taken a write. Says so if the log says that it did not.
    pub(crate) fn back(&self) {
        if self.told_away.load(Ordering::Relaxed) && self.told_away.swap(false, Ordering::Relaxed) {
            tracing::info!(cache = %self.cache, tier = self.tier, "the tier is back");
        }
    }

    /// The tier has found this while it was in use.
    pub(crate) fn found(&self, finding: &Finding) {
        if self.is_due(Reason::Found(finding.topic()), 1) {
            let (cause, cure) = (finding.cause(), finding.cure());
            tracing::warn!(cache = %self.cache, tier = self.tier, cause, cure, "the server slows the cache");
        }
    }

    /// Counts a failure. The result is true for the one with which the reason is told.
    fn is_due(&self, reason: Reason, least: u32) -> bool {
        let now = Instant::now();
        let mut windows = self.windows.lock();
        let new = || Window { began: now, failures: 0, told: false };
        let window = windows.entry(reason).or_insert_with(new);
        if now.duration_since(window.began) >= EVERY {
            *window = new();
        }
        window.failures = window.failures.saturating_add(1);
        !window.told && window.failures >= least && {
            window.told = true;
            true
        }
    }

    fn warn(&self, error: &Error) {
        self.tell(error, "the tier does not serve the cache; reads go past what it does not answer");
    }

    fn tell(&self, error: &Error, what: &str) {
        let (cache, tier) = (&self.cache, self.tier);
        match error.finding() {
            Some(finding) => {
                tracing::warn!(%cache, tier, cause = finding.cause(), cure = finding.cure(), "{what}");
            }
            None => {
                let cure = error.cure().unwrap_or_else(|| cure_of(error.kind()));
                tracing::warn!(%cache, tier, cause = format!("{error:#}"), cure, "{what}");
            }
        }
    }
}

impl Reason {
    fn of(error: &Error) -> Self {
        match (error.finding().map(Finding::topic), error.kind()) {
            // A failover shows both, one after the other.
            (Some(FindingTopic::Role), _) => Self::Away,
            (Some(topic), _) => Self::Found(topic),
            (None, ErrorKind::Unavailable | ErrorKind::Timeout | ErrorKind::Unknown) => Self::Away,
            (None, kind) => Self::Failed(kind),
        }
    }
}

/// What to do about an error that carries no finding.
fn cure_of(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Unavailable => "check that the server runs, and that this host reaches it",
        ErrorKind::Timeout | ErrorKind::Unknown => "check the load of the server and the network to it",
        ErrorKind::Denied => "check the user, its password and its permissions",
        ErrorKind::ReadOnly => "connect to a server that takes writes, and check its memory and disk",
        ErrorKind::TooLarge => "raise the tier's limit, or keep such values out with SizeLimit",
        ErrorKind::Unencodable => "change the type or the codec as the cause says",
        ErrorKind::Undecodable => {
            "if programs with another value type or codec share the cache, let the deploy end; else check \
             what else writes to this server"
        }
        ErrorKind::Busy => "give the tier a larger budget, or its server less load",
        _ => "the cause says what the server answered",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings() -> Warnings {
        Warnings::new("users".into(), "redis")
    }

    #[tokio::test(start_paused = true)]
    async fn a_reason_is_told_once_a_minute() {
        let warnings = warnings();
        let told = |_| (0..100).filter(|_| warnings.is_due(Reason::Failed(ErrorKind::ReadOnly), 1)).count();
        assert_eq!((0..3).map(told).sum::<usize>(), 1);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(told(0), 1);
        assert!(warnings.is_due(Reason::Failed(ErrorKind::Busy), 1), "another reason");
    }

    #[tokio::test(start_paused = true)]
    async fn a_few_late_answers_are_not_told() {
        let warnings = warnings();
        assert!((1..AWAY).all(|_| !warnings.is_due(Reason::Away, AWAY)));
        assert!(warnings.is_due(Reason::Away, AWAY));
        assert!(!warnings.is_due(Reason::Away, 1), "it was told in this minute");
    }

    #[test]
    fn a_demoted_server_and_one_that_is_away_are_one_reason() {
        let demoted = Finding::stops(FindingTopic::Role, "a replica", "connect to the primary");
        let away = Error::new(ErrorKind::Unavailable, "refused");
        assert_eq!(Reason::of(&demoted.into_error(ErrorKind::ReadOnly)), Reason::of(&away));
    }
}
