//! The Redis tier passes the suite, on a real server.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use terrace_conformance::suite::Subject;
use terrace_core::{Space, TierKey};
use terrace_testbed::shared_redis;
use terrace_tier_redis::Redis;

async fn redis() -> Subject {
    let url = shared_redis().await.unwrap();
    let handle = || Redis::builder(&url).allow_plaintext().connect_timeout(Duration::from_secs(10)).build();
    let client = redis::Client::open(url.as_str()).unwrap();
    Subject::new(handle().unwrap()).second(handle().unwrap()).evict(move |space, key| {
        let client = client.clone();
        Box::pin(async move {
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            let forgotten: u32 =
                redis::cmd("DEL").arg(name(&space, &key)).query_async(&mut connection).await.unwrap();
            assert_eq!(forgotten, 1, "there was a cell to forget");
        })
    })
}

/// The suite's namespaces and the keys of these cases are plain text.
fn name(space: &Space, key: &TierKey) -> String {
    format!("terrace:{}:{}", space.namespace, std::str::from_utf8(&key.bytes).unwrap())
}

terrace_conformance::tier_suite!(redis, cache);
terrace_conformance::tier_suite!(redis, evict);
