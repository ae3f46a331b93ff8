//! Whole caches in simulated processes: a few seconds of what `cargo xtask verify` runs longer.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use terrace_simulation::{Act, Plan, Trouble, shrink, simulate, switches};

#[test]
fn no_history_of_a_random_plan_breaks_a_promise() {
    for seed in 0..16 {
        let plan = Plan::of_seed(seed);
        let run = simulate(&plan).unwrap();
        assert!(run.violations.is_empty(), "seed {seed}, {}: {}", plan.stack, run.violations[0]);
    }
}

#[test]
fn a_plan_always_gives_the_same_history() {
    // Of near tiers, logs, relays, several tiers, leases that are waited for, and all levels.
    for seed in [1, 3, 10, 14, 33, 159, 197, 233] {
        let plan = Plan::of_seed(seed);
        let history = || format!("{:?}", simulate(&plan).unwrap().history);
        assert!(history() == history(), "seed {seed}");
    }
}

#[test]
fn random_plans_ask_for_everything_and_let_everything_go_wrong() {
    let (mut herds, mut leases) = (0, 0);
    let (mut acts, mut troubles) = (std::collections::HashSet::new(), std::collections::HashSet::new());
    for seed in 0..80 {
        let plan = Plan::of_seed(seed);
        herds += usize::from(plan.limits.loads.is_some());
        leases += usize::from(plan.stack.waits());
        acts.extend(plan.steps.iter().map(|step| std::mem::discriminant(&step.act)));
        troubles.extend(plan.faults.iter().map(|fault| std::mem::discriminant(&fault.what)));
    }
    assert_eq!((acts.len(), troubles.len()), (14, 14));
    assert!(herds > 2 && leases > 2 * herds, "{herds} herds of {leases} that wait");
}

#[test]
fn processes_wait_for_each_others_leases_and_hear_of_their_ends() {
    let (mut looks, mut announced) = (0, 0);
    for seed in (0..40).filter(|seed| Plan::of_seed(*seed).stack.waits()) {
        let counts = simulate(&Plan::of_seed(seed)).unwrap().counts;
        looks += counts.looks;
        announced += counts.announced;
    }
    assert!(looks > 0 && announced > 0, "{looks} looks, {announced} announcements");
}

#[test]
fn a_plan_shrinks_to_what_it_fails_by() {
    let puts = |plan: &Plan| plan.steps.iter().any(|step| matches!(step.act, Act::Put(_)));
    let evicts = |plan: &Plan| plan.faults.iter().any(|fault| matches!(fault.what, Trouble::Evict(..)));
    let fails = |plan: &Plan| puts(plan) && evicts(plan);
    let plan = (0..100).map(Plan::of_seed).find(fails).unwrap();
    let small = shrink(&plan, fails);
    assert_eq!((small.steps.len(), small.faults.len()), (1, 1));
}

#[test]
fn no_interleaving_of_a_switch_breaks_a_promise_while_its_defence_holds() {
    for switch in switches() {
        let run = switch.on().unwrap();
        assert!(run.violations.is_empty(), "{}: {}", switch.name, run.violations[0]);
    }
}
