//! A cache counts what it does. Counting adds a few nanoseconds to a near hit.

use std::{
    cell::Cell,
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
    time::Duration,
};

use crate::{Latencies, Role};

/// The counters of one tier.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStats {
    /// The tier's name.
    pub name: String,
    /// The number of reads that the tier answered.
    pub hits: u64,
    /// The number of reads for which the tier had no fresh entry. A read that failed counts as an error.
    pub misses: u64,
    /// The number of values that the tier took as copies.
    pub fills: u64,
    /// The number of fills that the tier refused, because another write or fill of the key came first.
    pub fills_refused: u64,
    /// The number of operations of the tier that failed.
    pub errors: u64,
    /// The number of reads among the operations that failed.
    pub read_errors: u64,
    /// The number of copies within their life that reads passed over, because nothing proved the copies
    /// as new as the level demands.
    pub unproven: u64,
    /// The number of stored values whose bytes could not be read.
    pub undecodable: u64,
    /// Whether the tier is lost at the moment.
    pub lost: bool,
    /// The role of a remote tier, or `None` for the near tier.
    pub role: Option<Role>,
    /// The number of keys and clears that the tier did not confirm yet, and for which reads go past it.
    pub pending_invalidations: u64,
    /// The times of the calls that read and were answered. A batch is one call.
    pub reads: Latencies,
    /// The times of the calls that wrote and were answered.
    pub writes: Latencies,
    /// The times of the calls that failed.
    pub failures: Latencies,
}

/// What a cache has done since it was built, for all its tenants together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// The counters of the near tier, then of the remote tiers from near to far, then of the store.
    pub tiers: Vec<TierStats>,
    /// The number of loaders that were run.
    pub loads: u64,
    /// The number of loaders that failed or panicked.
    pub load_errors: u64,
    /// The times of the loads that gave values.
    pub load_times: Latencies,
    /// The times of the loads that failed or panicked.
    pub failed_load_times: Latencies,
    /// The number of loads that were not started, because too many loads were under way.
    pub loads_refused: u64,
    /// The number of stale values that were served because a load took longer than the soft timeout.
    pub soft_timeouts: u64,
    /// The number of callers that shared another caller's lookup or load.
    pub coalesced: u64,
    /// The number of loads that waited for a load of another process.
    pub waits: u64,
    /// The number of answers that were stale entries.
    pub stale_served: u64,
    /// The number of values that were put. Puts that failed or were refused do not count.
    pub puts: u64,
    /// The number of loaded values that could not be encoded, and that no shared tier keeps.
    pub unencodable: u64,
    /// The number of keys that were invalidated or removed, and namespaces that were cleared, once every tier
    /// had confirmed it.
    pub drops: u64,
    /// The number of fills that were skipped, because too many fills were under way.
    pub fills_skipped: u64,
    /// The approximate number of entries in the near tier. An entry counts until some five seconds after the end
    /// of its life, and longer in a near tier of more than a hundred thousand entries.
    pub near_entries: u64,
    /// The weight of the near tier's entries in the engine's unit: a count of entries, or bytes.
    pub near_weight: u64,
    /// The number of keys with a lookup or a load under way.
    pub flights: usize,
    /// The number of loads under way that [`Builder::max_loads`](crate::Builder::max_loads) counts.
    pub loads_under_way: usize,
    /// The number of loads that wait for other loads to end.
    pub loads_waiting: usize,
    /// The number of keys whose last load or renewal failed, as far as the cache remembers them.
    pub keys_in_backoff: usize,
    /// The time since the log that covers near copies reported everything. It is `None` in a cache that follows
    /// no log, before the first report, and while no read needs the log.
    pub log_age: Option<Duration>,
    /// The number of gaps of the log, after which near copies were dropped.
    pub log_gaps: u64,
    /// The time since the relay of this process has carried all changes into the cache tiers. It is `None` where
    /// another process does that, and where there is nothing to carry.
    pub relay_age: Option<Duration>,
    /// The number of times that the write-behind front of this process was opened.
    pub front_openings: u64,
    /// The number of times that another write-behind front replaced the one of this process.
    pub front_losses: u64,
    /// The number of dirty writes that took the place of one that was not flushed.
    pub writes_coalesced: u64,
    /// The number of batches of dirty writes that the store has taken.
    pub flushes: u64,
    /// The number of writes in these batches.
    pub writes_flushed: u64,
    /// The time that these batches took, in microseconds.
    pub flush_micros: u64,
    /// The number of flushes that failed and were tried again.
    pub flush_retries: u64,
    /// The number of dirty writes that found a newer record in the store.
    pub writes_gave_way: u64,
    /// The number of dirty writes that became dead letters.
    pub dead_letters: u64,
    /// The number of writes that found the backlog full.
    pub writes_blocked: u64,
    /// The time that these writes waited, in microseconds.
    pub blocked_micros: u64,
    /// The counters of each class of [`Builder::class_by`](crate::Builder::class_by).
    pub classes: Vec<ClassStats>,
}

