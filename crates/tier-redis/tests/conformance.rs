//! The Redis tier passes the conformance suite on a real server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use support::{logged_subject, subject};
use terrace_conformance::suite::Subject;
use terrace_testbed::{shared_redis, unique_name};
use terrace_tier_redis::Redis;

async fn redis() -> Subject {
    let url = shared_redis().await.unwrap();
    let builder = || Redis::builder(&url).allow_plaintext().connect_timeout(Duration::from_secs(10));
    subject(&url, || builder().build().unwrap())
}

terrace_conformance::tier_suite!(redis, cache);
terrace_conformance::tier_suite!(redis, evict);
terrace_conformance::tier_suite!(redis, processes);
terrace_conformance::tier_suite!(redis, lease_waiter);
terrace_conformance::machine!(redis, cache, cases = 12);

/// A subject with a prefix of its own, because one case deletes the log.
async fn logged() -> Subject {
    let url = shared_redis().await.unwrap();
    let prefix = unique_name("logged");
    logged_subject(&url, prefix.clone(), || {
        Redis::builder(&url).prefix(&prefix).allow_plaintext().build().unwrap()
    })
}

terrace_conformance::tier_suite!(logged, log);
terrace_conformance::tier_suite!(logged, publish);
