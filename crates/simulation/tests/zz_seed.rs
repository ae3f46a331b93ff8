//! x
#![cfg(terrace_simulation)]
#![allow(missing_docs)]
use std::hash::{DefaultHasher, Hash, Hasher};
use terrace_simulation::{Plan, shrink, simulate};
use terrace_tier::defence::{Defence, without};
#[test]
fn seeds() {
    for seed in [796053908000331, 796053908000634] {
        let plan = Plan::of_seed(seed);
        let off = |plan: &Plan| without(Defence::RefreshLoads, || simulate(plan)).unwrap();
        println!("seed {seed} on: {:?}", simulate(&plan).unwrap().violations);
        println!("seed {seed} off: {:?}", off(&plan).violations);
        if off(&plan).violations.is_empty() {
            continue;
        }
        let small = shrink(&plan, |plan| !off(plan).violations.is_empty());
        println!(
            "{:?} {:?} keys {} procs {} len {}",
            small.stack, small.weather, small.keys, small.processes, small.length
        );
        small.steps.iter().for_each(|step| println!("  {step:?}"));
        small.faults.iter().for_each(|step| println!("  {step:?}"));
        let run = off(&small);
        println!("{:?}", run.violations);
        println!("{:#?}", run.history.reads);
        println!("{:?}", run.history.changes);
        println!("{:?}", run.history.facts);
    }
}
#[test]
fn baseline() {
    for seed in 0..120 {
        let run = simulate(&Plan::of_seed(seed)).unwrap();
        let mut h = DefaultHasher::new();
        format!("{:?}{:?}{:?}", run.history, run.counts, run.violations).hash(&mut h);
        println!("{seed} {:x}", h.finish());
    }
}
