//! What listens at the port: RESP2 servers and proxies, unix sockets, other protocols.

use std::time::Duration;

use terrace_testbed::{Proxy, Redis};
use terrace_tier::{ErrorKind, FindingTopic, LeaseWaiter, Token, lease::LeaseEnd};
use tokio::time::{Instant, timeout};

use super::{Meddle, fake_server, has, lasting, meddling_proxy};
use crate::{
    bench::{Bench, fill, lease_by, put},
    log::RecordingFollower,
};

/// What a tier does, on a server that speaks whatever it speaks.
async fn works(bench: &Bench) {
    let follower = RecordingFollower::on(bench).await;
    let other = bench.other_process();
    bench.put("k", "value").await.unwrap();
    bench.reads("k", "value").await;
    let batch = (0..100).map(|number| (bench.key(&number.to_string()), put("many"))).collect();
    assert!(bench.tier.apply_many(batch).await.iter().all(Result::is_ok));
    other.reads("99", "many").await;
    other.put("there", "new").await.unwrap();
    follower.is_notified_of("there").await;
    bench.tier.clear().await.unwrap();
    bench.misses("k").await;
    // Another process waits for a lease and hears of its end.
    let token = Token::random();
    bench.tier.apply(&bench.key("leased"), lease_by(token)).await.unwrap();
    let fence = bench.lease("leased").await.unwrap();
    assert_eq!(fence.token, token);
    let waiter: &dyn LeaseWaiter = other.tier.lease_waiter().unwrap();
    let _held = bench.tier.lease_waiter().unwrap().hold(&bench.key("leased"), token);
    let end = waiter.wait(&other.key("leased"), token);
    bench.tier.apply(&bench.key("leased"), fill(fence, "filled")).await.unwrap();
    assert_eq!(timeout(Duration::from_secs(20), end).await.unwrap().unwrap(), LeaseEnd::Changed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_hello_is_spoken_to_in_resp2() {
    let server = Redis::options().password("S3cret").config("rename-command", "HELLO \"\"");
    let server = server.start().await.unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let bench = Bench::new(&format!("redis://:S3cret@127.0.0.1:{}/2", proxy.port()));
    let findings = bench.tier.ready().await.unwrap();
    assert_eq!(findings.iter().map(|finding| finding.topic()).collect::<Vec<_>>(), [FindingTopic::Protocol]);
    works(&bench).await;
    let mut raw = crate::bench::raw(&server.url()).await;
    let keys: usize = redis::cmd("DBSIZE").query_async(&mut raw).await.unwrap();
    assert_eq!(keys, 0, "the database of the URL is used");
    // No push says that the connection is gone, and no call asks.
    let before = proxy.accepted();
    proxy.cut().await;
    let start = Instant::now();
    while proxy.accepted() == before {
        assert!(start.elapsed() < Duration::from_secs(2), "the loss of the connection must be found");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.recovers_within(Duration::from_secs(2)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_proxy_that_refuses_resp3_is_spoken_to_in_resp2() {
    let server = Redis::start().await.unwrap();
    for refusal in ["-NOPROTO unsupported protocol version\r\n", "-ERR unknown command `HELLO`\r\n"] {
        let port = meddling_proxy(server.port(), move |request| match has(request, "HELLO") {
            true => Meddle::Answer(refusal.as_bytes().to_vec()),
            false => Meddle::Forward(request.to_vec()),
        });
        let bench = Bench::new(&format!("redis://127.0.0.1:{}", port.await));
        let findings = bench.tier.ready().await.unwrap();
        assert_eq!(findings[0].topic(), FindingTopic::Protocol, "{findings:?}");
        works(&bench).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("redis.sock");
    let server = Redis::options().password("S3cret").config("unixsocket", socket.to_str().unwrap());
    let server = server.start().await.unwrap();
    for scheme in ["redis+unix", "unix", "valkey+unix"] {
        let bench = Bench::new(&format!("{scheme}://{}?pass=S3cret&db=3", socket.display()));
        assert_eq!(bench.tier.ready().await.unwrap(), []);
        works(&bench).await;
    }
    drop(server);
    let bench = Bench::new(&format!("unix://{}", folder.path().join("nothing").display()));
    assert_eq!(bench.tier.ready().await.unwrap_err().kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_scheme_of_valkey_is_that_of_redis() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&format!("valkey://127.0.0.1:{}", server.port()));
    assert_eq!(bench.tier.ready().await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_speaks_another_protocol_is_a_config_error_that_says_which() {
    let server = Redis::start().await.unwrap();
    let locked = Redis::options().password("S3cret").start().await.unwrap();
    let http = fake_server(|_| b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec()).await;
    let mail = fake_server(|_| b"500 unknown command\r\n".to_vec()).await;
    for (scheme, port, words) in [
        ("rediss", server.port(), "speaks no TLS"),
        ("rediss", locked.port(), "speaks no TLS"),
        ("redis", http, "HTTP server"),
        ("rediss", http, "HTTP server"),
        ("redis", mail, "no Redis server"),
        ("rediss", mail, "no Redis server"),
    ] {
        let bench = Bench::new(&format!("{scheme}://:S3cret@127.0.0.1:{port}"));
        let error = bench.tier.ready().await.unwrap_err();
        let finding = lasting(&error, FindingTopic::Protocol);
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(finding.cause().contains(words), "{scheme} {words}: {error}");
        let error = bench.get("k").await.unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_in_protected_mode_says_so() {
    let answer = "-DENIED Redis is running in protected mode because protected mode is enabled\r\n";
    let port = fake_server(move |_| answer.as_bytes().to_vec()).await;
    let error = Bench::new(&format!("redis://127.0.0.1:{port}")).tier.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert!(lasting(&error, FindingTopic::Permission).cause().contains("protected mode"), "{error}");
}
