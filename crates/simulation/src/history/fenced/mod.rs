//! The promise of level `Fenced`.

mod floors;
mod trust;

use std::collections::HashSet;

use super::{At, End, Fact, From, History, Newness, Read, Truth, Violation, Wish, Write, timeline::Timeline};
use floors::Floors;
use trust::Trust;

/// Holds a history to level `Fenced`:
///
/// 1. No read gives what never was true of its key, or is not true yet, and no tier shows it. A loader's
///    value that a store did not keep is given where nothing was there while it ran.
/// 2. A process reads nothing older than a change that it made or heard of before the call. A drop
///    (`invalidate`, `clear`) that returned counts, and so does one that a tier did not confirm.
/// 3. Where every tier confirmed a change, no process reads anything older from beyond its near
///    tier, unless it joined a trip that was under way.
/// 4. A tier that confirmed a change never again shows anything older.
/// 5. A store's absence answers no read that brought a loader, which always has something to give.
/// 6. A read of the truth itself gives what was true at the call, or later.
/// 7. Where near tiers follow a log, near gives nothing older than what every tier had confirmed
///    [`History::distrust`] before the call; and in a process that has heard the log for as long without
///    a gap, nothing older than what they had when it last did.
/// 8. Once a tier's copies were made dead because it had gone back in time, nothing older than what was
///    true then is read from beyond near where it is the only cache tier, nor from near after
///    [`History::distrust`].
/// 9. Where nothing interferes any more ([`History::calm_from`]), a process reads nothing older than what
///    it got by a refresh 50 ms ago.
/// 10. Any read of a process that asked for the truth is one of 6.
///
/// Reads that are marked stale, and those that asked for any copy within its life, are held to 1 alone
/// (the latter to 5 and 6 as well). A tier that goes back in time voids 2 to 4 and 7 for the changes that began before.
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

    /// What is wrong with what was true under this number.
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
            return Some(format!(", older than number {own}, which it had made or heard of"));
        }
        if !is_copy {
            return None;
        }
        // What near may give rests on the log.
        let by = if read.from == From::Near { self.trust.near_rests_on(read)? } else { read.call };
        let all = self.floors.everywhere(era, read.key, by);
        (number < all).then(|| format!(", older than number {all}, which every tier had confirmed by {by}"))
    }

    /// What may be read after copies were made dead.
    fn judge_renewed(&self, read: &Read, number: usize) -> Option<String> {
        let renewed = self.trust.died_before(read)?;
        self.floors.eras.of_span(renewed, read.ret)?;
        let then = self.timeline.at(read.key, renewed);
        (number < then)
            .then(|| format!(", older than number {then}, which was true when copies died at {renewed}"))
    }

    /// The number of what was read: `None` where an answer says nothing about the order.
    fn number_of(&self, read: &Read) -> Result<Option<usize>, String> {
        let Some(value) = read.value else {
            return match self.history.truth {
                // A cache may forget.
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
        // Who joins a load may come after the record that it lost to.
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

    /// An acknowledged write that did not happen between its call and its return; an origin is changed
    /// before its caches are told.
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
