//! `zipf`: 95 % gets and 5 % puts of keys with Zipf's distribution, in caches that hold a tenth of the keys.

use tokio::runtime::Handle;

use super::{blocking, near_sides};
use crate::{
    Result,
    data::key,
    measure::{effort::Effort, rounds::Figures, threads::nanoseconds},
    report::table::{Cell, Table},
    work::near::NearSide,
};

const KEYS: usize = 1_000_000;
const CAPACITY: usize = 100_000;
const EXPONENT: f64 = 0.99;

/// How many operations a turn has.
const TURN: usize = 10_000;

/// Measures the row.
pub(super) async fn run(effort: Effort) -> Result<Table> {
    blocking(move |runtime| Ok(measure(effort, &runtime))).await
}

fn measure(effort: Effort, runtime: &Handle) -> Table {
    let mut sides = runtime.block_on(near_sides(CAPACITY));
    let keys: Vec<String> = (0..KEYS).map(key).collect();
    let draws = draws(effort.scaled(2_000_000));
    for side in &mut sides {
        let warmed = side.state.as_ref().map_or(Ok(0), |cache| cache.mixed(runtime, &keys, &draws));
        if let Err(error) = warmed {
            side.state = Err(error.to_string());
        }
    }
    let title = "95 % gets, each of which puts what it misses, and 5 % puts. One million keys with Zipf's \
                 distribution (0.99), in caches of 100,000 entries in the process. Millions of operations a \
                 second on one thread and on two, more is better.";
    let mut table = Table::new("zipf", title, &sides);
    for threads in [1, 2] {
        let effort = Effort { rounds: effort.rounds * 2, ..effort };
        let figures = nanoseconds(&sides, threads, effort, |cache, thread, round| {
            // Each turn has its own part of the draws, the same for all sides.
            let turn = (round * threads + thread) * TURN % (draws.len() - TURN);
            cache.mixed(runtime, &keys, &draws[turn..turn + TURN]).map(|_| TURN)
        });
        let millions = |times: Vec<f64>| times.iter().map(|time| threads as f64 * 1e3 / time).collect();
        let figures: Vec<Figures> = figures.into_iter().map(|times| times.map(millions)).collect();
        table.paired(format!("on {threads}, M/s"), &sides, &figures);
    }
    // The share of hits needs more operations than the timed turns have.
    let share = |side: &NearSide| -> Result<String, String> {
        let cache = side.state.as_ref().map_err(String::clone)?;
        let hits = cache.mixed(runtime, &keys, &draws).map_err(|error| error.to_string())?;
        let gets = draws.len() - draws.len().div_ceil(20);
        Ok(format!("{:.1}", 100.0 * hits as f64 / gets as f64))
    };
    table.cells("hits, %", sides.iter().map(|side| Cell::plain(share(side))).collect());
    table
}

/// Keys with Zipf's distribution, by the method of Gray et al., 'Quickly generating billion-record synthetic
/// databases' (1994). The same in each run.
fn draws(count: usize) -> Vec<u32> {
    let zeta = |n: usize| (1..=n).map(|rank| (rank as f64).powf(-EXPONENT)).sum::<f64>();
    let (all, two) = (zeta(KEYS), zeta(2));
    let alpha = 1.0 / (1.0 - EXPONENT);
    let eta = (1.0 - (2.0 / KEYS as f64).powf(1.0 - EXPONENT)) / (1.0 - two / all);
    let mut random = fastrand::Rng::with_seed(1);
    let mut draw = || {
        let uniform = random.f64();
        let scaled = uniform * all;
        if scaled < 1.0 {
            0
        } else if scaled < two {
            1
        } else {
            let rank = KEYS as f64 * (eta * uniform - eta + 1.0).powf(alpha);
            (rank as u32).min(KEYS as u32 - 1)
        }
    };
    (0..count).map(|_| draw()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_tenth_of_the_keys_has_about_five_sixths_of_the_draws() {
        let draws = draws(100_000);
        let first = draws.iter().filter(|draw| (**draw as usize) < CAPACITY).count();
        assert!((82_000..86_000).contains(&first), "{first}");
    }
}
