//! The promise of level `Fenced`.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{
    At, Change, End, Fact, From, History, Key, Newness, Process, Read, Truth, Violation, Wish, Write,
    timeline::Timeline,
};

/// Holds a history to level `Fenced`:
///
/// 1. No read gives what never was true, or is not true yet.
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
    let mut checker = Checker::new(history);
    checker.read_facts();
    checker.raise_floors();
    let reads = history.reads.iter().filter_map(|read| checker.judge(read));
    let shown = history.facts.iter().filter_map(|(at, fact)| checker.judge_shown(*at, fact));
    let lost = history.writes.iter().filter_map(|write| checker.judge_write(write));
    reads.chain(shown).chain(lost).collect()
}

/// The copies of what a refresh gave are filled off the caller's path.
const FILLED_WITHIN: u64 = 50_000_000;

/// Clocks of caches count in milliseconds.
const GRAIN: u64 = 2_000_000;

/// The lowest number that may be read from each moment on; it only rises.
#[derive(Default)]
struct Floor(Vec<(At, usize)>);

impl Floor {
    fn raise(&mut self, at: At, number: usize) {
        let place = self.0.partition_point(|(before, _)| *before <= at);
        let floor = place.checked_sub(1).map_or(0, |last| self.0[last].1).max(number);
        self.0.insert(place, (at, floor));
        for later in &mut self.0[place + 1..] {
            later.1 = later.1.max(floor);
        }
    }

    /// What was raised before a moment.
    fn at(&self, at: At) -> usize {
        let place = self.0.partition_point(|(raised, _)| *raised < at);
        place.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// By process, tier and key: when, whether it was of a put, and up to when it confirms changes.
type Confirmations = HashMap<(Process, usize, Option<Key>), Vec<(At, bool, Option<At>)>>;

/// A moment in which a process was told all of its log.
struct Followed {
    at: At,
    /// Up to when.
    until: At,
    /// Since when it has been told so, without a gap or a silence.
    since: At,
}

/// A write by its place, and when it ended.
type UnderWay = (usize, At);

struct Checker<'a> {
    history: &'a History,
    timeline: Timeline,
    offered: HashSet<u64>,
    /// When tiers went back in time.
    returns: Vec<At>,
    confirmed: Confirmations,
    /// In each era between two returns: of a process and key, of a key everywhere, of a tier and key.
    own: HashMap<(usize, Process, Key), Floor>,
    everywhere: HashMap<(usize, Key), Floor>,
    of_tier: HashMap<(usize, usize, Key), Floor>,
    keys: HashSet<Key>,
    followed: HashMap<Process, Vec<Followed>>,
    /// When the copies of the only cache tier were made dead.
    renewed: Vec<At>,
}

impl<'a> Checker<'a> {
    fn new(history: &'a History) -> Self {
        let keys = history.changes.iter().map(|change| change.key);
        Self {
            history,
            timeline: Timeline::of(history),
            offered: history.offered.iter().copied().collect(),
            returns: Vec::new(),
            confirmed: HashMap::new(),
            own: HashMap::new(),
            everywhere: HashMap::new(),
            of_tier: HashMap::new(),
            keys: keys.collect(),
            followed: HashMap::new(),
            renewed: Vec::new(),
        }
    }

    fn read_facts(&mut self) {
        for (at, fact) in &self.history.facts {
            match *fact {
                Fact::WentBack => self.returns.push(*at),
                Fact::Confirmed { tier, process, key, put, covers } => {
                    self.confirmed.entry((process, tier, key)).or_default().push((*at, put, covers));
                }
                Fact::Followed { process, until } => {
                    let distrust = self.history.distrust.map_or(0, nanos);
                    let followed = self.followed.entry(process).or_default();
                    let unbroken = |last: &&Followed| {
                        last.until > At::default() && at.0.saturating_sub(last.until.0) + GRAIN < distrust
                    };
                    let since = followed.last().filter(unbroken).map_or(*at, |last| last.since);
                    followed.push(Followed { at: *at, until, since });
                }
                Fact::Gap { process } => {
                    let gap = Followed { at: *at, until: At::default(), since: At(u64::MAX) };
                    self.followed.entry(process).or_default().push(gap);
                }
                Fact::Renewed { .. } if self.history.tiers == 1 => self.renewed.push(*at),
                _ => {}
            }
        }
    }

    /// How many returns came before.
    fn era(&self, at: At) -> usize {
        self.returns.partition_point(|back| *back <= at)
    }

