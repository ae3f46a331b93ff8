//! What a recording is held to. It makes a history of it, and the checkers of
//! `terrace_conformance::history` judge that.
//!
//! | promise of docs/consistency.md | checked | while |
//! |---|---|---|
//! | `Fenced` 1 to 3, truth of reads | by `fenced` | always; a Redis that went back in time voids what began before |
//! | records are linearizable, nothing acknowledged is lost | by `linear`, on writes and reads of the store; by `fenced` | always |
//! | a failed write that is not `Unknown` did not happen; versions grow | here | always |
//! | near believes a log that it does not hear for one second | by `bounded`, on near reads | the log is Postgres' own: what Redis' log may lag behind the truth is not promised |

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use terrace_conformance::history::{
    At, Change, End, Fact, From, History, Key, Process, Read, Truth, Violation, Wish, Write, bounded, fenced,
    linear,
};

use super::{
    plan::{Fault, Stack},
    record::{Line, Recording},
};

/// What a round came to.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) violations: Vec<Violation>,
    pub(crate) undecided: Vec<Key>,
    pub(crate) reads: u64,
    pub(crate) near: u64,
    pub(crate) failed_reads: u64,
    pub(crate) writes: u64,
    pub(crate) processes: u64,
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// How long the truth had been another one when near served a value, at most.
    pub(crate) stalest: Duration,
    pub(crate) history: History,
}

/// How long near believes what no log vouches for.
const DISTRUST: Duration = Duration::from_secs(1);

/// Clocks count in milliseconds.
const GRAIN: Duration = Duration::from_millis(2);

pub(crate) fn judge(recording: &Recording) -> Judged {
    let stack = recording.plan.stack;
    let history = history(recording);
    let mut judged = counted(recording, &history);
    let near = History {
        reads: history.reads.iter().filter(|read| read.from == From::Near).copied().collect(),
        changes: history.changes.clone(),
        ..History::default()
    };
    judged.near = near.reads.len() as u64;
    judged.stalest = stalest(&near);
    judged.violations = fenced(&history);
    judged.violations.extend(undone(&history));
    judged.violations.extend(versions(recording));
    if stack == Stack::NearStore {
        judged.violations.extend(bounded(&near, DISTRUST + GRAIN));
    }
    if stack.has_store() {
        let (broken, undecided) = linear(&of_the_store(recording, &history));
        judged.violations.extend(broken);
        judged.undecided = undecided;
    }
    judged.history = history;
    judged
}

fn counted(recording: &Recording, history: &History) -> Judged {
    let mut judged = Judged {
        reads: history.reads.len() as u64,
        writes: history.writes.len() as u64,
        ..Judged::default()
    };
    for line in &recording.lines {
        match line {
            Line::ReadFailed => judged.failed_reads += 1,
            Line::Ready { .. } => judged.processes += 1,
            Line::Struck { fault, .. } => *judged.faults.entry(*fault).or_default() += 1,
            _ => {}
        }
    }
    judged
}

/// The longest that near served a value after it was superseded.
fn stalest(near: &History) -> Duration {
    let late = |bound: u64| bounded(near, Duration::from_millis(bound)).is_empty();
    let (mut below, mut above) = (0, 60_000);
    while below < above {
        let middle = (below + above) / 2;
        if late(middle) { above = middle } else { below = middle + 1 }
    }
    Duration::from_millis(above)
}

fn history(recording: &Recording) -> History {
    let stack = recording.plan.stack;
    let truth = if stack.has_store() { Truth::Store } else { Truth::Origin };
    let mut history = History { truth, tiers: usize::from(stack.has_redis()), ..History::default() };
    let mut ends = HashMap::new();
    for line in &recording.lines {
        match line {
            Line::Read(read) => history.reads.push(*read),
            Line::Wrote { process, id, ret, end, confirmed, .. } => {
                ends.insert((*process, *id), (*ret, *end, *confirmed));
            }
            Line::WentBack { at } => history.facts.push((*at, Fact::WentBack)),
            _ => {}
        }
    }
    for line in &recording.lines {
        let Line::Writes { process, id, key, call, wish } = *line else { continue };
        let ended = ends.get(&(process, id));
        let ret = ended.map(|(ret, end, _)| (*ret, *end));
        history.writes.push(Write { process, key, call, ret, wish });
        if let Wish::Create(value) = wish {
            history.offered.push(value);
        } else if let Some((ret, End::Done, true)) = ended {
            let put = wish.value().is_some();
            let confirmed = |tier| (*ret, Fact::Confirmed { tier, process, key, put });
            history.facts.extend((0..history.tiers).map(confirmed));
        }
    }
    history.reads.sort_by_key(|read| read.ret);
    history.writes.sort_by_key(|write| write.ret.map_or(At(u64::MAX), |(ret, _)| ret));
    history.facts.sort_by_key(|(at, _)| *at);
    history.changes = changes(recording, &history);
    history
}

