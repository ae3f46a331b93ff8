//! A time to live: copies are served no longer than it since somebody obtained the value.

use std::{collections::HashMap, time::Duration};

use super::{At, Fact, History, Key, Violation};

/// Holds every fresh read to `life`: its value was obtained from the truth at most so long before
/// the call, or the key was given another life by `expire`.
pub fn lives(history: &History, life: Duration) -> Vec<Violation> {
    let life = u64::try_from(life.as_nanos()).unwrap_or(u64::MAX);
    let mut obtained: HashMap<u64, Vec<At>> = HashMap::new();
    let mut extended: HashMap<Key, Vec<(At, At)>> = HashMap::new();
    for (at, fact) in &history.facts {
        match fact {
            Fact::Obtained { value } => obtained.entry(*value).or_default().push(*at),
            Fact::Extended { key, until } => extended.entry(*key).or_default().push((*at, *until)),
            _ => {}
        }
    }
    let mut violations = Vec::new();
    for read in history.reads.iter().filter(|read| !read.is_excused()) {
        let Some(value) = read.value else { continue };
        let times = obtained.get(&value).map_or(&[][..], Vec::as_slice);
        let before = times.partition_point(|at| *at <= read.ret);
        let end = before.checked_sub(1).map(|last| times[last].0.saturating_add(life));
        let excused = || {
            let extended = extended.get(&read.key).map_or(&[][..], Vec::as_slice);
            extended.iter().any(|(at, until)| *at <= read.ret && *until >= read.call)
        };
        if end.is_none_or(|end| end < read.call.0) && !excused() {
            let what = match end {
                Some(end) => {
                    format!("served by process {} after the end of its life, {}", read.process, At(end))
                }
                None => format!("served by process {}, and nobody had obtained it", read.process),
            };
            violations.push(Violation { at: read.call, key: read.key, what: format!("{value} was {what}") });
        }
    }
    violations
}
