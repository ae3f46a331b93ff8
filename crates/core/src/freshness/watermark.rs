//! The watermark of a relay proves the copies of a shared tier, and the copies in the near tier.
//!
//! A relay drops the copies that have changed in the source of truth and advances its watermark, in one
//! step, at least every tenth of the bound. The watermark names the version that it had before the relay
//! read the log of the source of truth: every change that the source of truth had committed when the
//! watermark advanced to *that* version has been dropped. This process knows the moment of an advance
//! from the log alone: the advance is later than the last heartbeat that came before the log reported
//! the advance. No server's clock takes part, and a server that goes back in time loses its watermark
//! together with the copies.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use terrace_tier::{
    Follower, Namespace, Notice, Tier, Timestamp, Version, Watermark,
    defence::{Defence, enabled},
};
use tokio::time::Instant;

use crate::{Backend, Clock, Error, Result};

/// The number of advances that are remembered. A bound has ten advances, so the remembered advances
/// reach back several bounds.
const MAX_ADVANCES: usize = 64;

/// What this process knows of the advances of one cache's watermark.
pub(crate) struct WatermarkTracker {
    namespace: String,
    /// The namespace that holds the watermarks of all caches.
    watermarks: String,
    clock: Clock,
    advances: Mutex<Advances>,
    /// The tier that holds the watermark. The tier's log reports advances as long as this field lives.
    tier: Arc<dyn Tier>,
}

#[derive(Default)]
struct Advances {
    /// The last heartbeat of the log, or `None` since the log's last gap.
    heartbeat: Option<Timestamp>,
    /// Each known version, with a moment before which the watermark had not advanced to the version. The
    /// oldest known version comes first.
    known: VecDeque<(Version, Timestamp)>,
    /// The highest version that the log has reported.
    newest: Version,
    /// The moment of the latest advance, or `None` where the moment is not known, or where a gap
    /// followed.
    latest: Option<Timestamp>,
    /// The log has reported every change that the source of truth had committed before this moment.
    proven_until: Timestamp,
}

impl WatermarkTracker {
    /// Makes the tracker for the cache of `namespace`, whose watermark is in the backend of its nearest
    /// tier.
    ///
    /// # Errors
    /// The call fails with the error of the backend, or with
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) where the backend has no log.
    pub(crate) fn new(backend: &dyn Backend, namespace: &Namespace, clock: Clock) -> Result<Arc<Self>> {
        let watermarks = Watermark::namespace(namespace);
        let tier = backend.open(&watermarks)?;
        if tier.log().is_none() {
            return Err(Error::config("a log reports watermarks, and the tier has none"));
        }
        let (namespace, watermarks) = (namespace.name.clone(), watermarks.name);
        Ok(Arc::new(Self { namespace, watermarks, clock, advances: Mutex::default(), tier }))
    }

    /// Begins to follow the advances of the watermark.
    pub(crate) fn follow(self: &Arc<Self>) {
        if let Some(log) = self.tier.log() {
            let follower = Arc::downgrade(self);
            log.follow(&self.watermarks, follower);
        }
    }

    /// A moment before which the watermark had not advanced to `version`. Where a server that went back
    /// in time has issued the version twice, the moment of the first advance counts. The result is
    /// `None` where the moment is not known, and where the clock has gone back behind the moment.
    pub(crate) fn advanced_at(&self, version: Version, now: Timestamp) -> Option<Timestamp> {
        self.advances.lock().first_to(version).filter(|at| *at <= now)
    }

    /// The log has reported every change that the source of truth had committed before this moment.
    pub(crate) fn proven_until(&self) -> Timestamp {
        self.advances.lock().proven_until
    }
}

impl Follower for WatermarkTracker {
    fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Key { tenant: None, key, version } if *key == self.namespace.as_bytes() => {
                self.advances.lock().advance(*version);
            }
            Notice::Key { .. } => {}
            Notice::Clear { .. } => self.advances.lock().latest = None,
            Notice::Lost | _ => *self.advances.lock() = Advances::default(),
        }
    }

    fn heartbeat(&self, at: Instant) {
        let at = dated(&self.clock, at);
        let mut advances = self.advances.lock();
        advances.heartbeat = advances.heartbeat.max(Some(at));
    }
}

impl Advances {
    /// The moment of the first known advance to `version`.
    fn first_to(&self, version: Version) -> Option<Timestamp> {
        self.known.iter().find(|(known, _)| *known == version).map(|(_, at)| *at)
    }

