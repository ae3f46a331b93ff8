//! A time to live: a copy is served no longer than that after a process obtained the value.

use std::{collections::HashMap, time::Duration};

use super::{At, Fact, History, Key, Read, Violation};

/// Checks every read against `life`: its value was obtained from the truth at most this long before the
/// call, or `expire` gave the key's copies another end. No value is read under another key. A read that
/// is marked stale may be older by `stale`.
pub fn lives(history: &History, life: Duration, stale: Duration) -> Vec<Violation> {
    let facts = Facts::of(history);
    let nanos = |life: Duration| u64::try_from(life.as_nanos()).unwrap_or(u64::MAX);
    let judge = |read: &Read| {
        let value = read.value?;
        if facts.owners.get(&value).is_some_and(|owner| *owner != read.key) {
            let what = format!("{value} was served by process {}, and is another key's", read.process);
            return Some(Violation { at: read.call, key: read.key, what });
        }
        let life = if read.stale { life.saturating_add(stale) } else { life };
        let end = facts.obtained_before(value, read.ret).map(|at| At(at.0.saturating_add(nanos(life))));
        if end.is_some_and(|end| end >= read.call) || facts.has_extended(read) {
            return None;
        }
        let what = match end {
            Some(end) => {
                format!("process {} served {value} after the end of its life, {end}", read.process)
            }
            None => format!("{value} was served by process {}, and nobody had obtained it", read.process),
        };
        Some(Violation { at: read.call, key: read.key, what })
    };
    history.reads.iter().filter_map(judge).collect()
}

/// The first and the last moment at which a value may have been obtained.
#[derive(Default)]
struct Spans(Vec<(At, At)>);

impl Spans {
    /// Sorted by the first moment, each with the latest last moment so far.
    fn sorted(mut self) -> Self {
        self.0.sort_unstable();
        let mut last = At::default();
        for (_, end) in &mut self.0 {
            last = last.max(*end);
            *end = last;
        }
        self
    }

    fn last_before(&self, at: At) -> Option<At> {
        let before = self.0.partition_point(|(since, _)| *since <= at);
        before.checked_sub(1).map(|last| self.0[last].1)
    }
}

struct Facts {
    /// The key of each value that was ever true.
    owners: HashMap<u64, Key>,
    of_value: HashMap<u64, Spans>,
    of_any: Spans,
    extended: HashMap<Key, Vec<(At, At)>>,
}

impl Facts {
    fn of(history: &History) -> Self {
        let (mut of_value, mut of_any) = (HashMap::<u64, Spans>::new(), Spans::default());
        let mut extended: HashMap<Key, Vec<(At, At)>> = HashMap::new();
        for (at, fact) in &history.facts {
            match *fact {
                Fact::Obtained { value } => of_value.entry(value).or_default().0.push((*at, *at)),
                Fact::ObtainedSince { value: Some(value), since } => {
                    of_value.entry(value).or_default().0.push((since, *at));
                }
                Fact::ObtainedSince { value: None, since } => of_any.0.push((since, *at)),
                Fact::Extended { key, until } => extended.entry(key).or_default().push((*at, until)),
                _ => {}
            }
        }
        let of_value = of_value.into_iter().map(|(value, spans)| (value, spans.sorted())).collect();
        let owners = history.changes.iter().filter_map(|change| Some((change.value?, change.key))).collect();
        Self { owners, of_value, of_any: of_any.sorted(), extended }
    }

    /// The last moment at which a value that is read until `ret` may have been obtained.
    fn obtained_before(&self, value: u64, ret: At) -> Option<At> {
        let own = self.of_value.get(&value).and_then(|spans| spans.last_before(ret));
        own.max(self.of_any.last_before(ret))
    }

    fn has_extended(&self, read: &Read) -> bool {
        let extended = self.extended.get(&read.key).map_or(&[][..], Vec::as_slice);
        extended.iter().any(|(at, until)| *at <= read.ret && *until >= read.call)
    }
}
