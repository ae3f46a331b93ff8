//! One seed, and why it fails.

use terrace_conformance::{
    history::{At, Fact, History, Key},
    simulation::{Plan, shrink, simulate},
};

/// Replays a seed; one that fails is shrunk and told. Whether it is good.
pub(crate) fn replay(seed: u64) -> bool {
    let plan = Plan::of_seed(seed);
    let fails = |plan: &Plan| simulate(plan).map_or(true, |run| !run.violations.is_empty());
    if !fails(&plan) {
        println!("seed {seed}, {}: no violation", plan.stack);
        return true;
    }
    let small = shrink(&plan, fails);
    println!("{}, {} processes, {} keys, {} ms", small.stack, small.processes, small.keys, small.length);
    println!("{:?}, {:?}", small.stack, small.weather);
    small.steps.iter().for_each(|step| println!("  {step:?}"));
    small.faults.iter().for_each(|fault| println!("  {fault:?}"));
    match simulate(&small) {
        Ok(run) => {
            if let Some(first) = run.violations.first() {
                println!("\nwhat happens to key {}:", first.key);
                tell(&run.history, first.key);
            }
            run.violations.iter().for_each(|violation| println!("VIOLATION {violation}"));
        }
        Err(error) => println!("VIOLATION {error}"),
    }
    false
}

fn tell(history: &History, key: Key) {
    let mut lines: Vec<(At, String)> = Vec::new();
    for change in history.changes.iter().filter(|change| change.key == key) {
        lines.push((change.at, format!("true from now on: {:?}", change.value)));
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
            Fact::WentBack | Fact::Renewed { .. } => None,
            Fact::Obtained { .. } | Fact::Followed { .. } | Fact::Gap { .. } => continue,
        };
        if of.is_none_or(|of| of == key) {
            lines.push((*at, format!("{fact:?}")));
        }
    }
    lines.sort();
    lines.iter().for_each(|(at, line)| println!("  {at}  {line}"));
}
