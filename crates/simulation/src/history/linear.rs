//! Linearizability: each key is one register.

use std::collections::{HashMap, HashSet};

use super::{At, End, From, History, Key, Newness, Read, Value, Violation, Wish, timeline::Timeline};

/// Operations of one key that may be open at the same time, writes of unknown end included.
const MOST_OPEN: usize = 128;

/// Explanations of a key's history that are followed at the same time.
const MOST_WAYS: usize = 1_000_000;

/// The result of [`linear`].
#[derive(Clone, Debug, Default)]
pub struct Linear {
    /// Operations that no order explains.
    pub violations: Vec<Violation>,
    /// How many keys there were to judge.
    pub keys: usize,
    /// Keys that were not decided: their absence from the violations proves nothing.
    pub undecided: Vec<Key>,
}

/// Checks that the reads and writes of each key are linearizable: each took effect at one moment between
/// its call and its return, and every answer fits that order. A write whose end is not known may take
/// effect at any moment after its call, or never; where the history has the changes of the truth, they
/// say whether it did and until when. A loader's value that no store kept counts as a read of an absence:
/// it is given only then. Reads that asked for less than the truth are left out.
///
/// Follows all explanations through the history, event by event, as in Lowe, Testing for
/// Linearizability, Concurrency and Computation 29(4), 2017 (just-in-time linearization).
///
/// Keys with more than 128 operations open at the same time or a million explanations are not decided.
pub fn linear(history: &History) -> Linear {
    let timeline = Timeline::of(history);
    let mut keys: HashMap<Key, Vec<Op>> = HashMap::new();
    let asks = |read: &&Read| matches!(read.asked, Newness::Built | Newness::Truth);
    for read in history.reads.iter().filter(asks) {
        let kept = |value| history.changes.is_empty() || timeline.first_number(read.key, value).is_some();
        // A value that no store kept says that nothing was there; a read that joined the load may be later.
        let value = match read.value {
            Some(value) if read.from == From::Loader && !kept(value) && read.joined => continue,
            Some(value) if read.from == From::Loader && !kept(value) => None,
            value => value,
        };
        let op = Op { call: read.call, ret: Some(read.ret), act: Act::Read(value) };
        keys.entry(read.key).or_default().push(op);
    }
    for write in &history.writes {
        let (Some(key), Some(mut op)) = (write.key, Op::of_write(write)) else { continue };
        if let (None, Some(value), false) = (op.ret, write.wish.value(), history.changes.is_empty()) {
            let Some(number) = timeline.first_number(key, value) else { continue };
            op.ret = Some(timeline.settled(key, number));
        }
        keys.entry(key).or_default().push(op);
    }
    let mut keys: Vec<(Key, Vec<Op>)> = keys.into_iter().collect();
    keys.sort_by_key(|(key, _)| *key);
    let mut linear = Linear { keys: keys.len(), ..Linear::default() };
    for (key, ops) in keys {
        match explain(&ops) {
            Verdict::Linear => {}
            Verdict::Undecided => linear.undecided.push(key),
            Verdict::Broken(op) => {
                let what = format!("no order of the operations explains {:?} of {}", op.act, op.call);
                linear.violations.push(Violation { at: op.ret.unwrap_or(op.call), key, what });
            }
        }
    }
    linear
}

#[derive(Clone, Copy, Debug)]
struct Op {
    call: At,
    ret: Option<At>,
    act: Act,
}

#[derive(Clone, Copy, Debug)]
enum Act {
    Read(Value),
    /// A write, and whether its condition held, where that is known.
    Write(Wish, Option<bool>),
}

impl Op {
    fn of_write(write: &super::Write) -> Option<Self> {
        let (ret, held) = match write.ret {
            // The loader's value is also given where a removal came first and no record was created.
            Some((_, End::Done)) if matches!(write.wish, Wish::Create(_)) => (None, None),
            Some((ret, End::Done)) => (Some(ret), Some(true)),
            // The store has removed the record; a tier did not confirm that it dropped its copy.
            Some((ret, End::Partial)) if write.wish == Wish::Remove => (Some(ret), Some(true)),
            Some((ret, End::Refused)) => (Some(ret), Some(false)),
            Some((_, End::Failed)) => return None,
            // It may take effect even later.
            Some((_, End::Unknown | End::Partial)) | None => (None, None),
        };
        let drops = matches!(write.wish, Wish::Invalidate);
        (!drops).then_some(Self { call: write.call, ret, act: Act::Write(write.wish, held) })
    }
}

impl Act {
    /// The register afterwards; `None` where the answer does not fit.
    fn apply(self, now: Value) -> Option<Value> {
        let (wish, held) = match self {
            Self::Read(value) => return (value == now).then_some(now),
            Self::Write(wish, held) => (wish, held),
        };
        let (holds, then) = match wish {
            Wish::Put(value) => (true, Some(value)),
            Wish::PutIfAbsent(value) | Wish::Create(value) => (now.is_none(), Some(value)),
            Wish::Replace(seen, value) => (now == Some(seen), Some(value)),
            Wish::Remove | Wish::Invalidate => (true, None),
        };
        let fits = held.is_none_or(|held| held == holds);
        fits.then_some(if holds { then } else { now })
    }
}