    fn raise_floors(&mut self) {
        let history = self.history;
        let crowded = crowded(history);
        for (place, write) in history.writes.iter().enumerate() {
            let Some((ret, end)) = write.ret else { continue };
            let era = self.era(write.call);
            if era != self.era(ret) {
                continue;
            }
            let keys: Vec<Key> =
                write.key.map_or_else(|| self.keys.iter().copied().collect(), |key| vec![key]);
            for key in keys {
                let Some(floor) = self.floor_of(write, key, ret, end) else { continue };
                self.own.entry((era, write.process, key)).or_default().raise(ret, floor);
                let confirmed = if crowded.contains(&place) {
                    Vec::new()
                } else {
                    self.confirmed(write, key, ret, floor)
                };
                for &tier in &confirmed {
                    self.of_tier.entry((era, tier, key)).or_default().raise(ret, floor);
                }
                if end == End::Done && confirmed.len() == history.tiers {
                    self.everywhere.entry((era, key)).or_default().raise(ret, floor);
                }
            }
        }
        // Where nothing interferes, what a refresh gave has taken the place of all copies.
        for read in history.reads.iter().filter(|read| read.anew && read.call >= history.calm_from) {
            let Some(number) = read.value.and_then(|value| self.timeline.number(value)) else { continue };
            let era = self.era(read.call);
            if era == self.era(read.ret) && matches!(read.from, From::Store | From::Loader) {
                self.own
                    .entry((era, read.process, read.key))
                    .or_default()
                    .raise(At(read.ret.0 + FILLED_WITHIN), number);
            }
        }
        for (at, fact) in &history.facts {
            let Fact::Heard { process, key, since } = *fact else { continue };
            let era = self.era(since);
            if era != self.era(*at) {
                continue;
            }
            let keys: Vec<Key> = key.map_or_else(|| self.keys.iter().copied().collect(), |key| vec![key]);
            for key in keys {
                let floor = self.timeline.at(key, since);
                self.own.entry((era, process, key)).or_default().raise(*at, floor);
            }
        }
    }

    /// What may be read, at the least, once the write has returned; `None` where it promises nothing.
    fn floor_of(&self, write: &Write, key: Key, ret: At, end: End) -> Option<usize> {
        let stored = self.history.truth == Truth::Store;
        let at_call = self.timeline.at(key, write.call);
        match (write.wish, end) {
            (_, End::Refused) => None,
            (Wish::Put(value) | Wish::PutIfAbsent(value) | Wish::Replace(_, value), End::Done) => {
                self.timeline.first_number(value)
            }
            // A load is no write: who joins an earlier lookup may still be told that nothing was there.
            (Wish::Create(_), _) => None,
            (Wish::Remove, End::Done) if stored => {
                let removed =
                    |change: &&Change| change.value.is_none() && (write.call..=ret).contains(&change.at);
                let removal = self.timeline.of_key(key).iter().find(removed)?;
                Some(self.timeline.at(key, removal.at))
            }
            (Wish::Remove | Wish::Invalidate, End::Done | End::Partial) => Some(at_call),
            // A put that failed has dropped the copies all the same.
            (_, _) => stored.then_some(at_call),
        }
    }

    /// The tiers that confirmed a write, from far to near: each after the truth had it, and after
    /// the tier beyond.
    fn confirmed(&self, write: &Write, key: Key, ret: At, floor: usize) -> Vec<usize> {
        let stored = self.history.truth == Truth::Store;
        let committed = || write.wish.value().and_then(|value| self.timeline.first_number(value));
        let mut since = write.call;
        if let Some(number) = stored.then(committed).flatten() {
            since = self.timeline.began(key, number);
        }
        let mut confirmed = Vec::new();
        for tier in (0..self.history.tiers).rev() {
            let decides = !stored && tier + 1 == self.history.tiers && write.wish.value().is_some();
            let times = self.confirmed.get(&(write.process, tier, write.key)).map_or(&[][..], Vec::as_slice);
            let first = times.partition_point(|(at, ..)| *at < since);
            // What it says may be of another write than this: of a fill that outdates, say.
            let wanted = self.timeline.began(key, floor);
            let confirms = |(_, put, covers): &&(At, bool, Option<At>)| {
                (*put || !decides) && covers.is_none_or(|covers| covers >= wanted)
            };
            match times[first..].iter().find(confirms) {
                Some((at, ..)) if *at <= ret => {
                    confirmed.push(tier);
                    since = *at;
                }
                // What a tier beyond still has may come nearer again.
                _ => break,
            }
        }
        confirmed
    }

    fn judge(&self, read: &Read) -> Option<Violation> {
        let violation = |what| Some(Violation { at: read.ret, key: read.key, what });
        let number = match self.number_of(read) {
            Ok(number) => number?,
            Err(what) => return violation(what),
        };
        if read.is_excused() {
            return None;
        }
        if read.loads && read.value.is_none() && self.history.truth == Truth::Store {
            return violation(format!("{}, and it had brought a loader", said(read)));
        }
        if (read.anew || read.asked == Newness::Truth) && number < self.timeline.at(read.key, read.call) {
            return violation(format!(
                "{} of the truth itself gave what was superseded before its call",
                said(read)
            ));
        }
        if read.asked == Newness::Life {
            return None;
        }
        if let Some(what) = self.judge_renewed(read, number) {
            return violation(what);
        }
        let era = self.era(read.call);
        if era != self.era(read.ret) {
            return None;
        }
        let own = self.own.get(&(era, read.process, read.key)).map_or(0, |floor| floor.at(read.call));
        if number < own {
            return violation(format!(
                "{}, older than number {own}, which it had made or heard of",
                said(read)
            ));
        }
        if read.joined || read.value.is_none() {
            return None;
        }
        if read.from == From::Near {
            return self.judge_near(read, number, era).and_then(violation);
        }
        let all = self.everywhere.get(&(era, read.key)).map_or(0, |floor| floor.at(read.call));
        if number < all {
            return violation(format!(
                "{}, older than number {all}, which every tier had confirmed",
                said(read)
            ));
        }
        None
    }

