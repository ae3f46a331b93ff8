//! What a recording is checked for. This makes a history of it, and the checkers of
//! `terrace_simulation::history` judge the history.
//!
//! | promise of docs/consistency.md | checked | while |
//! |---|---|---|
//! | `Fenced` 1 to 3, truth of reads | by `fenced` | always; a Redis that went back in time voids what began before |
//! | `Bounded` | by `bounded`, on every read | always |
//! | `Strong` | by `linear`, on every read | always |
//! | records are linearizable, nothing acknowledged is lost | by `linear`, on writes and reads of the store; by `fenced` | always |
//! | a failed write that is not `Unknown` did not happen; versions grow | here | always |
//! | lives: no copy is served later than its time to live after it was obtained | by `lives`, on every read | always: deadlines travel with the copies, whatever becomes of a server |
//! | near trusts a log for one second after the last heartbeat | by `bounded`, on near reads | the log is Postgres' own: what Redis' log may lag behind the truth is not promised |

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use terrace_simulation::history::{
    At, End, From, History, Linear, Read, Truth, Violation, Wish, bounded, fenced, linear, lives,
};
use terrace_tier::Clock;

use super::{
    merge::history,
    plan::{BOUND, Demand, Fault, Stack},
    record::{Line, Recording},
};
use crate::decided::Decided;

/// The result of a round.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    pub(crate) violations: Vec<Violation>,
    /// What the checker of linearizability decided; `None` where there are no records.
    pub(crate) decided: Option<Decided>,
    pub(crate) reads: u64,
    pub(crate) near: u64,
    pub(crate) failed_reads: u64,
    pub(crate) writes: u64,
    pub(crate) processes: u64,
    pub(crate) faults: BTreeMap<Fault, u64>,
    /// The longest time that near served a value after it was superseded.
    pub(crate) stalest: Duration,
    pub(crate) history: History,
}

/// How long near trusts a copy that no log proves.
const DISTRUST: Duration = Duration::from_secs(1);

/// Clocks count in milliseconds.
const GRAIN: Duration = Duration::from_millis(2);

