//! Replays one seed, and shows why it fails.

use terrace_simulation::{Plan, shrink, simulate};

use crate::story::story;

/// Replays a seed; where it fails, shrinks its plan and prints the story. Returns whether there is no
/// violation.
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
                story(&run.history, first.key).iter().for_each(|(at, line)| println!("  {at}  {line}"));
            }
            run.violations.iter().for_each(|violation| println!("VIOLATION {violation}"));
        }
        Err(error) => println!("VIOLATION {error}"),
    }
    false
}
