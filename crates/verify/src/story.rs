//! What happened to a key, for a reader who looks for the cause of a violation.

use terrace_simulation::history::{At, Fact, History, Key};

/// Everything that a history says of a key, in the order of time.
pub(crate) fn story(history: &History, key: Key) -> Vec<(At, String)> {
    let mut lines: Vec<(At, String)> = Vec::new();
    for change in history.changes.iter().filter(|change| change.key == key) {
        let since =
            if change.since == change.at { String::new() } else { format!(", not before {}", change.since) };
        lines.push((change.at, format!("true from now on: {:?}{since}", change.value)));
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
        let of = match fact {
            Fact::Shown { key, .. } | Fact::Extended { key, .. } => Some(*key),
            Fact::Confirmed { key, .. } | Fact::Heard { key, .. } => *key,
            Fact::WentBack | Fact::Renewed { .. } | Fact::Gap { .. } => None,
            Fact::Obtained { .. } | Fact::ObtainedSince { .. } | Fact::Followed { .. } => continue,
        };
        if of.is_none_or(|of| of == key) {
            lines.push((*at, format!("{fact:?}")));
        }
    }
    lines.sort();
    lines
}
