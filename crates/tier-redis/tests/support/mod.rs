//! What several files of tests prepare in the same way.

use std::time::Duration;

use terrace_conformance::suite::Subject;
use terrace_tier::{Namespace, TierKey};
use terrace_tier_redis::Redis;

/// Two handles over one server, whose cells are deleted through `admin_url`.
pub(crate) fn subject(admin_url: &str, handle: impl Fn() -> Redis) -> Subject {
    let client = redis::Client::open(admin_url).unwrap();
    let subject = Subject::new(handle()).second(handle());
    subject.notified_within(Duration::from_millis(120)).evict(move |namespace, key| {
        let client = client.clone();
        Box::pin(async move {
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            redis::cmd("DEL").arg(cell_name(&namespace, &key)).exec_async(&mut connection).await.unwrap();
        })
    })
}

/// Two handles over one server with a prefix of their own, whose log is deleted through `admin_url`.
pub(crate) fn logged_subject(admin_url: &str, prefix: String, handle: impl Fn() -> Redis) -> Subject {
    let client = redis::Client::open(admin_url).unwrap();
    let subject = Subject::new(handle()).second(handle());
    subject.notified_within(Duration::from_millis(120)).lose_log(move |_| {
        let (client, head) = (client.clone(), format!("{prefix}:$log-head"));
        Box::pin(async move {
            let mut connection = client.get_multiplexed_async_connection().await.unwrap();
            redis::cmd("DEL").arg(head).exec_async(&mut connection).await.unwrap();
        })
    })
}

/// The Redis key of a cell. The namespaces and keys of the suite's cases are plain text and spaces.
fn cell_name(namespace: &Namespace, key: &TierKey) -> String {
    let key = std::str::from_utf8(&key.bytes).unwrap();
    format!("terrace:{}:{}", namespace.name, key.replace(' ', "%20"))
}
