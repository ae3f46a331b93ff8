//! What processes read of their log, and when copies were made dead: how long near may give old values.

use std::{collections::HashMap, time::Duration};

use super::{
    super::{At, Fact, From, History, Process, Read},
    floors::CLEAR_LAG,
};

/// Clocks of caches count in milliseconds.
const GRAIN: u64 = 2_000_000;

/// A moment at which a process had read all of its log.
struct Followed {
    at: At,
    /// The moment up to which it had read the log.
    until: At,
    /// Since this moment it has followed the log without a gap or a silence.
    since: At,
}

pub(super) struct Trust {
    /// How long near trusts a log, in nanoseconds, with the grain of the clocks; `None` without a log.
    distrust: Option<u64>,
    followed: HashMap<Process, Vec<Followed>>,
    /// When the copies of the only cache tier were made dead.
    renewed: Vec<At>,
}

impl Trust {
    pub(super) fn of(history: &History) -> Self {
        let nanos = |distrust: Duration| u64::try_from(distrust.as_nanos()).unwrap_or(u64::MAX);
        let distrust = history.distrust.map(nanos);
        let mut followed: HashMap<Process, Vec<Followed>> = HashMap::new();
        let mut renewed = Vec::new();
        for (at, fact) in &history.facts {
            match *fact {
                Fact::Followed { process, until } => {
                    let followed = followed.entry(process).or_default();
                    let unbroken = |last: &&Followed| {
                        let silence = at.0.saturating_sub(last.until.0) + GRAIN;
                        last.until > At::default() && silence < distrust.unwrap_or_default()
                    };
                    let since = followed.last().filter(unbroken).map_or(*at, |last| last.since);
                    followed.push(Followed { at: *at, until, since });
                }
                Fact::Gap { process } => {
                    let gap = Followed { at: *at, until: At::default(), since: At(u64::MAX) };
                    followed.entry(process).or_default().push(gap);
                }
                Fact::Renewed { .. } if history.tiers == 1 => renewed.push(*at),
                _ => {}
            }
        }
        Self { distrust: distrust.map(|distrust| distrust.saturating_add(GRAIN)), followed, renewed }
    }

    /// The moment whose confirmed changes near must give; `None` where it follows no log.
    pub(super) fn near_rests_on(&self, read: &Read) -> Option<At> {
        let distrust = self.distrust?;
        let followed = self.followed.get(&read.process).map_or(&[][..], Vec::as_slice);
        let heard = followed[..followed.partition_point(|followed| followed.at < read.call)].last();
        let long_ago = At(read.call.0.saturating_sub(distrust));
        // A copy from before the log was followed has its own end.
        let rests = heard.filter(|heard| heard.since < long_ago);
        Some(rests.map_or(long_ago, |heard| heard.until.max(long_ago)))
    }

    /// When the copies were made dead that cannot have answered the read.
    pub(super) fn died_before(&self, read: &Read) -> Option<At> {
        let lag = if read.from == From::Near { self.distrust? } else { CLEAR_LAG };
        let before = self.renewed.partition_point(|at| at.0.saturating_add(lag) < read.call.0);
        self.renewed.get(before.checked_sub(1)?).copied()
    }
}
