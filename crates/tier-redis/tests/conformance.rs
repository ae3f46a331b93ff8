//! The Redis tier passes the conformance suite on a real server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use terrace_conformance::suite::Subject;
use terrace_testbed::{shared_redis, unique_name};
use terrace_tier::{Namespace, TierKey};
use terrace_tier_redis::Redis;

async fn redis() -> Subject {
    let url = shared_redis().await.unwrap();
    let handle = || Redis::builder(&url).allow_plaintext().connect_timeout(Duration::from_secs(10)).build();
    let client = redis::Client::open(url.as_str()).unwrap();
    let subject = Subject::new(handle().unwrap()).second(handle().unwrap());
    subject.notified_within(Duration::from_millis(120)).evict(move |namespace, key| {
        let client = client.clone();
        Box::pin(async move {
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            redis::cmd("DEL").arg(cell_name(&namespace, &key)).exec_async(&mut connection).await.unwrap();
        })
    })
}

/// The Redis key of a cell. The namespaces and keys of the suite's cases are plain text and spaces.
fn cell_name(namespace: &Namespace, key: &TierKey) -> String {
    let key = std::str::from_utf8(&key.bytes).unwrap();
    format!("terrace:{}:{}", namespace.name, key.replace(' ', "%20"))
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
    let handle = || Redis::builder(&url).prefix(&prefix).allow_plaintext().build().unwrap();
    let client = redis::Client::open(url.as_str()).unwrap();
    let (first, second) = (handle(), handle());
    let subject = Subject::new(first).second(second).notified_within(Duration::from_millis(120));
    subject.lose_log(move |_| {
        let (client, head) = (client.clone(), format!("{prefix}:$log-head"));
        Box::pin(async move {
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            redis::cmd("DEL").arg(head).exec_async(&mut connection).await.unwrap();
        })
    })
}

terrace_conformance::tier_suite!(logged, log);
terrace_conformance::tier_suite!(logged, publish);
