//! The marks of a relay: since when copies of a shared tier, and those in near, are proven.
//!
//! A relay drops what has changed in the truth and moves its mark, in one step, at least every tenth
//! of the bound. The mark says which mark was there before the relay looked: all that the truth had
//! committed when *that* one was moved has been dropped. When it was moved, this process knows from
//! the log alone: after the last time that the log was heard without telling of it. No server's clock
//! has a say, and what goes back in time takes its mark with it.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::proof::dated;
use crate::{
    Backend, Clock, Error, Follower, Namespace, Notice, Result, Tier, Timestamp, Version, Watermark,
    defence::{Defence, enabled},
};

/// Moves that are remembered: at ten in a bound, those of several bounds.
const MOST: usize = 64;

/// What is known of the moves of one cache's mark.
pub(crate) struct WatermarkTracker {
    namespace: String,
    /// The namespace of the marks.
    of_marks: String,
    clock: Clock,
    moves: Mutex<Moves>,
    /// Where the marks are: told of as long as this lives.
    tier: Arc<dyn Tier>,
}

#[derive(Default)]
struct Moves {
    /// The log was heard, and had told of everything before; `None` since it had a gap.
    heard_at: Option<Timestamp>,
    /// Each version with a moment before which the mark had not moved to it; oldest first.
    known: VecDeque<(Version, Timestamp)>,
    /// The highest version that was told of.
    newest: Version,
    /// The moment of the latest move; `None` where it is not known, or a gap came between.
    latest: Option<Timestamp>,
    /// All that the truth had committed before was told in the log.
    told: Timestamp,
}

impl WatermarkTracker {
    /// The marks of the cache of `space`, in the backend of its nearest tier.
    ///
    /// # Errors
    /// The backend's; [`ErrorKind::Config`](crate::ErrorKind::Config) where it has no log.
    pub(crate) fn new(backend: &dyn Backend, space: &Namespace, clock: Clock) -> Result<Arc<Self>> {
        let of_marks = Watermark::namespace(space);
        let tier = backend.open(&of_marks)?;
        if tier.log().is_none() {
            return Err(Error::config("marks are told in a log, and the tier has none"));
        }
        let (namespace, of_marks) = (space.name.clone(), of_marks.name);
        Ok(Arc::new(Self { namespace, of_marks, clock, moves: Mutex::default(), tier }))
    }

    /// Begins to hear of moves.
    pub(crate) fn follow(self: &Arc<Self>) {
        if let Some(log) = self.tier.log() {
            let follower = Arc::downgrade(self);
            log.follow(&self.of_marks, follower);
        }
    }

    /// A moment before which the mark had not moved to `version`: the first, where a server that went
    /// back in time has given the version twice. `None` where that is not known, and where the clock
    /// has gone back behind it.
    pub(crate) fn moved_at(&self, version: Version, now: Timestamp) -> Option<Timestamp> {
        self.moves.lock().first_to(version).filter(|at| *at <= now)
    }

    /// All that the truth had committed before was told in the log.
    pub(crate) fn told(&self) -> Timestamp {
        self.moves.lock().told
    }
}

impl Follower for WatermarkTracker {
    fn notice(&self, notice: &Notice) {
        match notice {
            Notice::Key { tenant: None, key, version } if *key == self.namespace.as_bytes() => {
                self.moves.lock().go_to(*version);
            }
            Notice::Key { .. } => {}
            Notice::Clear { .. } => self.moves.lock().latest = None,
            Notice::Lost | _ => *self.moves.lock() = Moves::default(),
        }
    }

    fn heartbeat(&self, at: Instant) {
        let at = dated(&self.clock, at);
        let mut moves = self.moves.lock();
        moves.heard_at = moves.heard_at.max(Some(at));
    }
}

impl Moves {
    /// When the mark first moved to `version`.
    fn first_to(&self, version: Version) -> Option<Timestamp> {
        self.known.iter().find(|(known, _)| *known == version).map(|(_, at)| *at)
    }

