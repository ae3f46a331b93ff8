//! Power losses at every call of random programs.

use std::thread;

use super::program::{Program, Violation};
use crate::{Call, LossyDirectory};

const CRASH_POINTS: u64 = 10_000;
const THREADS: u64 = 4;

/// Runs a program whose power fails at the call `crash_at`, and once more later on. Gives the number of calls.
fn run(seed: u64, crash_at: u64, left_out: Option<Call>) -> Result<u64, Violation> {
    let directory = LossyDirectory::new(seed ^ (crash_at << 20));
    left_out.into_iter().for_each(|sync| directory.leave_out(sync));
    directory.lose_power_at(crash_at);
    let mut program = Program::new(directory, seed);
    program.open()?;
    program.steps(25)?;
    let calls = program.directory.calls();
    program.lose_power()?;
    program.directory.lose_power_at(1 + crash_at % 25);
    program.steps(6)?;
    program.lose_power()?;
    Ok(calls)
}

/// Crashes the programs of these seeds at each of their calls until there were as many crash points.
fn crash_each(
    seeds: impl Iterator<Item = u64>,
    points: u64,
    left_out: Option<Call>,
) -> Result<(), Violation> {
    let mut done = 0;
    for seed in seeds {
        let calls = run(seed, u64::MAX, left_out)?;
        for crash_at in 1..=calls {
            if done == points {
                return Ok(());
            }
            run(seed, crash_at, left_out)
                .map_err(|wrong| format!("program {seed}, power lost at call {crash_at}: {wrong}"))?;
            done += 1;
        }
    }
    Ok(())
}

fn crash(left_out: Option<Call>) -> Result<(), Violation> {
    thread::scope(|scope| {
        let threads = (0..THREADS).map(|first| {
            let seeds = (first..).step_by(THREADS as usize);
            scope.spawn(move || crash_each(seeds, CRASH_POINTS / THREADS, left_out))
        });
        let threads: Vec<_> = threads.collect();
        threads.into_iter().try_for_each(|thread| thread.join().unwrap())
    })
}

#[test]
fn no_acknowledged_write_is_lost_and_none_comes_back_at_10_000_crash_points() {
    assert_eq!(crash(None), Ok(()));
}

#[test]
fn the_same_test_fails_without_the_sync_of_data() {
    let violation = crash(Some(Call::SyncData)).expect_err("a lost write");
    println!("{violation}");
}

#[test]
fn the_same_test_fails_without_the_sync_of_the_directory() {
    let violation = crash(Some(Call::Sync)).expect_err("a lost write");
    println!("{violation}");
}
