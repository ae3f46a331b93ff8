//! The deadlines of many calls over one timer of their runtime.
//!
//! A timer of tokio that ends before all others of its runtime wakes the thread that waits for events, by a system
//! call. A timer for each call of a server costs that for each call, although it hardly ever fires. Here one task
//! of the runtime sleeps until the first deadline that it knew when it last looked. A call whose deadline is later
//! only adds an entry, and a call that ends in time only takes it away.

use std::{
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, LazyLock},
    task::{Poll, Waker},
};

use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, timeout_at},
};

use super::PerRuntime;
use crate::Result;

/// One queue for each runtime that lives.
static QUEUES: LazyLock<PerRuntime<Queue>> = LazyLock::new(PerRuntime::default);

/// The result of `work`, or `None` where it has not ended at `deadline`.
///
/// # Errors
/// [`ErrorKind::Config`](crate::ErrorKind::Config) outside of a tokio runtime with timers.
///
/// # Cost
/// Where the work is not ready when it is first polled, that of a [`Timer`].
///
/// ```
/// use std::{future::pending, time::Duration};
/// use terrace_tier::runtime::within;
/// use tokio::time::Instant;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> terrace_tier::Result<()> {
/// let soon = Instant::now() + Duration::from_millis(20);
/// assert_eq!(within(soon, async { 1 }).await?, Some(1));
/// assert_eq!(within(soon, pending::<u8>()).await?, None);
/// # Ok(())
/// # }
/// ```
pub async fn within<F: Future>(deadline: Instant, work: F) -> Result<Option<F::Output>> {
    let (mut work, mut timer) = (pin!(work), None::<Timer>);
    poll_fn(|context| {
        if let Poll::Ready(output) = work.as_mut().poll(context) {
            return Poll::Ready(Ok(Some(output)));
        }
        match &timer {
            Some(timer) if timer.has_rung(context.waker()) => return Poll::Ready(Ok(None)),
            Some(_) => {}
            None => match Timer::start(deadline, context.waker()) {
                Ok(started) => timer = Some(started),
                Err(error) => return Poll::Ready(Err(error)),
            },
        }
        Poll::Pending
    })
    .await
}

/// Wakes a task at a deadline, unless it is dropped before.
pub struct Timer {
    queue: Arc<Queue>,
    place: usize,
}

impl Timer {
    /// A timer in the caller's runtime that wakes `waker` at `deadline`, up to a millisecond or two later.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) outside of a tokio runtime with timers.
    ///
    /// # Cost
    /// One short lock, and another one when it is dropped. Where no timer ran in the runtime, also a task and the memory
    /// for the list.
    ///
    /// ```
    /// use std::{task::Waker, time::Duration};
    /// use terrace_tier::runtime::Timer;
    /// use tokio::time::Instant;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> terrace_tier::Result<()> {
    /// let timer = Timer::start(Instant::now() + Duration::from_millis(20), Waker::noop())?;
    /// // What it was for has ended in time, so it wakes nobody.
    /// drop(timer);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start(deadline: Instant, waker: &Waker) -> Result<Self> {
        let queue = QUEUES.get(Queue::default)?;
        let place = queue.add(deadline, waker);
        Ok(Self { queue, place })
    }

    /// Whether the deadline has passed. If not, `waker` is woken then, in place of the one before.
    fn has_rung(&self, waker: &Waker) -> bool {
        let mut new = waker.clone();
        let mut entries = self.queue.entries.lock();
        let Place::Pending { waker, .. } = &mut entries.places[self.place] else { return true };
        std::mem::swap(waker, &mut new);
        // The drop of a waker may drop another timer.
        drop(entries);
        false
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        let mut entries = self.queue.entries.lock();
        let before = std::mem::replace(&mut entries.places[self.place], Place::Free);
        entries.free.push(self.place);
        drop(entries);
        // The drop of a waker may drop another timer.
        drop(before);
    }
}

/// The timers of one runtime.
#[derive(Default)]
struct Queue {
    entries: Mutex<Entries>,
    /// A deadline is before the time at which the task wakes.
    earlier: Notify,
}

#[derive(Default)]
struct Entries {
    places: Vec<Place>,
    free: Vec<usize>,
    /// When the task looks next; `None` where no task runs.
    next_look: Option<Instant>,
}

enum Place {
    Free,
    Pending { deadline: Instant, waker: Waker },
    Rung,
}

impl Queue {
    fn add(self: &Arc<Self>, deadline: Instant, waker: &Waker) -> usize {
        let new = Place::Pending { deadline, waker: waker.clone() };
        let mut entries = self.entries.lock();
        let place = match entries.free.pop() {
            Some(place) => {
                entries.places[place] = new;
                place
            }
            None => {
                entries.places.push(new);
                entries.places.len() - 1
            }
        };
        let next_look = entries.next_look;
        if next_look.is_none_or(|next| deadline < next) {
            entries.next_look = Some(deadline);
        }
        drop(entries);
        match next_look {
            None => drop(tokio::spawn(Arc::clone(self).run(deadline))),
            Some(next) if deadline < next => self.earlier.notify_one(),
            Some(_) => {}
        }
        place
    }

