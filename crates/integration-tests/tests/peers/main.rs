//! Faults seen in the code of other caches, each as a test against real servers.
//!
//! | fault | test here | tests of the parts |
//! |---|---|---|
//! | 1 a promoted entry is dead on arrival near | `fault_1_a_promoted_entry_is_a_near_hit_at_the_second_read` | core `fences.rs` |
//! | 2 an outage of a tier fails the read | `fault_2_a_dead_tier_fails_no_read_that_the_loader_can_answer` | `outage.rs`, core `outages.rs` |
//! | 3 overlapping invalidations merge | `fault_3_a_value_put_before_the_second_of_two_overlapping_invalidations_is_gone` | core `fences.rs` |
//! | 4 a cancelled or panicking leader leaves waiters behind | `fault_4_two_hundred_aborted_leaders_leave_nobody_behind`, `fault_4_a_panicking_leader_hands_over` | core `single_flight/` |
//! | 5 waiters of a failed load stampede | `fault_5_the_waiters_of_a_failed_load_do_not_stampede` | core `single_flight/` |
//! | 6 a life below one second becomes none | `fault_6_a_life_below_a_second_ends_in_redis_to_the_millisecond` | tier-redis `data.rs` |
//! | 7 a connection for each operation | `fault_7_one_connection_serves_ten_thousand_operations` | tier-redis `load.rs` |
//! | 8 receivers of a notice write to the shared tier | `fault_8_another_process_that_reads_writes_nothing` | core `fences.rs` |
//! | 9 a reconnect that serves what was watched before | `fault_9_after_a_reconnect_an_old_copy_is_not_read` | `outage.rs`, core `outages.rs` |
//! | 10 an outage looks like a miss | `fault_10_an_outage_is_counted_as_errors_and_trips` | core `outages.rs` |
//! | 11 promotion multiplies lives | `fault_11_no_tier_gives_a_promoted_entry_a_longer_life` | core `fences.rs` |
//! | 12 a pattern delete in one command | `fault_12_a_clear_scans_and_unlinks_in_bounded_batches` | tier-redis `data.rs` |
//! | 13 a write during a load is overwritten by it | `fault_13_a_put_and_a_remove_during_a_load_stand` | core `fences.rs` |
//! | 14 each method has its own flights | `fault_14_all_methods_share_one_load` | core `single_flight/` |
//! | 15 hits pay for the flight table | `fault_15_a_near_hit_joins_no_flight_and_makes_no_trip` | `near_hit_allocates_nothing.rs` |
//! | 16 a partial delete is reported as done | `fault_16_a_remove_that_a_tier_did_not_confirm_is_an_error` | core `outages.rs` |
//! | 17 a reader gets another key's reply | `fault_17_a_value_under_another_keys_name_is_a_miss` | core codec tests, tier-redis `outage.rs` |
//! | 18 a loader that asks for its own key hangs | `fault_18_a_loader_that_asks_for_its_own_key_gets_a_typed_error` | core `single_flight/` |

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod entries;
mod flights;
mod outages;
#[path = "../support/mod.rs"]
mod support;
mod traffic;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use support::{PATIENCE, ms};
use terrace::{BoxError, Cache, Memory, NoNear, Redis, TierSettings};
use terrace_testbed::{shared_redis, unique_name};
use tokio::time::sleep;

type Stack<N = Memory<String, u64>> = Cache<String, u64, N>;

/// The cache of one process: memory before the Redis at `url`.
fn process(url: &str, namespace: &str) -> Stack {
    let redis = Redis::new(url).unwrap().budget(PATIENCE);
    Cache::builder(namespace).near(Memory::entries(1_000)).tier(redis).build().unwrap()
}

/// A cache with the Redis at `url` alone.
fn bare(url: &str, namespace: &str) -> Stack<NoNear> {
    Cache::builder(namespace).tier(Redis::new(url).unwrap().budget(PATIENCE)).build().unwrap()
}

/// A loader that counts its runs. Each run takes 30 ms.
#[derive(Clone, Default)]
struct Loads(Arc<AtomicU64>);

impl Loads {
    fn count(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }

    fn run<T: Send + 'static>(
        &self,
        outcome: impl FnOnce() -> Result<T, BoxError> + Send + 'static,
    ) -> Pin<Box<dyn Future<Output = Result<T, BoxError>> + Send>> {
        let count = Arc::clone(&self.0);
        Box::pin(async move {
            count.fetch_add(1, Ordering::SeqCst);
            sleep(ms(30)).await;
            outcome()
        })
    }
}

/// The URL of the shared Redis, and a namespace that no other test uses.
async fn name(start: &str) -> (String, String) {
    (shared_redis().await.unwrap(), unique_name(start))
}
