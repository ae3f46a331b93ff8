//! Every policy passes the suite of its kind.

use std::time::Duration;

use terrace_conformance::policy_suite;
use terrace_policies::{
    AdmitAll, CacheAside, EarlyRefresh, Forever, Lease, LeaseOrStale, NoCoalescing, SingleFlight, SizeLimit,
    StaleIfError, StaleWhileRevalidate, Strict, Ttl, WriteAround, WriteThrough, XFetch,
};

fn ttl() -> Ttl {
    Ttl::secs(60)
}

fn ttl_with_all_options() -> Ttl {
    let minute = Duration::from_secs(60);
    ttl().jitter(0.3).negative(minute).stale_while_revalidate(minute).stale_if_error(minute * 10)
}

fn ttl_of_extremes() -> Ttl {
    let longest = Duration::MAX;
    Ttl::of(longest).jitter(1.0).negative(longest).stale_while_revalidate(longest).stale_if_error(longest)
}

fn ttl_of_zero() -> Ttl {
    Ttl::secs(0)
}

fn forever() -> Forever {
    Forever
}

fn ttl_that_renews_early() -> Ttl {
    ttl().refresh_early(0.8)
}

fn ttl_by_chance() -> Ttl {
    ttl().xfetch(1.0).stale_if_error(Duration::from_secs(5))
}

fn idle_life() -> Ttl {
    Ttl::idle(Duration::from_secs(60))
}

policy_suite!(expiry, ttl_that_renews_early);
policy_suite!(expiry, ttl_by_chance);
policy_suite!(expiry, idle_life);
policy_suite!(expiry, ttl);
policy_suite!(expiry, ttl_with_all_options);
policy_suite!(expiry, ttl_of_extremes);
policy_suite!(expiry, ttl_of_zero);
policy_suite!(expiry, forever);

fn strict() -> Strict {
    Strict
}

fn stale_while_revalidate() -> StaleWhileRevalidate {
    StaleWhileRevalidate::within(Duration::from_secs(5))
}

fn stale_if_error() -> StaleIfError {
    StaleIfError::within(Duration::MAX)
}

fn early_refresh() -> EarlyRefresh {
    EarlyRefresh::at(0.8)
}

fn xfetch() -> XFetch {
    XFetch::beta(1.0)
}

policy_suite!(freshness, early_refresh);
policy_suite!(freshness, xfetch);
policy_suite!(freshness, strict);
policy_suite!(freshness, stale_while_revalidate);
policy_suite!(freshness, stale_if_error);

fn admit_all() -> AdmitAll {
    AdmitAll
}

fn size_limit() -> SizeLimit {
    SizeLimit::bytes(1_000).and_in("redis", 10)
}

policy_suite!(admission, admit_all);
policy_suite!(admission, size_limit);

fn write_through() -> WriteThrough {
    WriteThrough
}

fn write_around() -> WriteAround {
    WriteAround
}

fn cache_aside() -> CacheAside {
    CacheAside
}

policy_suite!(write, write_through);
policy_suite!(write, write_around);
policy_suite!(write, cache_aside);

fn single_flight() -> SingleFlight {
    SingleFlight
}

fn no_coalescing() -> NoCoalescing {
    NoCoalescing
}

policy_suite!(stampede, single_flight);
policy_suite!(stampede, no_coalescing);

fn lease() -> Lease {
    Lease
}

fn lease_or_stale() -> LeaseOrStale {
    LeaseOrStale
}

policy_suite!(stampede, lease);
policy_suite!(stampede, lease_or_stale);