/// The changes of the truth, in their order, each between two moments: the trigger's, before the
/// commit, and the first at which somebody knew of it.
fn changes(recording: &Recording, history: &History) -> Vec<Change> {
    let told = recording.lines.iter().find_map(|line| match line {
        Line::Told { at } => Some(*at),
        _ => None,
    });
    let known = known(recording, history);
    let mut removals = removals(history);
    let mut keys: BTreeMap<Key, Vec<Change>> = BTreeMap::new();
    for line in &recording.lines {
        let Line::Changed { key, since, value, by, .. } = *line else { continue };
        let at = match value {
            Some(value) => known.get(&value).copied(),
            None => removals.entry((by, key)).or_default().acknowledged(since),
        };
        let at = at.or(told).unwrap_or(At(u64::MAX));
        keys.entry(key).or_default().push(Change { key, since, at, value });
    }
    for changes in keys.values_mut() {
        // Whoever knew of a later change would have found the earlier ones made.
        let mut earliest = At(u64::MAX);
        for change in changes.iter_mut().rev() {
            earliest = earliest.min(change.at);
            change.at = earliest;
        }
        let mut latest = At(0);
        for change in changes {
            latest = latest.max(change.since);
            change.since = latest.min(change.at);
        }
    }
    keys.into_values().flatten().collect()
}

/// By value, when somebody first knew that it was true: who wrote it, or who read it.
fn known(recording: &Recording, history: &History) -> HashMap<u64, At> {
    let stored = history.truth == Truth::Store;
    let read = history.reads.iter().filter_map(|read| Some((read.value?, read.ret)));
    let written = history.writes.iter().filter_map(|write| match (write.wish, write.ret?) {
        // A loader's value is given also where a remove came first, and it was not created.
        (Wish::Create(_), _) => None,
        (wish, (ret, End::Done)) if stored => Some((wish.value()?, ret)),
        _ => None,
    });
    let acknowledged = recording.lines.iter().filter_map(|line| match line {
        Line::Stored { value, ret } => Some((*value, *ret)),
        _ => None,
    });
    let mut known: HashMap<u64, At> = HashMap::new();
    for (value, at) in read.chain(written).chain(acknowledged) {
        known.entry(value).and_modify(|first| *first = at.min(*first)).or_insert(at);
    }
    known
}

/// The acknowledged removals of one process and key, from call to return.
#[derive(Default)]
struct Removals(Vec<(At, At)>);

/// How far a trigger's time may be off, in nanoseconds.
const OFF: u64 = 3_000_000;

impl Removals {
    /// When the removal that a trigger saw was acknowledged, where it was: of those that were under
    /// way then the one that returned first. It need not be that very one: changes of a row come
    /// one after the other, so that whoever returns later found this one made.
    fn acknowledged(&mut self, since: At) -> Option<At> {
        let under_way = |(call, ret): &(At, At)| {
            (call.0.saturating_sub(OFF)..=ret.0.saturating_add(OFF)).contains(&since.0)
        };
        let removals = self.0.iter().enumerate().filter(|(_, removal)| under_way(removal));
        let place = removals.min_by_key(|(_, (_, ret))| *ret)?.0;
        Some(self.0.remove(place).1)
    }
}

fn removals(history: &History) -> HashMap<(Process, Key), Removals> {
    let mut removals: HashMap<(Process, Key), Removals> = HashMap::new();
    for write in &history.writes {
        // `Partial`: the store has it, a cache tier does not say.
        if let (Wish::Remove, Some(key), Some((ret, End::Done | End::Partial))) =
            (write.wish, write.key, write.ret)
        {
            removals.entry((write.process, key)).or_default().0.push((write.call, ret));
        }
    }
    removals
}