/// The reads of the keys of one class. A read of many keys counts each key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClassStats {
    /// The name of the class.
    pub name: String,
    /// The number of reads that a tier answered with a value.
    pub hits: u64,
    /// The number of reads that a loader answered, that found no value, or that failed.
    pub misses: u64,
}

impl Stats {
    /// The counters of the tier of this name.
    pub fn tier(&self, name: &str) -> Option<&TierStats> {
        self.tiers.iter().find(|tier| tier.name == name)
    }

    /// The share of reads that any tier answered, from 0 to 1. The hit ratio is 0 before the first read.
    pub fn hit_ratio(&self) -> f64 {
        let hits: u64 = self.tiers.iter().map(|tier| tier.hits).sum();
        let misses = self.tiers.last().map_or(0, |farthest| farthest.misses);
        if hits + misses == 0 { 0.0 } else { hits as f64 / (hits + misses) as f64 }
    }
}

/// The number of threads that have a stripe of their own at a time. All other threads share one more stripe of
/// the counter.
const OWN_STRIPES: usize = 16;

/// A counter in stripes. A thread with a stripe of its own adds without a locked instruction. A locked
/// instruction would take as long as a fifth of a hit in the quickest engine.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    own: [Stripe; OWN_STRIPES],
    shared: Stripe,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Stripe(AtomicU64);

/// The stripes that threads have now, one bit each.
struct Pool(AtomicU32);

/// The stripes of all counters: a thread has the same stripe in each of them.
static POOL: Pool = Pool(AtomicU32::new(0));

thread_local! {
    /// The stripe of this thread, or [`OWN_STRIPES`] while it has none. It has no destructor, so a near hit reads
    /// it without a check.
    static STRIPE: Cell<usize> = const { Cell::new(OWN_STRIPES) };
    /// Gives the stripe back when the thread ends.
    static OWNER: Cell<Option<StripeOwner>> = const { Cell::new(None) };
}

/// A thread's right to a stripe.
struct StripeOwner(usize);

impl Pool {
    /// Takes a stripe that no thread has. What its last owner has counted is visible to the caller.
    fn take(&self) -> Option<usize> {
        let free = |taken: u32| taken.trailing_ones() as usize;
        let take = |taken| (free(taken) < OWN_STRIPES).then(|| taken | 1 << free(taken));
        self.0.fetch_update(Ordering::Acquire, Ordering::Relaxed, take).ok().map(free)
    }

    fn give_back(&self, stripe: usize) {
        self.0.fetch_and(!(1 << stripe), Ordering::Release);
    }
}

impl Drop for StripeOwner {
    fn drop(&mut self) {
        // What the thread still counts while it ends goes to the shared stripe.
        STRIPE.set(OWN_STRIPES);
        POOL.give_back(self.0);
    }
}

/// Gives this thread a stripe, if one is free.
fn take_stripe() -> bool {
    // A thread that ends has lost its owner, and gets no stripe any more.
    let taken = OWNER.try_with(|owner| {
        let stripe = POOL.take()?;
        owner.set(Some(StripeOwner(stripe)));
        STRIPE.set(stripe);
        Some(())
    });
    matches!(taken, Ok(Some(())))
}

