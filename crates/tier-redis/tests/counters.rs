//! The counters of Redis pass the suite on a real server, and cost one request.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use terrace_conformance::check_counters;
use terrace_testbed::{shared_redis, unique_name};
use terrace_tier::Backend;
use terrace_tier_redis::Redis;

#[tokio::test]
async fn counters_are_shared_and_bounded() {
    let url = shared_redis().await.unwrap();
    let redis = || Redis::builder(&url).allow_plaintext().build().unwrap();
    check_counters(&redis(), &redis(), &unique_name("counters")).await;
}

#[tokio::test]
async fn counters_of_a_server_that_is_away_are_an_error_and_add_nothing() {
    let server = terrace_testbed::Redis::start().await.unwrap();
    let redis = Redis::builder(server.url()).allow_plaintext().build().unwrap();
    let counters = redis.counters("away").unwrap();
    let one = [("hits".to_owned(), 1)];
    counters.add(&one).await.unwrap();
    server.kill9().unwrap();
    let error = counters.add(&one).await.unwrap_err();
    assert_eq!(error.tier(), Some("redis"), "{error}");
}
