//! The list of all cases, in groups.

use terrace_tier::Role;

use super::{
    Case,
    cases::{
        batch, callers, clear, copies, evict, fronts, histories, lease_waiter, leases, lifetime,
        log::{publish, reports},
        processes, races, reads, shapes, store,
    },
};

/// Passes the cases of a group to another macro of this crate.
#[doc(hidden)]
#[macro_export]
macro_rules! __cases {
    (cache, $then:ident $arguments:tt) => {
        $crate::__cases! {both, $then $arguments,
            leases::a_fill_over_its_lease_is_kept,
            leases::a_lease_on_a_value_is_a_hit,
            leases::absence_rejects_a_fill,
            leases::a_fill_without_a_token_is_refused,
            leases::a_fill_over_another_token_is_refused,
            leases::readers_share_a_living_lease_and_the_first_fill_wins,
            leases::a_fence_permits_one_fill,
            leases::a_lease_permits_no_fill_of_another_key,
            leases::an_invalidation_kills_the_lease,
            leases::a_versioned_invalidation_kills_the_lease,
            leases::a_change_older_than_the_lease_spares_it,
            leases::a_put_kills_the_lease,
            leases::a_follow_put_kills_the_lease,
            leases::an_unfenced_put_kills_the_lease,
            leases::a_remove_kills_the_lease,
            leases::a_lease_after_an_invalidation_is_another_one,
            leases::a_lease_ends_with_its_time,
            leases::a_second_reader_extends_the_lease,
            leases::a_lease_over_a_value_lets_it_be_replaced,
            leases::a_write_kills_a_lease_over_a_value,
            leases::a_fill_below_the_floor_is_refused,
            leases::a_negative_fill_needs_its_lease_too,
            leases::a_lease_that_names_the_living_token_replaces_it,
            leases::a_lease_that_names_another_token_shares_the_living_one,
            copies::a_follow_put_replaces_an_older_value,
            copies::a_follow_put_replaces_an_older_negative_entry,
            copies::a_follow_put_replaces_nothing_newer,
            copies::a_follow_put_inserts_nothing_where_nothing_is,
            copies::a_late_follow_put_does_not_undo_a_remove,
            copies::an_invalidation_drops_whatever_is_there,
            copies::an_invalidation_of_an_absent_key_is_done,
            copies::a_versioned_invalidation_spares_what_is_as_new,
            copies::an_invalidation_touches_no_other_key,
            copies::an_invalidation_whose_tombstone_has_no_time_still_drops_the_value,
            copies::an_author_stays_above_the_floor_of_an_invalidation,
            copies::an_unfenced_put_is_kept_whatever_is_there,
            copies::handles_see_each_others_writes_and_leases,
            lifetime::a_filled_value_ends_too,
            clear::a_clear_makes_values_dead,
            clear::a_clear_kills_leases,
            clear::a_clear_kills_a_lease_over_a_value,
            clear::writes_after_a_clear_are_kept,
            clear::a_clear_of_nothing_is_done,
            clear::a_clear_is_seen_by_every_handle,
            clear::a_clear_is_seen_at_once_behind_a_nearer_tier,
            clear::a_clear_without_a_tenant_is_one_of_all_tenants,
            clear::a_fill_that_anothers_clear_overtook_is_never_read,
            batch::a_batch_of_invalidations_and_follow_puts_is_decided_key_by_key,
            races::of_racing_leases_all_get_one_token,
            races::of_racing_leases_that_replace_one_all_get_one_token,
        }
    };
    (store, $then:ident $arguments:tt) => {
        $crate::__cases! {both, $then $arguments,
            store::a_fill_creates_what_was_absent,
            store::a_fill_that_lost_to_a_creator_returns_the_winner,
            store::a_fill_that_lost_to_a_put_returns_the_winner,
            store::a_fill_that_lost_to_a_remove_is_refused_without_a_record,
            store::a_remove_of_an_absent_key_refuses_a_fill_that_saw_it_absent,
            store::a_fill_after_a_remove_that_it_saw_is_kept,
            store::a_fill_never_replaces_a_record,
            store::a_fill_replaces_a_negative_record_that_it_saw,
            store::an_expired_record_is_absent_and_its_version_is_remembered,
            store::a_clear_keeps_records,
            store::a_record_is_there_for_another_handle,
        }
    };
    (evict, $then:ident $arguments:tt) => {
        $crate::$then! {$arguments,
            evict::an_evicted_value_is_a_miss,
            evict::an_evicted_lease_permits_no_fill,
            evict::an_evicted_tombstone_permits_no_fill,
            evict::a_late_put_after_an_eviction_is_not_kept,
            histories::random_histories_with_evictions_agree_with_the_transition,
        }
    };
    (log, $then:ident $arguments:tt) => {
        $crate::__cases! {both_logs, $then $arguments,
            reports::changes_of_copies_are_reported_in_order,
            reports::changes_that_change_no_cell_are_reported,
            reports::fills_and_leases_are_not_reported,
            reports::a_followers_own_put_is_reported_and_its_drops_need_not_be,
            reports::a_clear_of_one_tenant_is_reported_as_such,
            reports::a_read_after_a_reported_clear_finds_no_dead_copy,
        }
    };
    (publish, $then:ident $arguments:tt) => {
        $crate::$then! {$arguments,
            publish::a_step_drops_what_it_names_and_advances_the_watermark,
            publish::a_step_that_expects_another_watermark_does_nothing,
            publish::a_step_that_expects_a_removed_watermark_does_nothing,
            publish::a_step_spares_what_is_as_new_and_kills_leases,
            publish::a_step_reaches_the_tenants_that_it_names,
            publish::a_clear_of_a_step_makes_the_copies_dead,
            publish::a_step_is_reported_before_the_watermark_that_ends_it,
            publish::a_hit_at_level_bounded_has_the_version_that_the_watermark_proves,
            publish::a_watermark_that_is_gone_proves_nothing,
            publish::a_watermark_is_of_one_namespace,
        }
    };
    (store_log, $then:ident $arguments:tt) => {
        $crate::__cases! {both_logs, $then $arguments,}
    };
    (both_logs, $then:ident $arguments:tt, $($more:tt)*) => {
        $crate::$then! {$arguments,
            reports::nothing_is_proven_before_the_log_was_followed,
            reports::puts_and_removes_are_reported_in_order_with_their_versions,
            reports::changed_deadlines_are_reported,
            reports::a_refused_put_is_not_reported,
            reports::a_batch_of_puts_is_reported_key_by_key,
            reports::tenants_are_named_and_namespaces_apart,
            reports::a_heartbeat_is_never_ahead_of_what_was_reported,
            reports::heartbeats_go_on_while_nothing_happens,
            reports::a_log_that_was_lost_is_reported_as_lost,
            $($more)*
        }
    };
    (processes, $then:ident $arguments:tt) => {
        $crate::$then! {$arguments,
            processes::ready_refuses_other_options_than_another_process_uses,
            processes::programs_with_other_value_types_are_ready_at_once,
        }
    };
    (lease_waiter, $then:ident $arguments:tt) => {
        $crate::$then! {$arguments,
            lease_waiter::a_wait_ends_with_the_fill,
            lease_waiter::a_wait_ends_with_a_change_that_kills_the_lease,
            lease_waiter::a_lease_that_is_over_is_not_waited_for,
            lease_waiter::a_released_lease_is_free,
            lease_waiter::a_settled_guard_releases_nothing,
            lease_waiter::a_holder_at_work_is_waited_for,
            lease_waiter::a_silent_holder_is_gone_within_two_seconds,
        }
    };
    (front, $then:ident $arguments:tt) => {
        $crate::$then! {$arguments,
            fronts::a_write_behind_replaces_only_what_is_older,
            fronts::a_removal_behind_leaves_a_tombstone,
            fronts::a_write_behind_that_is_too_old_needs_a_record,
            fronts::a_batch_behind_is_decided_key_by_key,
            fronts::another_term_is_refused,
            fronts::a_held_namespace_takes_no_second_front_and_no_direct_write,
            fronts::a_take_over_needs_no_release_and_fences_the_front,
            fronts::a_clone_of_a_front_is_fenced,
            fronts::a_direct_write_after_the_hold_ends_the_term,
            fronts::random_writes_behind_agree_with_the_transition,
        }
    };
    (both, $then:ident $arguments:tt, $($more:tt)*) => {
        $crate::$then! {$arguments,
            reads::it_answers_a_ping,
            reads::a_key_never_written_is_a_miss,
            reads::a_put_value_is_read_back_with_its_version_and_deadlines,
            reads::a_put_replaces_the_value_with_a_higher_version,
            reads::an_issued_version_is_the_clock_in_microseconds,
            reads::a_version_grows_over_a_floor_ahead_of_the_clock,
            reads::a_version_grows_after_a_remove,
            reads::a_version_grows_after_an_expiry,
            reads::a_remove_deletes_and_tells_whether_there_was_a_value,
            reads::a_remove_touches_no_other_key,
            reads::a_put_if_absent_is_refused_over_a_value,
            reads::a_replace_needs_the_version_that_is_there,
            reads::a_negative_entry_is_a_hit_without_a_body,
            reads::a_negative_entry_counts_as_no_value,
            reads::deadlines_come_back_to_the_millisecond,
            lifetime::a_value_of_40_milliseconds_lives_and_ends,
            lifetime::a_value_of_no_time_is_never_there,
            lifetime::a_value_of_u64_max_seconds_lives,
            lifetime::a_stale_window_counts_as_life,
            lifetime::expire_gives_other_deadlines_and_nothing_else,
            lifetime::expire_can_end_a_life,
            lifetime::expire_can_extend_a_life,
            lifetime::expire_brings_nothing_back,
            shapes::hostile_keys_are_keys_like_any_other,
            shapes::an_empty_value_is_a_value,
            shapes::values_of_all_bytes_and_1_mib_come_back,
            shapes::a_value_of_64_mib_is_kept_or_too_large,
            shapes::namespaces_are_apart,
            shapes::tenants_are_apart,
            shapes::names_that_read_alike_are_apart,
            shapes::a_namespace_with_other_options_is_in_use,
            batch::an_empty_batch_is_answered,
            batch::a_batch_of_one_is_answered,
            batch::an_operation_that_the_tier_does_not_know_is_unsupported,
            batch::batches_answer_in_order_with_hits_and_misses_mixed,
            batch::a_batch_of_leases_and_fills_is_fenced_key_by_key,
            batch::a_batch_of_conditional_puts_is_decided_key_by_key,
            batch::a_batch_of_removes_tells_what_was_there,
            races::of_racing_fills_one_wins,
            races::of_racing_creators_one_wins,
            races::racing_puts_get_distinct_versions_and_the_newest_stays,
            races::racing_replaces_lose_no_update,
            races::ten_thousand_operations_at_once_get_their_own_answers,
            races::a_write_during_a_load_is_never_overwritten,
            callers::each_of_many_callers_gets_the_answer_to_its_own_write,
            callers::refused_writes_among_many_are_refused_alone,
            callers::an_oversized_write_among_many_fails_alone,
            callers::writes_of_one_key_by_many_callers_have_one_order,
            callers::of_many_callers_who_create_a_value_one_wins,
            callers::callers_that_leave_cut_no_write_in_two,
            histories::random_histories_agree_with_the_transition,
            $($more)*
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __table {
    (($role:expr), $($group:ident::$case:ident,)*) => {
        &[$(Case { name: stringify!($case), role: $role, run: |bench| Box::pin($group::$case(bench)) },)*]
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __tests {
    (($make:expr, $list:ident), $($group:ident::$case:ident,)*) => {
        $(
            #[test]
            fn $case() -> ::std::result::Result<(), $crate::suite::Broken> {
                $crate::suite::run_case(|| $make(), $crate::suite::$list, stringify!($case))
            }
        )*
    };
}

/// Makes one test for each case of a group, in a module with the name of the group.
///
/// The first argument is the path of an `async fn() -> Subject`, which each test calls once. The second
/// argument is the group; without it the macro makes the tests of `cache` and `store`.
///
/// - `cache` and `store` are the two roles of a tier.
/// - `evict` is for cache tiers that can forget a cell, and needs
///   [`Subject::evict`](crate::suite::Subject::evict).
/// - `log` and `store_log` are for tiers with an invalidation log, and need
///   [`Subject::lose_log`](crate::suite::Subject::lose_log).
/// - `publish` is for cache tiers that keep a relay's watermark.
/// - `processes` is for backends whose `ready` checks the options of a namespace across processes.
/// - `lease_waiter` is for cache tiers whose leases other processes can wait for.
/// - `front` is for stores that a write-behind front may write to.
///
/// ```
/// use terrace_conformance::{Fake, suite::Subject};
///
/// async fn fake() -> Subject {
///     Subject::new(Fake::new())
/// }
/// terrace_conformance::tier_suite!(fake);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! tier_suite {
    ($make:path) => {
        $crate::tier_suite!($make, cache);
        $crate::tier_suite!($make, store);
    };
    ($make:path, cache) => {
        mod cache {
            use super::*;
            $crate::__cases!(cache, __tests($make, CACHE));
        }
    };
    ($make:path, store) => {
        mod store {
            use super::*;
            $crate::__cases!(store, __tests($make, STORE));
        }
    };
    ($make:path, evict) => {
        mod evict {
            use super::*;
            $crate::__cases!(evict, __tests($make, EVICT));
        }
    };
    ($make:path, log) => {
        mod log {
            use super::*;
            $crate::__cases!(log, __tests($make, LOG));
        }
    };
    ($make:path, store_log) => {
        mod store_log {
            use super::*;
            $crate::__cases!(store_log, __tests($make, STORE_LOG));
        }
    };
    ($make:path, publish) => {
        mod publish {
            use super::*;
            $crate::__cases!(publish, __tests($make, PUBLISH));
        }
    };
    ($make:path, processes) => {
        mod processes {
            use super::*;
            $crate::__cases!(processes, __tests($make, PROCESSES));
        }
    };
    ($make:path, front) => {
        mod front {
            use super::*;
            $crate::__cases!(front, __tests($make, FRONT));
        }
    };
    ($make:path, lease_waiter) => {
        mod lease_waiter {
            use super::*;
            $crate::__cases!(lease_waiter, __tests($make, LEASE_WAITER));
        }
    };
}

/// The cases of a cache tier.
pub const CACHE: &[Case] = crate::__cases!(cache, __table(Role::Cache));

/// The cases of a store.
pub const STORE: &[Case] = crate::__cases!(store, __table(Role::Store));

/// The cases of a cache tier that can forget a cell on demand ([`Subject::evict`](super::Subject::evict)).
pub const EVICT: &[Case] = crate::__cases!(evict, __table(Role::Cache));

/// The cases of a cache tier with an invalidation log.
pub const LOG: &[Case] = crate::__cases!(log, __table(Role::Cache));

/// The cases of a store with an invalidation log.
pub const STORE_LOG: &[Case] = crate::__cases!(store_log, __table(Role::Store));

/// The cases of a cache tier that keeps a relay's watermark
/// ([`Tier::publish`](terrace_tier::Tier::publish)).
pub const PUBLISH: &[Case] = crate::__cases!(publish, __table(Role::Cache));

/// The cases of a backend that checks the options of a namespace across processes.
pub const PROCESSES: &[Case] = crate::__cases!(processes, __table(Role::Cache));

/// The cases of a cache tier whose leases other processes can wait for
/// ([`Tier::lease_waiter`](terrace_tier::Tier::lease_waiter)).
pub const LEASE_WAITER: &[Case] = crate::__cases!(lease_waiter, __table(Role::Cache));

/// The cases of a store that a write-behind front may write to
/// ([`Tier::front_store`](terrace_tier::Tier::front_store)).
pub const FRONT: &[Case] = crate::__cases!(front, __table(Role::Store));
