//! The counters of Postgres pass the suite on a real server.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use terrace_conformance::check_counters;
use terrace_testbed::{shared_postgres, unique_name};
use terrace_tier_postgres::Postgres;

#[tokio::test]
async fn counters_are_shared_and_bounded() {
    let url = shared_postgres().await.unwrap();
    let postgres = || Postgres::new(&url).unwrap();
    check_counters(&postgres(), &postgres(), &unique_name("counters")).await;
}