    /// Records an advance that the log has reported. A change of the watermark that no relay made has
    /// the version `None`. A repeated report of a version is no advance.
    fn advance(&mut self, version: Option<Version>) {
        if version.is_some_and(|version| version <= self.newest) && enabled(Defence::Again) {
            return;
        }
        self.newest = version.map_or(self.newest, |version| version.max(self.newest));
        // The relay read the log after the advance before this one, and dropped the changed copies
        // before it advanced the watermark.
        let advance = version.zip(self.heartbeat);
        let at = advance.map(|(_, at)| at);
        let before = if enabled(Defence::LastButOne) { self.latest } else { at };
        if let (Some(before), Some(_)) = (before, version) {
            self.proven_until = self.proven_until.max(before);
        }
        self.latest = at;
        let Some(advance) = advance else { return };
        if self.known.len() == MAX_ADVANCES {
            self.known.pop_front();
        }
        self.known.push_back(advance);
    }
}

/// Converts the moment `at` to a cache's own clock, rounded down.
pub(super) fn dated(clock: &Clock, at: Instant) -> Timestamp {
    let age = Instant::now().saturating_duration_since(at).as_micros().div_ceil(1000);
    let age = u64::try_from(age).unwrap_or(u64::MAX);
    Timestamp::from_millis(clock.now().as_millis().saturating_sub(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn version(number: u64) -> Option<Version> {
        Some(Version::from_u64(number))
    }

    #[test]
    fn a_watermark_proves_the_advance_before_it() {
        let mut advances = Advances { heartbeat: Some(at(10)), ..Advances::default() };
        advances.advance(version(1));
        assert_eq!(advances.proven_until, at(0), "nothing is known of what was before");
        advances.heartbeat = Some(at(20));
        advances.advance(version(2));
        assert_eq!(advances.proven_until, at(10));
        advances.advance(version(3));
        assert_eq!(advances.proven_until, at(20), "the second advance came after 20");
    }

    #[test]
    fn a_watermark_reported_before_the_first_heartbeat_has_no_moment() {
        let mut advances = Advances::default();
        advances.advance(version(1));
        advances.heartbeat = Some(at(10));
        advances.advance(version(2));
        assert_eq!((advances.proven_until, advances.known.len()), (at(0), 1));
    }

    #[test]
    fn a_watermark_that_was_dropped_breaks_the_chain() {
        let mut advances = Advances { heartbeat: Some(at(10)), ..Advances::default() };
        for step in [version(1), None, version(2)] {
            advances.advance(step);
        }
        assert_eq!(advances.proven_until, at(0));
        advances.advance(version(3));
        assert_eq!(advances.proven_until, at(10));
    }

    #[test]
    fn a_version_that_comes_twice_proves_no_more_than_its_first_advance() {
        let mut advances = Advances::default();
        for (heartbeat, number) in [(10, 1), (20, 2), (30, 1)] {
            advances.heartbeat = Some(at(heartbeat));
            advances.advance(version(number));
        }
        assert_eq!(advances.first_to(Version::from_u64(1)), Some(at(10)));
        assert_eq!(advances.first_to(Version::from_u64(3)), None);
    }

    #[test]
    fn a_watermark_that_is_reported_again_proves_no_more() {
        let mut advances = Advances { heartbeat: Some(at(10)), ..Advances::default() };
        advances.advance(version(1));
        advances.heartbeat = Some(at(20));
        advances.advance(version(2));
        for again in [2, 1, 2] {
            advances.heartbeat = Some(at(30));
            advances.advance(version(again));
            assert_eq!(advances.proven_until, at(10), "the second proves the first alone");
        }
        advances.advance(version(3));
        assert_eq!(advances.proven_until, at(20));
    }

    #[test]
    fn a_watermark_that_is_reported_again_has_not_advanced_now() {
        let mut advances = Advances::default();
        advances.advance(version(1));
        advances.heartbeat = Some(at(10));
        advances.advance(version(1));
        assert_eq!(advances.first_to(Version::from_u64(1)), None, "it had advanced before");
    }

    #[test]
    fn the_advances_that_are_remembered_have_a_bound() {
        let mut advances = Advances { heartbeat: Some(at(10)), ..Advances::default() };
        (1..=1_000).for_each(|number| advances.advance(version(number)));
        assert_eq!(advances.known.len(), MAX_ADVANCES);
        assert_eq!(advances.known.back().map(|(version, _)| version.as_u64()), Some(1_000));
    }
}
