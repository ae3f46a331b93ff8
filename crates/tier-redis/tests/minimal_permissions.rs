//! The Redis tier passes the conformance suite as a user with the permissions that the guide lists, and no others.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::Duration;

use support::{logged_subject, subject};
use terrace_conformance::suite::Subject;
use terrace_testbed::{Redis as Server, unique_name};
use terrace_tier_redis::Redis;
use tokio::sync::OnceCell;

static SERVER: OnceCell<Server> = OnceCell::const_new();

/// A server with the user of the guide, whose keys and channels begin with `prefix`.
async fn limited_server(prefix: &str) -> Server {
    let server = Server::start().await.unwrap();
    let guide = include_str!("../../../docs/redis.md");
    let line = guide.lines().find(|line| line.starts_with("ACL SETUSER")).unwrap();
    let line = line.replace("~terrace:", &format!("~{prefix}:")).replace("&terrace:", &format!("&{prefix}:"));
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let words: Vec<_> = line.split_whitespace().collect();
    redis::Cmd::new().arg(&words).exec_async(&mut connection).await.unwrap();
    server
}

/// The URL of the user of the guide.
fn limited_url(server: &Server) -> String {
    format!("redis://terrace:password@127.0.0.1:{}", server.port())
}

async fn limited() -> Subject {
    let server = SERVER.get_or_init(|| limited_server("terrace")).await;
    let url = limited_url(server);
    subject(&server.url(), || Redis::builder(&url).connect_timeout(Duration::from_secs(10)).build().unwrap())
}

terrace_conformance::tier_suite!(limited, cache);
terrace_conformance::tier_suite!(limited, evict);
terrace_conformance::tier_suite!(limited, processes);
terrace_conformance::tier_suite!(limited, lease_waiter);

/// A subject with a server of its own, because one case deletes the log, whose name the permissions fix.
async fn logged() -> Subject {
    let prefix = unique_name("logged");
    let server = limited_server(&prefix).await;
    let url = limited_url(&server);
    let handle = || Redis::builder(&url).prefix(&prefix).build().unwrap();
    logged_subject(&server.url(), prefix.clone(), handle).guard(server)
}

terrace_conformance::tier_suite!(logged, log);
terrace_conformance::tier_suite!(logged, publish);
