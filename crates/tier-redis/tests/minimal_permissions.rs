//! The Redis tier passes the conformance suite as a user with the permissions that the guide lists, and no others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use terrace_conformance::suite::Subject;
use terrace_testbed::{Redis as Server, unique_name};
use terrace_tier::{Namespace, TierKey};
use terrace_tier_redis::Redis;
use tokio::sync::OnceCell;

static SERVER: OnceCell<Server> = OnceCell::const_new();

/// The URL of a server as its administrator, and as the user of the guide.
async fn urls() -> (String, String) {
    let server = SERVER.get_or_init(|| async {
        let server = Server::start().await.unwrap();
        let guide = include_str!("../../../docs/redis.md");
        let line = guide.lines().find(|line| line.starts_with("ACL SETUSER")).unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let words: Vec<_> = line.split_whitespace().collect();
        redis::Cmd::new().arg(&words).exec_async(&mut connection).await.unwrap();
        server
    });
    let server = server.await;
    (server.url(), format!("redis://terrace:password@127.0.0.1:{}", server.port()))
}

async fn limited() -> Subject {
    let (admin, url) = urls().await;
    let handle = || Redis::builder(&url).connect_timeout(Duration::from_secs(10)).build().unwrap();
    let client = redis::Client::open(admin.as_str()).unwrap();
    let subject = Subject::new(handle()).second(handle());
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

terrace_conformance::tier_suite!(limited, cache);
terrace_conformance::tier_suite!(limited, evict);
terrace_conformance::tier_suite!(limited, processes);
terrace_conformance::tier_suite!(limited, lease_waiter);

/// A subject with a server of its own, because one case deletes the log, whose name the permissions fix.
async fn logged() -> Subject {
    let server = Server::start().await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let (prefix, guide) = (unique_name("logged"), include_str!("../../../docs/redis.md"));
    let line = guide.lines().find(|line| line.starts_with("ACL SETUSER")).unwrap();
    let line = line.replace("~terrace:", &format!("~{prefix}:")).replace("&terrace:", &format!("&{prefix}:"));
    let words: Vec<_> = line.split_whitespace().collect();
    redis::Cmd::new().arg(&words).exec_async(&mut connection).await.unwrap();
    let url = format!("redis://terrace:password@127.0.0.1:{}", server.port());
    let handle = || Redis::builder(&url).prefix(&prefix).build().unwrap();
    let (first, second) = (handle(), handle());
    let subject =
        Subject::new(first).second(second).notified_within(Duration::from_millis(120)).guard(server);
    subject.lose_log(move |_| {
        let (mut connection, head) = (connection.clone(), format!("{prefix}:$log-head"));
        Box::pin(async move {
            redis::cmd("DEL").arg(head).exec_async(&mut connection).await.unwrap();
        })
    })
}

terrace_conformance::tier_suite!(logged, log);
terrace_conformance::tier_suite!(logged, publish);
