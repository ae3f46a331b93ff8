//! The promise of level `Fenced`.

mod floors;
mod trust;

use std::collections::HashSet;

use super::{At, End, Fact, From, History, Newness, Read, Truth, Violation, Wish, Write, timeline::Timeline};
use floors::Floors;
use trust::Trust;

/// Checks a history for the promises of level `Fenced`:
///
/// 1. No read gives a value that never was true of its key, or is not true yet, and no tier shows one. A
///    loader's value that a store did not keep is given where nothing was there while the loader ran.
/// 2. A process reads nothing older than a change that it made or was notified of before the call. A drop
///    (`invalidate`, `clear`) that returned counts, also if a tier did not confirm it.
/// 3. Where every tier confirmed a change, no process reads anything older from beyond its near
///    tier, unless it joined a trip that was under way. A clear counts 100 ms later: another handle may
///    know its epoch late.
/// 4. A tier that confirmed a change never again shows anything older.
/// 5. A store's absence answers no read with a loader, which always has a value to give.
/// 6. A read of the truth itself gives a value that was true at the call, or later.
/// 7. Where near tiers follow a log, near gives nothing older than what every tier had confirmed
///    [`History::distrust`] before the call. In a process that has followed the log for as long without a
///    gap, near gives nothing older than what every tier had confirmed at the last heartbeat.
/// 8. After a tier went back in time and its copies were made dead, no read from beyond near gives a value
///    older than the truth at that moment, where it is the only cache tier. This holds 100 ms later, and
///    for near after [`History::distrust`].
/// 9. Where nothing interferes any more ([`History::calm_from`]), a process reads nothing older than the
///    value that a refresh gave it 50 ms ago.
/// 10. Rule 6 holds for every read that asked for the truth ([`Newness::Truth`]).
///
/// Reads that are marked stale are checked by rule 1 alone, and reads that asked for any copy within its
/// life by rules 1, 5 and 6. A tier that goes back in time voids rules 2 to 4 and 7 for the changes that
/// began before.
pub fn fenced(history: &History) -> Vec<Violation> {
    let timeline = Timeline::of(history);
    let checker = Checker {
        history,
        timeline: &timeline,
        offered: history.offered.iter().copied().collect(),
        floors: Floors::of(history, &timeline),
        trust: Trust::of(history),
    };
    let reads = history.reads.iter().filter_map(|read| checker.judge(read));
    let shown = history.facts.iter().filter_map(|(at, fact)| checker.judge_shown(*at, fact));
    let lost = history.writes.iter().filter_map(|write| checker.judge_write(write));
    reads.chain(shown).chain(lost).collect()
}

struct Checker<'a> {
    history: &'a History,
    timeline: &'a Timeline,
    offered: HashSet<u64>,
    floors: Floors<'a>,
    trust: Trust,
}

impl Checker<'_> {
    fn judge(&self, read: &Read) -> Option<Violation> {
        let found = match self.number_of(read) {
            Ok(number) => self.judge_number(read, number?),
            Err(what) => Some(what),
        };
        found.map(|what| Violation { at: read.ret, key: read.key, what: format!("{}{what}", said(read)) })
    }

    /// What is wrong with a read of the value that was true under this number.
    fn judge_number(&self, read: &Read, number: usize) -> Option<String> {
        if read.is_excused() {
            return None;
        }
        if read.loads && read.value.is_none() && self.history.truth == Truth::Store {
            return Some(", and it had brought a loader".to_owned());
        }
        if (read.anew || read.asked == Newness::Truth) && number < self.timeline.at(read.key, read.call) {
            return Some(" of the truth itself gave what was superseded before its call".to_owned());
        }
        if read.asked == Newness::Life {
            return None;
        }
        let is_copy = !read.joined && read.value.is_some();
        if is_copy && let Some(what) = self.judge_renewed(read, number) {
            return Some(what);
        }
        let era = self.floors.eras.of_span(read.call, read.ret)?;
        let own = self.floors.own(era, read.process, read.key, read.call);
        if number < own {
            return Some(format!(", older than number {own}, which it had made or was notified of"));
        }
        if !is_copy {
            return None;
        }
        // The log covers the copies of near.
        let by = if read.from == From::Near { self.trust.near_rests_on(read)? } else { read.call };
        let all = self.floors.everywhere(era, read.key, by);
        (number < all).then(|| format!(", older than number {all}, which every tier had confirmed by {by}"))
    }

    /// What is wrong with a read after copies were made dead.
    fn judge_renewed(&self, read: &Read, number: usize) -> Option<String> {
        let renewed = self.trust.died_before(read)?;
        self.floors.eras.of_span(renewed, read.ret)?;
        let then = self.timeline.at(read.key, renewed);
        (number < then)
            .then(|| format!(", older than number {then}, which was true when copies died at {renewed}"))
    }

    /// The number of the value that was read; `None` where the answer says nothing about the order.
    fn number_of(&self, read: &Read) -> Result<Option<usize>, String> {
        let Some(value) = read.value else {
            return match self.history.truth {
                // A cache may forget a value.
                Truth::Origin => Ok(None),
                Truth::Store => Ok(Some(self.timeline.last_absence(read.key, read.ret))),
            };
        };
        if let Some(number) = self.timeline.number(read.key, value, read.ret) {
            return Ok(Some(number));
        }
        if self.timeline.first_number(read.key, value).is_some() {
            return Err(", which was not true yet".to_owned());
        }
        if self.history.truth != Truth::Store || read.from != From::Loader || !self.offered.contains(&value) {
            return Err(", which never was true".to_owned());
        }
        // A read that joins a load may come after the record that the load lost to.
        match read.joined || self.timeline.may_be_absent(read.key, read.call, read.ret) {
            true => Ok(None),
            false => Err(", which no store kept, and there was a record".to_owned()),
        }
    }

    fn judge_shown(&self, at: At, fact: &Fact) -> Option<Violation> {
        let Fact::Shown { tier, key, value } = *fact else { return None };
        let floor = self.floors.of_tier(tier, key, at);
        let what = match self.timeline.number(key, value, at) {
            None => format!("tier {tier} shows {value}, which never was true, or is not yet"),
            Some(number) if number < floor => {
                format!("tier {tier} shows {value}, older than number {floor}, which it had confirmed")
            }
            Some(_) => return None,
        };
        Some(Violation { at, key, what })
    }

    /// An acknowledged write that did not happen between its call and its return. An origin is changed
    /// before the caches are.
    fn judge_write(&self, write: &Write) -> Option<Violation> {
        let (Some((ret, End::Done)), Some(key)) = (write.ret, write.key) else { return None };
        let stored = self.history.truth == Truth::Store;
        let happened = match write.wish {
            Wish::Put(value) | Wish::PutIfAbsent(value) | Wish::Replace(_, value) => {
                let number = self.timeline.number(key, value, ret);
                number.is_some_and(|number| !stored || self.timeline.settled(key, number) >= write.call)
            }
            Wish::Remove if stored => self.floors.of_write(write, key, ret, End::Done).is_some(),
            _ => return None,
        };
        let what = || {
            format!("process {} was acknowledged {:?}, which did not happen then", write.process, write.wish)
        };
        (!happened).then(|| Violation { at: ret, key, what: what() })
    }
}

fn said(read: &Read) -> String {
    let Read { process, value, from, call, .. } = read;
    format!("process {process} read {value:?} from {from:?} in a call of {call}")
}
