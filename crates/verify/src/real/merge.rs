//! Makes one history of the lines of all processes.

use std::collections::{BTreeMap, HashMap};

use terrace_simulation::history::{
    At, Change, End, Fact, From, History, Key, Process, Read, Truth, Wish, Write,
};

use super::record::{Line, Recording};

/// The history that the checkers judge.
pub(super) fn history(recording: &Recording) -> History {
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
    history.facts.extend(obtained(recording));
    for line in &recording.lines {
        let Line::Writes { process, id, key, call, wish } = *line else { continue };
        let ended = ends.get(&(process, id));
        let ret = ended.map(|(ret, end, _)| (*ret, *end));
        history.writes.push(Write { process, key, call, ret, wish });
        if let Wish::Create(value) = wish {
            history.offered.push(value);
        } else if let Some((ret, End::Done, true)) = ended {
            let put = wish.value().is_some();
            let confirmed = |tier| (*ret, Fact::Confirmed { tier, process, key, put, covers: None });
            history.facts.extend((0..history.tiers).map(confirmed));
        }
    }
    history.reads.sort_by_key(|read| read.ret);
    history.writes.sort_by_key(|write| write.ret.map_or(At(u64::MAX), |(ret, _)| ret));
    history.facts.sort_by_key(|(at, _)| *at);
    history.changes = changes(recording, &history);
    history
}

/// When values were obtained from the truth, from which their copies live: during a call that got or
/// wrote the value. A process that was killed may have obtained any value without a record of it, since
/// its callers began their last calls.
fn obtained(recording: &Recording) -> Vec<(At, Fact)> {
    let (mut begun, mut writing) = (HashMap::new(), HashMap::new());
    let mut facts = Vec::new();
    for line in &recording.lines {
        let (value, since, at) = match *line {
            Line::Begins { process, caller, at } => {
                begun.insert((process, caller), at);
                continue;
            }
            Line::Writes { process, id, call, wish, .. } => {
                writing.insert((process, id), (wish.value(), call));
                continue;
            }
            Line::Wrote { process, id, ret, .. } => match writing.get(&(process, id)) {
                Some((Some(value), call)) => (Some(*value), *call, ret),
                _ => continue,
            },
            Line::Read(Read { value: Some(value), from: From::Store | From::Loader, call, ret, .. }) => {
                (Some(value), call, ret)
            }
            Line::Died { process, at } => {
                let callers = begun.iter().filter(|((of, _), _)| *of == process);
                (None, callers.map(|(_, since)| *since).min().unwrap_or(at), at)
            }
            _ => continue,
        };
        facts.push((at, Fact::ObtainedSince { value, since }));
    }
    facts
}

/// The changes of the truth, in their order, each between two moments: the moment of the trigger, which
/// is before the commit, and the first moment at which some process knew of the change.
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
        // A process that knew of a later change would have found the earlier changes made.
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

/// By value, the moment at which a process first knew that it was true: its writer or a reader.
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
    /// When the removal that a trigger saw was acknowledged, if it was: the return of the first removal
    /// that was under way then. It may be another removal than the trigger's: changes of a row come one
    /// after the other, so that a removal that returns later has found this one made.
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