enum Verdict {
    Linear,
    Broken(Op),
    Undecided,
}

/// One explanation so far: the register, and which of the open operations have taken effect.
type Way = (Value, u128);

fn explain(ops: &[Op]) -> Verdict {
    let calls = ops.iter().enumerate().map(|(at, op)| (op.call, 0, at));
    let returns = ops.iter().enumerate().filter_map(|(at, op)| Some((op.ret?, 1, at)));
    let mut events: Vec<(At, u8, usize)> = calls.chain(returns).collect();
    events.sort_unstable();
    let mut open: [Option<usize>; MOST_OPEN] = [None; MOST_OPEN];
    let mut ways: HashSet<Way> = HashSet::from([(None, 0)]);
    for (_, returns, at) in events {
        if returns == 0 {
            let Some(free) = open.iter().position(Option::is_none) else { return Verdict::Undecided };
            open[free] = Some(at);
            continue;
        }
        let Some(slot) = open.iter().position(|op| *op == Some(at)) else { continue };
        let Some(after) = effects(ops, &open, ways, slot) else { return Verdict::Undecided };
        ways = without_waste(ops, &open, after);
        open[slot] = None;
        if ways.is_empty() {
            return Verdict::Broken(ops[at]);
        }
    }
    Verdict::Linear
}

/// The ways in which the operation of `slot`, which returns now, has taken effect.
fn effects(
    ops: &[Op],
    open: &[Option<usize>; MOST_OPEN],
    ways: HashSet<Way>,
    slot: usize,
) -> Option<HashSet<Way>> {
    let bit = |slot: usize| 1_u128 << slot;
    let reads: Vec<(u128, Value)> = open
        .iter()
        .enumerate()
        .filter_map(|(at, op)| match ops[(*op)?].act {
            Act::Read(value) => Some((bit(at), value)),
            Act::Write(..) => None,
        })
        .collect();
    // A read that fits takes effect now: it changes nothing, and later the answer may not fit.
    let read = |(now, taken): Way| {
        let fitting = reads.iter().filter(|(_, value)| *value == now);
        (now, fitting.fold(taken, |taken, (bit, _)| taken | bit))
    };
    let ways: HashSet<Way> = ways.into_iter().map(read).collect();
    let removals = endless_removals(ops, open);
    let mut done = HashSet::new();
    let mut seen = ways.clone();
    let mut left: Vec<Way> = ways.into_iter().collect();
    while let Some((value, taken)) = left.pop() {
        if taken & bit(slot) != 0 {
            done.insert((value, taken & !bit(slot)));
            continue;
        }
        let next = removals.iter().copied().find(|removal| taken & removal == 0);
        for (at, op) in open.iter().enumerate() {
            let Some(op) = op.filter(|_| taken & bit(at) == 0) else { continue };
            let Some(after) = ops[op].act.apply(value) else { continue };
            // An operation that may be left out is tried where it changes the register, and once for equals.
            let is_next = next == Some(bit(at)) || !removals.contains(&bit(at));
            if ops[op].ret.is_none() && (after == value || !is_next) {
                continue;
            }
            let way = read((after, taken | bit(at)));
            if seen.insert(way) {
                left.push(way);
            }
        }
        if seen.len() > MOST_WAYS {
            return None;
        }
    }
    Some(done)
}

/// The removals that may take effect at any time, each as the bit of its slot; all are equal.
fn endless_removals(ops: &[Op], open: &[Option<usize>; MOST_OPEN]) -> Vec<u128> {
    let is_removal = |op: &Op| op.ret.is_none() && matches!(op.act, Act::Write(Wish::Remove, _));
    let slots = open.iter().enumerate().filter(|(_, op)| op.is_some_and(|op| is_removal(&ops[op])));
    slots.map(|(at, _)| 1 << at).collect()
}

/// Leaves out an explanation that differs from another only by more effects of writes without an end:
/// the other one can still do the same, and need not. For removals without an end, which may all take
/// effect at any time, only the number of those that did counts.
fn without_waste(ops: &[Op], open: &[Option<usize>; MOST_OPEN], ways: HashSet<Way>) -> HashSet<Way> {
    let endless = |(at, op): (usize, &Option<usize>)| {
        op.is_some_and(|op| ops[op].ret.is_none()).then_some(1_u128 << at)
    };
    let endless: u128 = open.iter().enumerate().filter_map(endless).sum();
    if endless == 0 {
        return ways;
    }
    let removals = endless_removals(ops, open);
    let all: u128 = removals.iter().sum();
    let alike = |(value, taken): Way| {
        let came = (taken & all).count_ones() as usize;
        (value, taken & !all | removals[..came].iter().sum::<u128>())
    };
    let mut least: HashMap<Way, Vec<u128>> = HashMap::new();
    let mut ways: Vec<Way> = ways.into_iter().map(alike).collect();
    ways.sort_unstable_by_key(|(_, taken)| (taken & endless).count_ones());
    for (value, taken) in ways {
        let kept = least.entry((value, taken & !endless)).or_default();
        if !kept.iter().any(|less| less & !taken == 0) {
            kept.push(taken);
        }
    }
    least
        .into_iter()
        .flat_map(|((value, _), taken)| taken.into_iter().map(move |taken| (value, taken)))
        .collect()
}