    /// What near may give rests on the log.
    fn judge_near(&self, read: &Read, number: usize, era: usize) -> Option<String> {
        let distrust = self.distrust()?;
        let followed = self.followed.get(&read.process).map_or(&[][..], Vec::as_slice);
        let heard = followed[..followed.partition_point(|followed| followed.at < read.call)].last();
        let long_ago = At(read.call.0.saturating_sub(distrust));
        // What was kept before the log was heard lives on its own.
        let rests = heard.filter(|heard| heard.since < long_ago);
        let since = rests.map_or(long_ago, |heard| heard.until.max(long_ago));
        let all = self.everywhere.get(&(era, read.key)).map_or(0, |floor| floor.at(since));
        (number < all).then(|| {
            format!("{}, older than number {all}, which every tier had confirmed by {since}", said(read))
        })
    }

    /// What may be read after copies were made dead.
    fn judge_renewed(&self, read: &Read, number: usize) -> Option<String> {
        if read.joined || read.value.is_none() {
            return None;
        }
        let near = if read.from == From::Near { self.distrust()? } else { 0 };
        let before = self.renewed.partition_point(|at| at.0.saturating_add(near) < read.call.0);
        let renewed = *self.renewed.get(before.checked_sub(1)?)?;
        if self.era(renewed) != self.era(read.ret) {
            return None;
        }
        let then = self.timeline.at(read.key, renewed);
        (number < then).then(|| {
            format!("{}, older than number {then}, which was true when copies died at {renewed}", said(read))
        })
    }

    /// In nanoseconds, with the grain of the clocks.
    fn distrust(&self) -> Option<u64> {
        self.history.distrust.map(|distrust| nanos(distrust).saturating_add(GRAIN))
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
        match self.timeline.number(value) {
            Some(number) if self.timeline.began(read.key, number) <= read.ret => Ok(Some(number)),
            // Written again later: it has its first place as well, which nobody asks for.
            Some(_) if self.history.truth == Truth::Origin => Ok(None),
            Some(_) => Err(format!("{}, which was not true yet", said(read))),
            None if self.offered.contains(&value) && read.from == From::Loader => Ok(None),
            None => Err(format!("{}, which never was true", said(read))),
        }
    }

    fn judge_shown(&self, at: At, fact: &Fact) -> Option<Violation> {
        let Fact::Shown { tier, key, value } = *fact else { return None };
        let number = self.timeline.number(value)?;
        let floor = self.of_tier.get(&(self.era(at), tier, key)).map_or(0, |floor| floor.at(at));
        let what = || format!("tier {tier} shows {value}, older than number {floor}, which it had confirmed");
        (number < floor).then(|| Violation { at, key, what: what() })
    }

    /// An acknowledged write that the truth does not know.
    fn judge_write(&self, write: &Write) -> Option<Violation> {
        let (ret, end) = write.ret?;
        let (key, lost) = match (write.wish, write.key) {
            (Wish::Put(value) | Wish::PutIfAbsent(value) | Wish::Replace(_, value), Some(key)) => {
                (key, self.timeline.number(value).is_none())
            }
            (Wish::Remove, Some(key)) if self.history.truth == Truth::Store => {
                (key, self.floor_of(write, key, ret, end).is_none())
            }
            _ => return None,
        };
        let what =
            || format!("process {} was acknowledged {:?}, which did not happen", write.process, write.wish);
        (lost && end == End::Done).then(|| Violation { at: ret, key, what: what() })
    }
}

/// The writes beside which their process had another one of the key under way: which of them a tier
/// confirmed is not known.
fn crowded(history: &History) -> HashSet<usize> {
    let mut crowded = HashSet::new();
    let mut earlier: HashMap<(Process, Option<Key>), Vec<UnderWay>> = HashMap::new();
    let mut places: Vec<usize> = (0..history.writes.len()).collect();
    places.sort_unstable_by_key(|place| history.writes[*place].call);
    for place in places {
        let write = &history.writes[place];
        let under_way = earlier.entry((write.process, write.key)).or_default();
        under_way.retain(|(_, ended)| *ended >= write.call);
        if !under_way.is_empty() {
            crowded.extend(under_way.iter().map(|(other, _)| *other).chain([place]));
        }
        under_way.push((place, write.ret.map_or(At(u64::MAX), |(ret, _)| ret)));
    }
    crowded
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn said(read: &Read) -> String {
    let Read { process, value, from, call, .. } = read;
    format!("process {process} read {value:?} from {from:?} in a call of {call}")
}
