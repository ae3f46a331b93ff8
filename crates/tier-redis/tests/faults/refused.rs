//! Refused credentials, permissions, namespace options, sizes and settings.

use bytes::Bytes;
use terrace_testbed::Redis as Server;
use terrace_tier::{Backend, ErrorKind, FindingTopic, Level, Namespace, Op, Role};
use terrace_tier_redis::Redis;

use crate::bench::{Bench, kind_of, put};

#[tokio::test]
async fn a_wrong_password_is_denied_and_never_shown() {
    let server = Server::options().password("s3cret").start().await.unwrap();
    let port = server.port();
    let wrong = [format!("redis://:wr0ng@127.0.0.1:{port}"), format!("redis://127.0.0.1:{port}")];
    for url in wrong {
        let bench = Bench::new(&url);
        bench.get("k").await.unwrap_err();
        let error = bench.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        let shown = format!("{error} {error:?} {:?} {:?}", bench.handle, bench.tier);
        assert!(!shown.contains("wr0ng") && !shown.contains("s3cret"), "{shown}");
    }
    let handle = Redis::builder(format!("127.0.0.1:{port}")).password("s3cret").build().unwrap();
    let namespace = Bench::new(&server.url()).namespace;
    handle.open(&namespace).unwrap().ping().await.unwrap();
    assert!(!format!("{handle:?}").contains("s3cret"));
}

#[tokio::test]
async fn a_user_without_rights_is_denied() {
    let server = Server::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let mut raw = bench.raw().await;
    let mut acl = redis::cmd("ACL");
    acl.arg("SETUSER").arg("reader").arg("on").arg(">pass").arg("~*").arg("+get").arg("+mget").arg("+hello");
    acl.exec_async(&mut raw).await.unwrap();
    let reader = Bench::new(&format!("redis://reader:pass@127.0.0.1:{}", server.port()));
    reader.misses("k").await;
    assert_eq!(kind_of(reader.put("k", "value").await), ErrorKind::Denied);
    assert_eq!(reader.handle.run_id(), None, "the user may not run INFO");
}

#[tokio::test]
async fn a_server_that_becomes_a_replica_is_not_used() {
    let server = Server::start().await.unwrap();
    let bench = Bench::new(&server.url());
    bench.put("k", "value").await.unwrap();
    let mut raw = bench.raw().await;
    let mut replicate = redis::cmd("REPLICAOF");
    replicate.arg("127.0.0.1").arg("1").exec_async(&mut raw).await.unwrap();
    // The first answer says so, or the check of the role was faster; from then on nothing is sent there.
    let error = bench.put("k", "late").await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ReadOnly | ErrorKind::Unavailable), "{error}");
    for error in [bench.tier.clear().await.unwrap_err(), bench.get("k").await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert_eq!(error.finding().unwrap().topic(), FindingTopic::Role);
    }
}

#[tokio::test]
async fn a_full_server_takes_no_writes() {
    let server = Server::options().config("maxmemory", "1mb").config("maxmemory-policy", "noeviction");
    let server = server.start().await.unwrap();
    let bench = Bench::new(&server.url());
    assert_eq!(kind_of(bench.put("k", "value").await), ErrorKind::ReadOnly);
    bench.misses("k").await;
}

#[tokio::test]
async fn namespace_options_are_checked_across_processes() {
    let server = Server::start().await.unwrap();
    let bench = Bench::new(&server.url());
    bench.tier.ready().await.unwrap();
    bench.other_process().tier.ready().await.unwrap();
    let namespace = bench.namespace.clone().with_level(Level::Ttl);
    assert_eq!(bench.handle.open(&namespace).unwrap_err().kind(), ErrorKind::NamespaceInUse);
    let open = |namespace: &Namespace| Redis::new(server.url()).unwrap().open(namespace).unwrap();
    let error = open(&namespace).ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NamespaceInUse, "{error}");
    // Versions of the program with other value types run at once, forward and back.
    open(&bench.namespace.clone().with_type(2, 8)).ready().await.unwrap();
    bench.tier.ready().await.unwrap();
}

#[tokio::test]
async fn values_above_the_limit_are_too_large_and_send_nothing() {
    let server = Server::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let body = "x".repeat((1 << 20) + 1);
    assert_eq!(kind_of(bench.put("k", &body).await), ErrorKind::TooLarge);
    bench.put("k", &body[1..]).await.unwrap();
    bench.reads("k", &body[1..]).await;
    let batch = vec![(bench.key("a"), put(&body)), (bench.key("b"), put("small"))];
    let answers = bench.tier.apply_many(batch).await;
    assert_eq!(answers[0].as_ref().unwrap_err().kind(), ErrorKind::TooLarge);
    assert!(answers[1].is_ok());
    let small = Redis::builder(server.url()).max_value_bytes(10).build().unwrap();
    let tier = small.open(&bench.namespace).unwrap();
    let Op::Put { order, deadlines, tombstone_ttl, .. } = put("") else { panic!() };
    let op = Op::Put { order, deadlines, body: Some(Bytes::from_static(b"eleven byte")), tombstone_ttl };
    assert_eq!(kind_of(tier.apply(&bench.key("k"), op).await), ErrorKind::TooLarge);
}

#[test]
fn settings_that_cannot_work_are_config_errors_at_once() {
    let kind = |builder: terrace_tier_redis::RedisBuilder| builder.build().unwrap_err().kind();
    assert_eq!(kind(Redis::builder("http://localhost")), ErrorKind::Config);
    assert_eq!(kind(Redis::builder("localhost").prefix("a:b")), ErrorKind::Config);
    assert_eq!(kind(Redis::builder("redis://cache.example")), ErrorKind::Config);
    assert!(Redis::builder("redis://cache.example").allow_plaintext().build().is_ok());
    assert!(Redis::new("rediss://cache.example").is_ok());
    let namespace = Bench::new("localhost").namespace.with_role(Role::Store);
    assert_eq!(kind_of(Redis::new("localhost").unwrap().open(&namespace)), ErrorKind::Config);
}
