//! What `ready` finds wrong with a server.

use terrace_testbed::Redis;
use terrace_tier::{ErrorKind, FindingTopic, Level};

use super::{Meddle, Recording, command, has, lasting, meddling_proxy};
use crate::bench::{Bench, raw};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_server_has_no_finding_and_keeps_nothing_of_the_examination() {
    let server = Redis::start().await.unwrap();
    for level in [Level::Fenced, Level::Ttl, Level::Bounded(std::time::Duration::from_secs(1))] {
        let bench = Bench::on(&server.url(), level);
        let told = Recording::on(&bench);
        assert_eq!(bench.tier.ready().await.unwrap(), []);
        assert!(told.0.lock().is_empty(), "{:?}", told.0.lock());
    }
    let mut raw = raw(&server.url()).await;
    let keys: Vec<String> = redis::cmd("KEYS").arg("*$ready*").query_async(&mut raw).await.unwrap();
    assert_eq!(keys, Vec::<String>::new());
    let log: usize = redis::cmd("XLEN").arg("terrace:$log").query_async(&mut raw).await.unwrap();
    assert_eq!(log, 0, "the examination leaves no entry in the log of others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_cluster_mode_is_refused_at_ready_and_at_the_first_use() {
    let server = Redis::options().config("cluster-enabled", "yes").start().await.unwrap();
    let bench = Bench::new(&server.url());
    let used_first = Bench::new(&server.url());
    let another_database = Bench::new(&format!("{}/1", server.url()));
    for error in [bench.tier.ready().await.unwrap_err(), used_first.put("k", "value").await.unwrap_err()] {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(lasting(&error, FindingTopic::ClusterMode).cause().contains("cluster mode"));
    }
    // Redis refuses to select another database in cluster mode; Valkey 9 has one, unless it is set up for more.
    let error = another_database.tier.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config, "{error}");
    let topic = error.finding().unwrap().topic();
    assert!(matches!(topic, FindingTopic::ClusterMode | FindingTopic::Schema), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cluster_mode_is_recognised_by_its_answers_too() {
    let server = Redis::options().config("cluster-enabled", "yes").start().await.unwrap();
    let mut raw = raw(&server.url()).await;
    let slots: Vec<String> = (0..16_384).map(|slot| slot.to_string()).collect();
    let words: Vec<&str> =
        ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
    command(&mut raw, &words).await;
    command(&mut raw, &["ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-info"]).await;
    let bench = Bench::new(&format!("redis://app:pw@127.0.0.1:{}", server.port()));
    // The slots need a moment until they are served.
    let error = loop {
        match bench.put("k", "value").await.unwrap_err() {
            error if error.is_transient() => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
            error => break error,
        }
    };
    lasting(&error, FindingTopic::ClusterMode);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eviction_policies_that_harm_are_found_and_told() {
    for (policy, is_found) in [("noeviction", true), ("volatile-ttl", true), ("allkeys-lru", false)] {
        let server = Redis::options().config("maxmemory", "64mb").config("maxmemory-policy", policy);
        let server = server.start().await.unwrap();
        let bench = Bench::new(&server.url());
        let told = Recording::on(&bench);
        let findings = bench.tier.ready().await.unwrap();
        let topics: Vec<_> = findings.iter().map(|finding| finding.topic()).collect();
        let expected = if is_found { vec![FindingTopic::EvictionPolicy] } else { Vec::new() };
        assert_eq!(topics, expected, "{policy}");
        if is_found {
            told.is_told(FindingTopic::EvictionPolicy).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_is_found() {
    let server = Redis::options().config("maxmemory", "1mb").config("maxmemory-policy", "noeviction");
    let server = server.start().await.unwrap();
    let error = Bench::new(&server.url()).tier.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    lasting(&error, FindingTopic::Memory);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn refused_writes_say_why() {
    let server = Redis::start().await.unwrap();
    let mut raw = raw(&server.url()).await;
    command(&mut raw, &["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let bench = Bench::new(&server.url());
    // Before Redis 7 a script may write all the same.
    let late = bench.put("k", "value").await.err();
    for error in late.into_iter().chain([bench.tier.ready().await.unwrap_err()]) {
        assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
        assert!(lasting(&error, FindingTopic::Role).cause().contains("min-replicas-to-write"), "{error}");
    }
    bench.get("k").await.unwrap();
}

/// A proxy that answers what a connection asks first, as a server of this version whose clock shows `seconds`.
async fn as_if(server: &Redis, version: &str, seconds: u64) -> Bench {
    let info = format!("redis_version:{version}\r\nrun_id:ab\r\n");
    let answers = format!(
        "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n${}\r\n{info}\r\n*2\r\n${}\r\n{seconds}\r\n$1\r\n0\r\n",
        info.len(),
        seconds.to_string().len(),
    );
    let port =
        meddling_proxy(server.port(), move |request| match has(request, "INFO") && has(request, "TIME") {
            true => Meddle::Answer(answers.clone().into_bytes()),
            false => Meddle::Forward(request.to_vec()),
        });
    Bench::new(&format!("redis://127.0.0.1:{}", port.await))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_versions_are_refused_and_wrong_clocks_are_found() {
    let server = Redis::start().await.unwrap();
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    for version in ["6.0.16", "5.0.14", "2.8.24"] {
        let error = as_if(&server, version, now).await.tier.ready().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        lasting(&error, FindingTopic::Version);
    }
    for seconds in [now - 60, now + 60] {
        let findings = as_if(&server, "7.2.4", seconds).await.tier.ready().await.unwrap();
        let topics: Vec<_> = findings.iter().map(|finding| finding.topic()).collect();
        assert_eq!(topics, [FindingTopic::Clock], "{findings:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_another_lua_is_refused() {
    let server = Redis::start().await.unwrap();
    let port = meddling_proxy(server.port(), |request| {
        let mut text = request.to_vec();
        // As if the server had no library of this name.
        while let Some(at) = text.windows(11).position(|word| word == b"struct.pack") {
            text[at..at + 6].copy_from_slice(b"strukt");
        }
        Meddle::Forward(text)
    });
    let error = Bench::new(&format!("redis://127.0.0.1:{}", port.await)).tier.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    lasting(&error, FindingTopic::Version);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_not_there_or_may_not_be_selected_is_named() {
    let server = Redis::start().await.unwrap();
    let error = Bench::new(&format!("{}/99", server.url())).tier.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    lasting(&error, FindingTopic::Schema);
    let mut raw = raw(&server.url()).await;
    command(&mut raw, &["ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-select"]).await;
    let url = format!("redis://app:pw@127.0.0.1:{}", server.port());
    assert_eq!(Bench::new(&url).tier.ready().await.unwrap(), []);
    let error = Bench::new(&format!("{url}/1")).tier.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(lasting(&error, FindingTopic::Permission).cause().contains("select"), "{error}");
}
