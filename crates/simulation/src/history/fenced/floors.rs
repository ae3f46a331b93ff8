//! How new a read must be: the lowest numbers that may be read, raised write by write.

use std::collections::{HashMap, HashSet};

use super::super::{
    At, Change, End, Fact, From, History, Key, Process, Read, Truth, Wish, Write, timeline::Timeline,
};

/// A refresh fills the copies in the background, within this time.
const FILLED_WITHIN: u64 = 50_000_000;

/// How long another process may read what a clear has made dead, from a tier and by an epoch that it has
/// heard before, in nanoseconds.
pub(super) const CLEAR_LAG: u64 = 100_000_000;

/// The lowest number that may be read, from each moment on; it only rises.
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

    /// The floor as it was raised before a moment.
    fn at(&self, at: At) -> usize {
        let place = self.0.partition_point(|(raised, _)| *raised < at);
        place.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// The moments at which tiers went back in time: promises from before such a moment are void after it.
pub(super) struct Eras(Vec<At>);

impl Eras {
    fn of(history: &History) -> Self {
        let went_back = |(at, fact): &(At, Fact)| matches!(fact, Fact::WentBack).then_some(*at);
        Self(history.facts.iter().filter_map(went_back).collect())
    }

    /// The number of such moments before a moment.
    fn of_moment(&self, at: At) -> usize {
        self.0.partition_point(|back| *back <= at)
    }

    /// The era of a span; `None` where a tier went back in time within the span.
    pub(super) fn of_span(&self, from: At, to: At) -> Option<usize> {
        Some(self.of_moment(from)).filter(|era| *era == self.of_moment(to))
    }
}

/// By process, tier and key: the moment, whether a put was confirmed, and the changes that it covers.
type Confirmations = HashMap<(Process, usize, Option<Key>), Vec<(At, bool, Option<At>)>>;

/// The floors of a history, in each era.
pub(super) struct Floors<'a> {
    history: &'a History,
    timeline: &'a Timeline,
    pub(super) eras: Eras,
    confirmed: Confirmations,
    keys: HashSet<Key>,
    own: HashMap<(usize, Process, Key), Floor>,
    everywhere: HashMap<(usize, Key), Floor>,
    of_tier: HashMap<(usize, usize, Key), Floor>,
}

impl<'a> Floors<'a> {
    pub(super) fn of(history: &'a History, timeline: &'a Timeline) -> Self {
        let mut confirmed = Confirmations::new();
        for (at, fact) in &history.facts {
            if let Fact::Confirmed { tier, process, key, put, covers } = *fact {
                confirmed.entry((process, tier, key)).or_default().push((*at, put, covers));
            }
        }
        let mut floors = Self {
            history,
            timeline,
            eras: Eras::of(history),
            confirmed,
            keys: history.changes.iter().map(|change| change.key).collect(),
            own: HashMap::new(),
            everywhere: HashMap::new(),
            of_tier: HashMap::new(),
        };
        floors.raise_by_writes();
        floors.raise_by_refreshes();
        floors.raise_by_news();
        floors
    }

    /// The lowest number that a process may read of a key: the changes that it made or was notified of.
    pub(super) fn own(&self, era: usize, process: Process, key: Key, at: At) -> usize {
        self.own.get(&(era, process, key)).map_or(0, |floor| floor.at(at))
    }

    /// The number that every tier had confirmed.
    pub(super) fn everywhere(&self, era: usize, key: Key, at: At) -> usize {
        self.everywhere.get(&(era, key)).map_or(0, |floor| floor.at(at))
    }

    /// The number that a tier had confirmed.
    pub(super) fn of_tier(&self, tier: usize, key: Key, at: At) -> usize {
        self.of_tier.get(&(self.eras.of_moment(at), tier, key)).map_or(0, |floor| floor.at(at))
    }

    fn raise_by_writes(&mut self) {
        let history = self.history;
        let crowded = crowded(history);
        for (place, write) in history.writes.iter().enumerate() {
            let Some((ret, end)) = write.ret else { continue };
            let Some(era) = self.eras.of_span(write.call, ret) else { continue };
            for key in self.keys_of(write.key) {
                let Some(floor) = self.of_write(write, key, ret, end) else { continue };
                self.own.entry((era, write.process, key)).or_default().raise(ret, floor);
                let confirmed = match crowded.contains(&place) {
                    true => Vec::new(),
                    false => self.confirmed(write, key, ret, floor),
                };
                for &tier in &confirmed {
                    self.of_tier.entry((era, tier, key)).or_default().raise(ret, floor);
                }
                if end == End::Done && confirmed.len() == history.tiers {
                    let lag = if write.key.is_none() { CLEAR_LAG } else { 0 };
                    self.everywhere.entry((era, key)).or_default().raise(At(ret.0 + lag), floor);
                }
            }
        }
    }

