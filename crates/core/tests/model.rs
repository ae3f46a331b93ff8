//! Whole caches, compared with a plain map in random programs on random stacks, in virtual time.
//! `terrace_conformance::machine` describes the programs.

use terrace_conformance::{
    Fake,
    machine::{Counterexample, Machine},
    suite::Subject,
};
use terrace_tier::{Clock, Role};
use terrace_tier_memory::{Memory, Quick};

async fn fake() -> Subject {
    let hand = Clock::manual();
    let fake = Fake::with_clock("fake", hand.clock());
    let evict = fake.clone();
    Subject::new(fake.clone())
        .second(fake.another_handle())
        .notified_within(Fake::CLEAR_LAG)
        .manual_clock(&hand)
        .evict(move |namespace, key| {
            evict.evict(&namespace.name, &key.bytes);
            Box::pin(async {})
        })
}

#[test]
fn a_cache_is_a_map_whatever_its_stack() -> Result<(), Counterexample> {
    let memory = || Machine::alone().near(|| Memory::entries(1_000));
    memory().cases(200).run(Role::Cache, fake)?;
    memory().cases(200).run(Role::Store, fake)
}

#[test]
fn caches_that_share_tiers_read_as_one_map() -> Result<(), Counterexample> {
    let memory = || Machine::together().near(|| Memory::entries(1_000));
    memory().cases(150).run(Role::Cache, fake)?;
    memory().cases(100).run(Role::Store, fake)
}

#[test]
fn a_near_tier_alone_is_a_map() -> Result<(), Counterexample> {
    Machine::alone().near(|| Memory::entries(1_000)).run_near()?;
    Machine::alone().near(|| Quick::entries(1_000)).run_near()
}
