//! Turns on threads that start each turn together.

use std::{panic::resume_unwind, sync::Barrier, time::Instant};

use super::{
    effort::Effort,
    rounds::{Figures, order},
    side::Side,
};
use crate::Result;

/// Nanoseconds that an operation of a turn takes, in each round, on the slowest thread. `turn` gets the number
/// of the thread and of the turn, and returns how many operations it did.
pub fn nanoseconds<T: ?Sized + Send + Sync>(
    sides: &[Side<T>],
    threads: usize,
    effort: Effort,
    turn: impl Fn(&T, usize, usize) -> Result<usize> + Sync,
) -> Vec<Figures> {
    let barrier = Barrier::new(threads);
    let on_threads: Vec<Vec<Figures>> = std::thread::scope(|scope| {
        let (barrier, turn) = (&barrier, &turn);
        let run = move |thread| on_one_thread(sides, thread, effort, turn, barrier);
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        handles.into_iter().map(|handle| handle.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    (0..sides.len())
        .map(|side| -> Figures {
            let figures: Result<Vec<&Vec<f64>>, String> =
                on_threads.iter().map(|figures| figures[side].as_ref().map_err(String::clone)).collect();
            let figures = figures?;
            let slowest = |round: usize| figures.iter().map(|figures| figures[round]).fold(0.0, f64::max);
            Ok((0..effort.rounds).map(slowest).collect())
        })
        .collect()
}

fn on_one_thread<T: ?Sized>(
    sides: &[Side<T>],
    thread: usize,
    effort: Effort,
    turn: &impl Fn(&T, usize, usize) -> Result<usize>,
    barrier: &Barrier,
) -> Vec<Figures> {
    let start: fn(&Side<T>) -> Figures =
        |side| side.state.as_ref().map(|_| Vec::new()).map_err(String::clone);
    let mut figures: Vec<Figures> = sides.iter().map(start).collect();
    for round in 0..=effort.rounds {
        for at in order(sides.len(), round) {
            // All threads wait, also for a side that has failed on one of them.
            barrier.wait();
            let (Ok(turns), Ok(times)) = (&sides[at].state, &mut figures[at]) else { continue };
            let began = Instant::now();
            match turn(&**turns, thread, round) {
                // The first round warms caches and branch prediction.
                Ok(_) if round == 0 => {}
                Ok(done) => times.push(began.elapsed().as_nanos() as f64 / done as f64),
                Err(error) => figures[at] = Err(error.to_string()),
            }
        }
    }
    figures
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::Peer;

    #[test]
    fn a_turn_that_takes_longer_is_measured_as_longer() {
        static PEER: Peer = Peer { name: "a", package: "a", leaves_out: "b" };
        let side = |turns: u64| Side::new(&PEER, "x", Ok(Box::new(turns)));
        let spin = |turns: &u64, _, _| {
            std::hint::black_box((0..*turns).map(std::hint::black_box).sum::<u64>());
            Ok(1)
        };
        let sides = [side(400_000), side(40_000)];
        let figures = nanoseconds(&sides, 2, Effort { rounds: 6, quick: true }, spin);
        let [long, short] = figures.try_into().unwrap();
        let (long, short) = (long.unwrap(), short.unwrap());
        let longer = long.iter().zip(&short).filter(|(long, short)| **long > 2.0 * **short).count();
        assert!(longer >= 4, "{long:?} {short:?}");
    }
}
