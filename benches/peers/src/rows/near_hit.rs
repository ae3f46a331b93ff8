//! `near-hit`: reads of keys that are all in the process.

use tokio::runtime::Handle;

use super::{blocking, near_sides};
use crate::{
    Result,
    data::{KEYS, key},
    measure::{effort::Effort, rounds::Figures, threads::nanoseconds},
    report::table::{Cell, Table, digits},
    work::near::NearSide,
};

/// How many reads a turn has: less than a time slice of the scheduler.
const TURN: usize = 2_000;

/// How many rounds there are for each round of rows with longer turns.
const ROUNDS: usize = 20;

/// How many threads read and end before the last two columns.
const SHORT_LIVED: usize = 100;

/// Measures the row.
pub(super) async fn run(effort: Effort) -> Result<Table> {
    blocking(move |runtime| Ok(measure(effort, &runtime))).await
}

fn measure(effort: Effort, runtime: &Handle) -> Table {
    let mut sides = runtime.block_on(near_sides(2 * KEYS));
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    for side in &mut sides {
        let filled = side.state.as_ref().map_or(Ok(()), |cache| cache.fill(runtime));
        if let Err(error) = filled {
            side.state = Err(error.to_string());
        }
    }
    let title = "Reads of one of 10,000 keys of 16 bytes, all of which are in the process; values have 200 bytes. \
                 Nanoseconds a read on the slowest thread, less is better.";
    let mut table = Table::new("near-hit", title, &sides);
    let effort = Effort { rounds: effort.rounds * ROUNDS, ..effort };
    let time = |threads: usize| -> Vec<Figures> {
        nanoseconds(&sides, threads, effort, |cache, thread, round| {
            cache.hits(runtime, &keys, thread * 4_001 + round * 17, TURN)
        })
    };
    table.paired("1 thread, ns", &sides, &time(1));
    table.paired("2 threads, ns", &sides, &time(2));
    let allocations = sides.iter().map(|side| Cell::plain(allocations(side, runtime, &keys))).collect();
    table.cells("allocations a read", allocations);
    short_lived_threads(&sides, runtime, &keys);
    table.paired("1 thread after 100 others, ns", &sides, &time(1));
    table.paired("2 threads after 100 others, ns", &sides, &time(2));
    table
}

/// Allocations a read on the reading thread.
fn allocations(side: &NearSide, runtime: &Handle, keys: &[String]) -> Result<String, String> {
    let cache = side.state.as_ref().map_err(String::clone)?;
    let mut read = Ok(0);
    let counted = allocation_counter::measure(|| read = cache.hits(runtime, keys, 0, KEYS));
    let read = read.map_err(|error| error.to_string())?;
    Ok(digits(counted.count_total as f64 / read as f64))
}

/// Lets threads read that end at once, one after the other: what a cache keeps for a thread can run out.
fn short_lived_threads(sides: &[NearSide], runtime: &Handle, keys: &[String]) {
    for thread in 0..SHORT_LIVED {
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for cache in sides.iter().filter_map(|side| side.state.as_ref().ok()) {
                    // A missing key shows in the figures that follow.
                    let _read = cache.hits(runtime, keys, thread, 10);
                }
            });
        });
    }
}