    /// Wakes tasks at their deadlines until no timer is left.
    async fn run(self: Arc<Self>, first: Instant) {
        let mut next = first;
        loop {
            // Either end leads to a look at all timers.
            let _earlier = timeout_at(next, self.earlier.notified()).await;
            let (rung, left) = self.look();
            rung.into_iter().for_each(Waker::wake);
            match left {
                Some(deadline) => next = deadline,
                None => return,
            }
        }
    }

    /// Takes the wakers whose deadline has passed. The task ends under the same lock if no timer is left.
    fn look(&self) -> (Vec<Waker>, Option<Instant>) {
        let (now, mut rung, mut left) = (Instant::now(), Vec::new(), None::<Instant>);
        let mut entries = self.entries.lock();
        for place in &mut entries.places {
            let Place::Pending { deadline, .. } = place else { continue };
            if *deadline > now {
                left = Some(left.map_or(*deadline, |left| left.min(*deadline)));
            } else if let Place::Pending { waker, .. } = std::mem::replace(place, Place::Rung) {
                rung.push(waker);
            }
        }
        entries.next_look = left;
        if entries.free.len() == entries.places.len() {
            // Gives the memory back: as many timers as ever ran at a time may not come again.
            *entries = Entries::default();
        }
        (rung, left)
    }
}

impl fmt::Debug for Timer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timer").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, task::Wake, time::Duration};

    use futures_util::future::join_all;
    use tokio::{task::yield_now, time::sleep};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn places() -> usize {
        QUEUES.get(Queue::default).unwrap().entries.lock().places.len()
    }

    #[tokio::test(start_paused = true)]
    async fn work_that_ends_in_time_gives_its_result_and_late_work_none() {
        let began = Instant::now();
        assert_eq!(within(began + 50 * MS, async { 1 }).await.unwrap(), Some(1));
        assert_eq!(within(began + 50 * MS, sleep(20 * MS)).await.unwrap(), Some(()));
        assert_eq!(began.elapsed(), 20 * MS);
        assert_eq!(within(began + 50 * MS, pending::<()>()).await.unwrap(), None);
        assert_eq!(began.elapsed(), 50 * MS);
        assert_eq!(within(began, pending::<()>()).await.unwrap(), None, "the deadline has passed before");
    }

    #[tokio::test(start_paused = true)]
    async fn each_of_many_calls_ends_at_its_own_deadline_in_any_order() {
        let began = Instant::now();
        let ends = [70, 10, 40, 90, 10, 30].map(|end| async move {
            assert_eq!(within(began + end * MS, pending::<()>()).await.unwrap(), None);
            assert_eq!(began.elapsed(), end * MS);
        });
        join_all(ends).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_is_used_again_and_without_timers_memory_and_task_end() {
        for _ in 0..1_000 {
            assert_eq!(within(Instant::now() + 50 * MS, yield_now()).await.unwrap(), Some(()));
        }
        assert_eq!(places(), 1);
        sleep(100 * MS).await;
        assert_eq!(QUEUES.get(Queue::default).unwrap().entries.lock().next_look, None);
        assert_eq!(
            tokio::runtime::Handle::current().metrics().num_alive_tasks(),
            1,
            "the runtime's own entry"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_waker_is_woken() {
        let began = Instant::now();
        let mut work = Box::pin(within(began + 50 * MS, pending::<()>()));
        assert!(futures_util::poll!(&mut work).is_pending());
        let task = tokio::spawn(work);
        assert_eq!(task.await.unwrap().unwrap(), None);
        assert_eq!(began.elapsed(), 50 * MS);
    }

    /// A waker that holds a timer, as the waker of a task does whose future holds one.
    struct Holder {
        _timer: Timer,
    }

    impl Wake for Holder {
        fn wake(self: Arc<Self>) {}
    }

    #[tokio::test(start_paused = true)]
    async fn the_drop_of_a_waker_may_drop_another_timer() {
        let later = Instant::now() + 50 * MS;
        let holder = || Waker::from(Arc::new(Holder { _timer: Timer::start(later, Waker::noop()).unwrap() }));
        drop(Timer::start(later, &holder()).unwrap());
        let renewed = Timer::start(later, &holder()).unwrap();
        assert!(!renewed.has_rung(Waker::noop()));
        let _rings = Timer::start(Instant::now() + MS, &holder()).unwrap();
        sleep(10 * MS).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn timers_of_several_threads_ring_and_end() {
        let callers = (0..8).map(|caller| async move {
            for round in 0..50 {
                let deadline = Instant::now() + MS * ((caller + round) % 3);
                let rings = within(deadline, pending::<()>()).await.unwrap();
                let ends = within(deadline + 5_000 * MS, yield_now()).await.unwrap();
                assert_eq!((rings, ends), (None, Some(())));
            }
        });
        for caller in join_all(callers.map(tokio::spawn)).await {
            caller.unwrap();
        }
    }

    #[test]
    fn a_timer_outside_of_a_runtime_is_a_config_error() {
        let error = Timer::start(Instant::now(), Waker::noop()).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Config);
    }
}