    /// The log has told of a move; `None` of one that was no relay's. What is told again is no move.
    fn go_to(&mut self, version: Option<Version>) {
        if version.is_some_and(|version| version <= self.newest) && enabled(Defence::Again) {
            return;
        }
        self.newest = version.map_or(self.newest, |version| version.max(self.newest));
        // The relay looked after the move before this one, and told of what it found before it moved.
        let moved = version.zip(self.heard_at);
        let at = moved.map(|(_, at)| at);
        let before = if enabled(Defence::LastButOne) { self.latest } else { at };
        if let (Some(before), Some(_)) = (before, version) {
            self.told = self.told.max(before);
        }
        self.latest = at;
        let Some(moved) = moved else { return };
        if self.known.len() == MOST {
            self.known.pop_front();
        }
        self.known.push_back(moved);
    }
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
    fn a_mark_certifies_the_move_before_it() {
        let mut moves = Moves { heard_at: Some(at(10)), ..Moves::default() };
        moves.go_to(version(1));
        assert_eq!(moves.told, at(0), "nothing is known of what was before");
        moves.heard_at = Some(at(20));
        moves.go_to(version(2));
        assert_eq!(moves.told, at(10));
        moves.go_to(version(3));
        assert_eq!(moves.told, at(20), "the second was moved after 20");
    }

    #[test]
    fn a_mark_that_was_told_before_the_log_was_heard_has_no_moment() {
        let mut moves = Moves::default();
        moves.go_to(version(1));
        moves.heard_at = Some(at(10));
        moves.go_to(version(2));
        assert_eq!((moves.told, moves.known.len()), (at(0), 1));
    }

    #[test]
    fn a_mark_that_was_dropped_breaks_the_chain() {
        let mut moves = Moves { heard_at: Some(at(10)), ..Moves::default() };
        for step in [version(1), None, version(2)] {
            moves.go_to(step);
        }
        assert_eq!(moves.told, at(0));
        moves.go_to(version(3));
        assert_eq!(moves.told, at(10));
    }

    #[test]
    fn a_version_that_comes_twice_proves_no_more_than_its_first_move() {
        let mut moves = Moves::default();
        for (heard_at, number) in [(10, 1), (20, 2), (30, 1)] {
            moves.heard_at = Some(at(heard_at));
            moves.go_to(version(number));
        }
        assert_eq!(moves.first_to(Version::from_u64(1)), Some(at(10)));
        assert_eq!(moves.first_to(Version::from_u64(3)), None);
    }

    #[test]
    fn a_mark_that_is_told_again_proves_no_more() {
        let mut moves = Moves { heard_at: Some(at(10)), ..Moves::default() };
        moves.go_to(version(1));
        moves.heard_at = Some(at(20));
        moves.go_to(version(2));
        for again in [2, 1, 2] {
            moves.heard_at = Some(at(30));
            moves.go_to(version(again));
            assert_eq!(moves.told, at(10), "the second certifies the first alone");
        }
        moves.go_to(version(3));
        assert_eq!(moves.told, at(20));
    }

    #[test]
    fn a_mark_that_is_told_again_has_not_moved_now() {
        let mut moves = Moves::default();
        moves.go_to(version(1));
        moves.heard_at = Some(at(10));
        moves.go_to(version(1));
        assert_eq!(moves.first_to(Version::from_u64(1)), None, "it had moved before");
    }

    #[test]
    fn the_moves_that_are_remembered_have_a_bound() {
        let mut moves = Moves { heard_at: Some(at(10)), ..Moves::default() };
        (1..=1_000).for_each(|number| moves.go_to(version(number)));
        assert_eq!(moves.known.len(), MOST);
        assert_eq!(moves.known.back().map(|(version, _)| version.as_u64()), Some(1_000));
    }
}
