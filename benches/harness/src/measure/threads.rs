//! Turns of synchronous work on threads that start each turn together.

use std::{
    panic::resume_unwind,
    pin::pin,
    sync::Barrier,
    task::{Context, Poll, Waker},
    thread::ScopedJoinHandle,
    time::Instant,
};

use super::row::Round;

/// The orders of the sides. Each side is first, second and third equally often, and follows each of
/// the other sides equally often, since a side leaves caches and connections in a state that affects
/// the next one.
pub(crate) const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [2, 1, 0], [1, 0, 2], [1, 2, 0], [2, 0, 1]];

/// Work that is measured: does the operations of a turn, from the number of its first operation on.
pub type Turn<'a> = &'a (dyn Fn(usize) + Sync);

/// Nanoseconds that an operation takes, in each round, on the slowest thread. The sides are ours, raw
/// and the control.
#[must_use]
pub fn rounds(threads: usize, rounds: usize, turn_len: usize, sides: [Turn<'_>; 3]) -> Vec<Round> {
    let barrier = Barrier::new(threads);
    let times = std::thread::scope(|scope| {
        let barrier = &barrier;
        let work = move |thread| on_one_thread(thread, rounds, turn_len, sides, barrier);
        let handles: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        let join =
            |handle: ScopedJoinHandle<'_, _>| handle.join().unwrap_or_else(|panic| resume_unwind(panic));
        handles.into_iter().map(join).collect::<Vec<_>>()
    });
    (0..rounds)
        .map(|round| {
            let slowest = |side: usize| times.iter().map(|times| times[round][side]).fold(0.0, f64::max);
            Round { ours: slowest(0), raw: slowest(1), control: slowest(2) }
        })
        .collect()
}

fn on_one_thread(
    thread: usize,
    rounds: usize,
    turn_len: usize,
    sides: [Turn<'_>; 3],
    barrier: &Barrier,
) -> Vec<[f64; 3]> {
    let start = thread * 4_001;
    // One turn that is not measured warms caches and branch prediction for all three sides.
    sides.iter().for_each(|turn| turn(start));
    let mut times = Vec::with_capacity(rounds);
    for round in 0..rounds {
        let mut spent = [0.0; 3];
        for side in ORDERS[round % ORDERS.len()] {
            barrier.wait();
            let began = Instant::now();
            sides[side](start + round * 17);
            spent[side] = began.elapsed().as_nanos() as f64 / turn_len as f64;
        }
        times.push(spent);
    }
    times
}

/// The result of a future that is ready at once, as a near hit is, without a runtime.
///
/// The future is polled in place, as `.await` does. Passing it to a function would first move it
/// through memory.
#[inline(always)]
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => unreachable!("a near hit waits for nothing"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_side_comes_after_each_other_equally_often_and_never_after_itself() {
        let turns: Vec<usize> = ORDERS.into_iter().flatten().collect();
        for (before, after) in [(0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 1)] {
            let follows = |at: &usize| (turns[*at], turns[(at + 1) % turns.len()]) == (before, after);
            assert_eq!((0..turns.len()).filter(follows).count(), 3, "{after} after {before}");
        }
    }

    #[test]
    fn a_turn_that_takes_longer_is_measured_as_longer() {
        let spin = |turns: u64| {
            std::hint::black_box((0..turns).map(std::hint::black_box).sum::<u64>());
        };
        let (long, short) = (|_| spin(400_000), |_| spin(40_000));
        let rounds = rounds(2, 6, 1, [&long, &short, &short]);
        assert_eq!(rounds.len(), 6);
        let longer = rounds.iter().filter(|round| round.ours > 2.0 * round.raw).count();
        assert!(longer >= 4, "{rounds:?}");
    }
}