    /// Where nothing interferes, the value that a refresh gave has replaced all copies.
    fn raise_by_refreshes(&mut self) {
        let refreshes = |read: &&Read| {
            read.anew
                && matches!(read.from, From::Store | From::Loader)
                && read.call >= self.history.calm_from
        };
        for read in self.history.reads.iter().filter(refreshes) {
            let number = read.value.and_then(|value| self.timeline.number(read.key, value, read.ret));
            if let (Some(number), Some(era)) = (number, self.eras.of_span(read.call, read.ret)) {
                let filled = At(read.ret.0 + FILLED_WITHIN);
                self.own.entry((era, read.process, read.key)).or_default().raise(filled, number);
            }
        }
    }

    fn raise_by_news(&mut self) {
        for (at, fact) in &self.history.facts {
            let Fact::Heard { process, key, since } = *fact else { continue };
            let Some(era) = self.eras.of_span(since, *at) else { continue };
            for key in self.keys_of(key) {
                let floor = self.timeline.at(key, since);
                self.own.entry((era, process, key)).or_default().raise(*at, floor);
            }
        }
    }

    fn keys_of(&self, key: Option<Key>) -> Vec<Key> {
        key.map_or_else(|| self.keys.iter().copied().collect(), |key| vec![key])
    }

    /// The lowest number that may be read once the write has returned; `None` where it promises nothing.
    pub(super) fn of_write(&self, write: &Write, key: Key, ret: At, end: End) -> Option<usize> {
        let stored = self.history.truth == Truth::Store;
        let at_call = self.timeline.at(key, write.call);
        match (write.wish, end) {
            (_, End::Refused) => None,
            (Wish::Put(value) | Wish::PutIfAbsent(value) | Wish::Replace(_, value), End::Done) => {
                self.timeline.first_number(key, value)
            }
            // A load is no write: a read that joins an earlier lookup may still get an absence.
            (Wish::Create(_), _) => None,
            (Wish::Remove, End::Done) if stored => {
                let removed =
                    |change: &&Change| change.value.is_none() && (write.call..=ret).contains(&change.at);
                let removal = self.timeline.of_key(key).iter().find(removed)?;
                Some(self.timeline.at(key, removal.at))
            }
            (Wish::Remove | Wish::Invalidate, End::Done | End::Partial) => Some(at_call),
            // A put that failed has still dropped the copies.
            (_, _) => stored.then_some(at_call),
        }
    }

    /// The tiers that confirmed a write, from far to near: each after the truth had the change, and after
    /// the next farther tier.
    fn confirmed(&self, write: &Write, key: Key, ret: At, floor: usize) -> Vec<usize> {
        let stored = self.history.truth == Truth::Store;
        let committed = || write.wish.value().and_then(|value| self.timeline.first_number(key, value));
        let mut since = write.call;
        if let Some(number) = stored.then(committed).flatten() {
            since = self.timeline.began(key, number);
        }
        let mut confirmed = Vec::new();
        for tier in (0..self.history.tiers).rev() {
            let decides = !stored && tier + 1 == self.history.tiers && write.wish.value().is_some();
            let times = self.confirmed.get(&(write.process, tier, write.key)).map_or(&[][..], Vec::as_slice);
            let first = times.partition_point(|(at, ..)| *at < since);
            // The confirmation may belong to another write, such as a fill that outdates the value.
            let wanted = self.timeline.began(key, floor);
            let confirms = |(_, put, covers): &&(At, bool, Option<At>)| {
                (*put || !decides) && covers.is_none_or(|covers| covers >= wanted)
            };
            match times[first..].iter().find(confirms) {
                Some((at, ..)) if *at <= ret => {
                    confirmed.push(tier);
                    since = *at;
                }
                // An old value in a farther tier may be copied nearer again.
                _ => break,
            }
        }
        confirmed
    }
}

/// A write by its index, and when it ended.
type UnderWay = (usize, At);

/// The writes whose process had another write of the key under way: it is not known which of them a tier
/// confirmed.
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
