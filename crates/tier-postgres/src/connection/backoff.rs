//! The pause between attempts to connect while a server cannot be reached.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use terrace_tier::{Error, Result};

const FIRST: Duration = Duration::from_millis(10);
/// A server that is back is found within this time.
const LONGEST: Duration = Duration::from_millis(500);

/// Lets any number of attempts through while they succeed. After a failure it lets one through after each pause,
/// and answers all other callers with the error of the last attempt.
#[derive(Default)]
pub(crate) struct Backoff(Mutex<State>);

#[derive(Default)]
struct State {
    failures: u32,
    /// The error of the last attempt, and the time before which no other one begins.
    last: Option<(Error, Instant)>,
    /// An attempt has begun since the last failure.
    begun: bool,
}

impl Backoff {
    /// Begins an attempt.
    ///
    /// # Errors
    /// The error of the last attempt, where it is too soon for another one.
    pub(crate) fn begin(&self) -> Result<()> {
        let mut state = self.0.lock();
        let pause = pause(state.failures);
        match &mut state.last {
            Some((why, not_before)) if Instant::now() < *not_before => Err(why.clone()),
            Some((_, not_before)) => {
                // Also while this attempt hangs: the name may lead to another server by then.
                *not_before = Instant::now() + pause;
                state.begun = true;
                Ok(())
            }
            None => Ok(()),
        }
    }

    pub(crate) fn succeeded(&self) {
        *self.0.lock() = State::default();
    }

    pub(crate) fn failed(&self, why: &Error) {
        let mut state = self.0.lock();
        // The first failure may come from several attempts that began together. After it there is one in a pause.
        let counts = state.last.is_none() || state.begun;
        state.begun = false;
        if counts {
            state.failures = state.failures.saturating_add(1);
            let not_before = Instant::now() + pause(state.failures);
            state.last = Some((why.clone(), not_before));
        }
    }
}

/// The pause after so many failures. Half of it is random, so that processes do not connect together.
fn pause(failures: u32) -> Duration {
    let longest = FIRST.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(LONGEST);
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use terrace_tier::ErrorKind;

    use super::*;

    /// The attempts of callers that try all the time while each attempt fails at once.
    fn attempts_within(time: Duration, backoff: &Backoff) -> u32 {
        let (began, mut attempts) = (Instant::now(), 0);
        while began.elapsed() < time {
            if backoff.begin().is_ok() {
                attempts += 1;
                backoff.failed(&Error::new(ErrorKind::Unavailable, "refused"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        attempts
    }

    #[test]
    fn attempts_become_rare_while_they_fail_and_are_free_again_after_a_success() {
        let backoff = Backoff::default();
        let attempts = attempts_within(Duration::from_millis(1_500), &backoff);
        assert!((6..=14).contains(&attempts), "{attempts}");
        let why = backoff.begin();
        assert!(why.is_ok() || why.is_err_and(|why| why.kind() == ErrorKind::Unavailable));
        backoff.succeeded();
        assert!((0..100).all(|_| backoff.begin().is_ok()));
    }

    #[test]
    fn failures_that_began_together_count_once() {
        let backoff = Backoff::default();
        (0..8).for_each(|_| assert!(backoff.begin().is_ok()));
        (0..8).for_each(|_| backoff.failed(&Error::new(ErrorKind::Unavailable, "refused")));
        assert_eq!(backoff.0.lock().failures, 1);
    }

    #[test]
    fn an_attempt_that_hangs_does_not_keep_others_from_the_server() {
        let backoff = Backoff::default();
        for _ in 0..10 {
            backoff.0.lock().failures += 1;
        }
        backoff.failed(&Error::new(ErrorKind::Unavailable, "refused"));
        let mut begun = 0;
        let began = Instant::now();
        while began.elapsed() < Duration::from_millis(1_600) {
            begun += u32::from(backoff.begin().is_ok());
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!((2..=6).contains(&begun), "{begun} attempts, of which none has ended");
    }
}