impl Counter {
    #[inline]
    pub(crate) fn add(&self, number: u64) {
        match self.own.get(STRIPE.get()) {
            // No other thread writes this stripe, so no count is lost between load and store.
            Some(Stripe(count)) => {
                count.store(count.load(Ordering::Relaxed).wrapping_add(number), Ordering::Relaxed);
            }
            None => self.add_slow(number),
        }
    }

    #[cold]
    fn add_slow(&self, number: u64) {
        match take_stripe() {
            true => self.add(number),
            false => _ = self.shared.0.fetch_add(number, Ordering::Relaxed),
        }
    }

    pub(crate) fn sum(&self) -> u64 {
        let own: u64 = self.own.iter().map(|stripe| stripe.0.load(Ordering::Relaxed)).sum();
        own.wrapping_add(self.shared.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use parking_lot::Mutex;

    use super::*;

    /// Held by a test whose threads may take all stripes of the process.
    static CROWD: Mutex<()> = Mutex::new(());

    #[test]
    fn a_counter_loses_nothing_between_threads() {
        let (_alone, counter) = (CROWD.lock(), Counter::default());
        std::thread::scope(|scope| {
            for _ in 0..40 {
                scope.spawn(|| (0..1000).for_each(|_| counter.add(1)));
            }
        });
        assert_eq!(counter.sum(), 40_000);
    }

    #[test]
    fn a_stripe_has_one_owner_and_then_the_next_one() {
        let pool = Pool(AtomicU32::new(0));
        let taken: Vec<_> = std::iter::from_fn(|| pool.take()).collect();
        assert_eq!(taken, (0..OWN_STRIPES).collect::<Vec<_>>());
        for stripe in [3, 15, 0] {
            pool.give_back(stripe);
            assert_eq!((pool.take(), pool.take()), (Some(stripe), None));
        }
    }

    /// Counts one in this thread, and returns the thread's stripe.
    fn count(counter: &Counter) -> usize {
        counter.add(1);
        STRIPE.get()
    }

    #[test]
    fn threads_that_ended_leave_their_stripes_to_later_ones() {
        let (_alone, counter) = (CROWD.lock(), Counter::default());
        let one_after_another =
            (0..100).map(|_| std::thread::scope(|scope| scope.spawn(|| count(&counter)).join().unwrap()));
        // The other threads of this process have some stripes, and never all of them.
        let with_own = one_after_another.filter(|stripe| *stripe < OWN_STRIPES).count();
        assert!(with_own > OWN_STRIPES, "only {with_own} of a hundred threads had a stripe of their own");
        assert_eq!(counter.sum(), 100);
    }

    #[test]
    fn no_two_threads_that_live_have_one_stripe() {
        let (_alone, counter, all_have_counted) = (CROWD.lock(), Counter::default(), Barrier::new(40));
        for _ in 0..10 {
            let mut own: Vec<usize> = std::thread::scope(|scope| {
                let thread = || {
                    let stripe = count(&counter);
                    all_have_counted.wait();
                    stripe
                };
                let threads: Vec<_> = (0..40).map(|_| scope.spawn(thread)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            own.retain(|stripe| *stripe < OWN_STRIPES);
            let owners = own.len();
            own.sort_unstable();
            own.dedup();
            assert_eq!(own.len(), owners);
        }
        assert_eq!(counter.sum(), 400);
    }

    #[test]
    fn what_a_thread_counts_while_it_ends_is_not_lost() {
        static COUNTER: std::sync::LazyLock<Counter> = std::sync::LazyLock::new(Counter::default);
        struct CountsAtTheEnd;
        impl Drop for CountsAtTheEnd {
            fn drop(&mut self) {
                COUNTER.add(1);
            }
        }
        thread_local!(static LAST: CountsAtTheEnd = const { CountsAtTheEnd });
        std::thread::spawn(|| {
            LAST.with(|_| ());
            COUNTER.add(1);
        })
        .join()
        .unwrap();
        assert_eq!(COUNTER.sum(), 2);
    }
}
