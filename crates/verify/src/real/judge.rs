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
    At, End, From, History, Key, Read, Truth, Violation, Wish, bounded, fenced, linear,
};

use super::{
    merge::history,
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