/// How late a copy may be served after the end of its life: as late as the clock that caches read may
/// lag. Near subtracts that from each life; a copy in Redis is compared with the clock as it stands.
///
/// Nothing else is allowed. A deadline is decided between the call and the return of the caller that
/// obtains the value, and compared between the call and the return of the caller that reads it, so that
/// a stop of a process in between excuses nothing; and all clocks of a recording are of one host.
fn lag() -> Duration {
    Clock::system().granularity()
}

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
    let life = Duration::from_millis(recording.plan.life) + lag();
    judged.violations.extend(lives(&history, life, Duration::ZERO));
    judged.violations.extend(undone(&history));
    judged.violations.extend(versions(recording));
    if recording.plan.demand == Demand::Bounded {
        judged.violations.extend(bounded(&answers(&history), BOUND + GRAIN));
    }
    if stack == Stack::NearStore {
        judged.violations.extend(bounded(&near, DISTRUST + GRAIN));
    }
    if stack.has_store() {
        let Linear { violations, keys, undecided } = linear(&of_the_store(recording, &history));
        judged.violations.extend(violations);
        judged.decided = Some(Decided::new(keys, undecided.len()));
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

/// The reads whose answers say something of the truth: a cache without a store may forget an absence.
fn answers(history: &History) -> History {
    let says = |read: &&Read| read.value.is_some() || history.truth == Truth::Store;
    let reads = history.reads.iter().filter(says).copied().collect();
    History { reads, changes: history.changes.clone(), truth: history.truth, ..History::default() }
}

/// The longest time that near served a value after it was superseded.
fn stalest(near: &History) -> Duration {
    let late = |bound: u64| bounded(near, Duration::from_millis(bound)).is_empty();
    let (mut below, mut above) = (0, 60_000);
    while below < above {
        let middle = (below + above) / 2;
        if late(middle) { above = middle } else { below = middle + 1 }
    }
    Duration::from_millis(above)
}

/// Writes that failed with a certain error and happened all the same.
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

/// Versions that do not grow, or that differ from the version that a put returned.
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

/// The reads that only the store can have answered (at level `Strong` all reads) and all writes: one
/// register a key.
fn of_the_store(recording: &Recording, history: &History) -> History {
    let strong = recording.plan.demand == Demand::Strong;
    let own = |read: &&Read| strong || (matches!(read.from, From::Store | From::Loader) && !read.joined);
    let last = recording.lines.iter().filter_map(|line| match line {
        Line::Final(read) => Some(read),
        _ => None,
    });
    let reads = history.reads.iter().filter(own).chain(last).copied().collect();
    History { reads, facts: Vec::new(), ..history.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::real::plan::Plan;

    const MS: u64 = 1_000_000;

    fn recording(lines: Vec<Line>) -> Recording {
        Recording { plan: Plan { stack: Stack::RedisStore, ..Plan::of_seed(0) }, lines }
    }

    /// Process 1 writes key 1 from one millisecond to another.
    fn write(id: u64, wish: Wish, call: u64, ret: u64, end: End) -> [Line; 2] {
        let (process, version) = (1, None);
        [
            Line::Writes { process, id, key: Some(1), call: At(call * MS), wish },
            Line::Wrote { process, id, ret: At(ret * MS), end, confirmed: true, version },
        ]
    }

    fn changed(since: u64, value: Option<u64>) -> Line {
        Line::Changed { key: 1, since: At(since * MS), value, version: since, by: 1 }
    }

    /// Process 1 reads key 1 in the store.
    fn read_of(value: Option<u64>) -> Line {
        Line::Read(Read::plain(1, 1, (At(50 * MS), At(51 * MS)), value, From::Store))
    }

    fn told() -> Line {
        Line::Told { at: At(1_000 * MS) }
    }

    fn violations(lines: Vec<Line>) -> Vec<String> {
        judge(&recording(lines)).violations.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_acknowledged_record_that_the_truth_does_not_have_is_lost() {
        let put = write(7, Wish::Put(7), 10, 20, End::Done);
        let [writes, wrote] = put;
        assert!(violations(vec![writes.clone(), wrote.clone(), changed(15, Some(7)), told()]).is_empty());
        let lost = violations(vec![writes.clone(), wrote, told()]);
        assert!(lost.iter().any(|what| what.contains("did not happen")), "{lost:?}");
        assert!(violations(vec![writes, told()]).is_empty(), "nobody was told of it");
    }

    #[test]
    fn a_write_that_failed_must_not_have_happened_unless_that_is_unknown() {
        for (end, good) in [(End::Failed, false), (End::Refused, false), (End::Unknown, true)] {
            let [writes, wrote] = write(7, Wish::PutIfAbsent(7), 10, 20, end);
            let found = violations(vec![writes, wrote, changed(15, Some(7)), told()]);
            assert_eq!(found.is_empty(), good, "{end:?}: {found:?}");
        }
    }

    #[test]
    fn removals_that_overlap_each_have_their_change() {
        let (long, short) =
            (write(1, Wish::Remove, 10, 100, End::Done), write(2, Wish::Remove, 20, 40, End::Done));
        let changes = [changed(30, None), changed(90, None), told()];
        let lines: Vec<Line> = long.into_iter().chain(short).chain(changes).collect();
        assert_eq!(violations(lines.clone()), Vec::<String>::new());
        let history = judge(&recording(lines)).history;
        assert_eq!(history.changes.iter().map(|change| change.at.millis()).collect::<Vec<_>>(), [40, 100]);
    }

    #[test]
    fn a_key_with_too_many_open_writes_is_not_called_good() {
        let open = (0..=128).flat_map(|id| write(id, Wish::Remove, 10 + id, 1_000, End::Unknown));
        let read = read_of(None);
        let decided = |lines| judge(&recording(lines)).decided;
        assert_eq!(decided(open.chain([read.clone()]).collect()), Some(Decided::new(1, 1)));
        assert_eq!(decided(vec![read]), Some(Decided::new(1, 0)));
    }

    /// A round whose copies live 100 ms: 7 is written by 20 ms, and process 2 reads it from `from`.
    fn served(from: From, call: u64, ret: u64, more: &[Line]) -> Vec<String> {
        let [writes, wrote] = write(7, Wish::Put(7), 10, 20, End::Done);
        let read = Line::Read(Read::plain(2, 1, (At(call * MS), At(ret * MS)), Some(7), from));
        let lines = [writes, wrote, changed(15, Some(7))]
            .into_iter()
            .chain(more.iter().cloned())
            .chain([read, told()]);
        let mut recording = recording(lines.collect());
        recording.plan.life = 100;
        judge(&recording).violations.iter().map(ToString::to_string).collect()
    }

    /// The last millisecond at which what was obtained at `at` may be served in such a round.
    fn last_of(at: u64) -> u64 {
        at + 100 + u64::try_from(lag().as_millis()).unwrap()
    }

    #[test]
    fn a_copy_that_lives_too_long_is_found() {
        let end = last_of(20);
        for from in [From::Near, From::Tier] {
            assert_eq!(served(from, end, end + 1, &[]), Vec::<String>::new(), "the clock may lag");
            assert_eq!(served(from, end - 1, 900, &[]), Vec::<String>::new(), "a process may be stopped");
            let found = served(from, end + 1, end + 2, &[]);
            assert!(found.iter().any(|what| what.contains("after the end of its life")), "{found:?}");
        }
        assert_eq!(served(From::Store, end + 1, end + 2, &[]), Vec::<String>::new(), "a record has no end");
    }

    #[test]
    fn a_copy_lives_on_from_whoever_obtained_it_last() {
        let store =
            |call, ret| Line::Read(Read::plain(3, 1, (At(call * MS), At(ret * MS)), Some(7), From::Store));
        let end = last_of(51);
        assert_eq!(served(From::Tier, end, end + 1, &[store(50, 51)]), Vec::<String>::new());
        assert_eq!(served(From::Tier, end + 1, end + 2, &[store(50, 51)]).len(), 1);
        // The process was stopped after it had filled the tier, and reports that later.
        assert_eq!(served(From::Tier, 300, 301, &[store(250, 900)]), Vec::<String>::new());
        let begins = |at| Line::Begins { process: 3, caller: 0, at: At(at * MS) };
        let died = Line::Died { process: 3, at: At(260 * MS) };
        assert_eq!(served(From::Tier, 300, 301, &[begins(255), died.clone()]), Vec::<String>::new());
        assert_eq!(
            served(From::Tier, 252, 253, &[begins(255), died.clone()]).len(),
            1,
            "it was at something else"
        );
        let end = last_of(260);
        let for_ever = served(From::Tier, end + 1, end + 2, &[begins(255), died]);
        assert_eq!(for_ever.len(), 1, "nor does it last for ever");
    }

    #[test]
    fn a_version_that_does_not_grow_is_found() {
        let Line::Changed { key, since, value, by, .. } = changed(30, Some(8)) else { return };
        let again = Line::Changed { key, since, value, version: 20, by };
        let found = violations(vec![changed(20, Some(7)), again, told()]);
        assert!(found.iter().any(|what| what.contains("came after")), "{found:?}");
    }

    #[test]
    fn a_read_of_what_was_superseded_is_found() {
        let [first, first_done] = write(7, Wish::Put(7), 10, 20, End::Done);
        let [second, second_done] = write(8, Wish::Put(8), 30, 40, End::Done);
        let Line::Read(read) = read_of(Some(7)) else { return };
        let read = Read { from: From::Tier, ..read };
        let changes = [changed(15, Some(7)), changed(35, Some(8)), told()];
        let lines = [first, first_done, second, second_done].into_iter().chain(changes);
        let lines: Vec<Line> = lines.chain([Line::Read(read)]).collect();
        assert_eq!(violations(lines.clone()).len(), 1);
        // A read of another process: every tier had confirmed the change.
        let mut others = lines.clone();
        others.pop();
        others.push(Line::Read(Read { process: 2, ..read }));
        assert_eq!(violations(others.clone()).len(), 1);
        others.push(Line::WentBack { at: At(45 * MS) });
        assert_eq!(violations(others).len(), 0, "a Redis that went back owes it no more");
    }
}