/// Failed writes, not of unknown end, that happened all the same.
fn undone(history: &History) -> Vec<Violation> {
    let true_once: HashMap<u64, At> =
        history.changes.iter().filter_map(|change| Some((change.value?, change.since))).collect();
    let failed = history.writes.iter().filter_map(|write| {
        let (Some((_, End::Failed | End::Refused)), Some(value)) = (write.ret, write.wish.value()) else {
            return None;
        };
        // A load that got another's record may have created its own before.
        let may = matches!(write.wish, Wish::Create(_)) || history.truth == Truth::Origin;
        let at = true_once.get(&value).filter(|_| !may)?;
        let what =
            format!("process {} was told that {:?} did not happen, and it did", write.process, write.wish);
        Some(Violation { at: *at, key: write.key.unwrap_or_default(), what })
    });
    failed.collect()
}

/// Versions that do not grow, or are not what a put was told.
fn versions(recording: &Recording) -> Vec<Violation> {
    if !recording.plan.stack.has_store() {
        return Vec::new();
    }
    let (mut last, mut of_value) = (HashMap::new(), HashMap::new());
    let mut violations = Vec::new();
    for line in &recording.lines {
        let Line::Changed { key, since, value, version, .. } = *line else { continue };
        let before = last.insert(key, version).unwrap_or_default();
        if version <= before {
            let what = format!("version {version} of {value:?} came after {before}");
            violations.push(Violation { at: since, key, what });
        }
        value.map(|value| of_value.insert(value, version));
    }
    let mut values = HashMap::new();
    for line in &recording.lines {
        match *line {
            Line::Writes { process, id, key: Some(key), wish: Wish::Put(value), .. } => {
                values.insert((process, id), (key, value));
            }
            Line::Wrote { process, id, ret, version: Some(told), .. } => {
                let Some((key, value)) = values.get(&(process, id)) else { continue };
                if of_value.get(value).is_some_and(|version| *version != told) {
                    let what = format!("a put of {value} was told version {told}, and the store has another");
                    violations.push(Violation { at: ret, key: *key, what });
                }
            }
            _ => {}
        }
    }
    violations
}

/// What only the store can have answered, and all writes: a register a key.
fn of_the_store(recording: &Recording, history: &History) -> History {
    let own = |read: &&Read| matches!(read.from, From::Store | From::Loader) && !read.joined;
    let last = recording.lines.iter().filter_map(|line| match line {
        Line::Final(read) => Some(read),
        _ => None,
    });
    let reads = history.reads.iter().filter(own).chain(last).copied().collect();
    History { reads, facts: Vec::new(), ..history.clone() }
}

/// What happened to a key, line by line.
pub(crate) fn story(judged: &Judged, key: Key, around: At) -> Vec<String> {
    let history = &judged.history;
    let mut lines: Vec<(At, String)> = Vec::new();
    for change in history.changes.iter().filter(|change| change.key == key) {
        lines.push((
            change.at,
            format!("true at the latest: {:?}, not before {}", change.value, change.since),
        ));
    }
    for read in history.reads.iter().filter(|read| read.key == key) {
        let joined = if read.joined { ", joined" } else { "" };
        let what = format!("process {} read {:?} from {:?}{joined}", read.process, read.value, read.from);
        lines.push((read.ret, format!("{what}, called {}", read.call)));
    }
    for write in history.writes.iter().filter(|write| write.key.is_none_or(|of| of == key)) {
        let what = format!("process {} {:?}", write.process, write.wish);
        match write.ret {
            Some((ret, end)) => lines.push((ret, format!("{what}: {end:?}, called {}", write.call))),
            None => lines.push((write.call, format!("{what}: never returned"))),
        }
    }
    for (at, fact) in &history.facts {
        if matches!(fact, Fact::WentBack) {
            lines.push((*at, "Redis went back in time".to_owned()));
        }
    }
    lines.sort();
    let end = lines.partition_point(|(at, _)| *at <= around) + AFTER;
    let lines = &lines[..end.min(lines.len())];
    let lines = &lines[lines.len().saturating_sub(BEFORE + AFTER)..];
    lines.iter().map(|(at, line)| format!("{at}  {line}")).collect()
}

/// Lines of a story before and after what is wrong.
const BEFORE: usize = 40;
const AFTER: usize = 5;
