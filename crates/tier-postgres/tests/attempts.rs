//! How often a handle tries to connect to a server that refuses it.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use support::{follower::RecordingFollower, key, namespace, put};
use terrace_testbed::{Proxy, shared_postgres};
use terrace_tier::{Backend, Role};
use terrace_tier_postgres::Postgres;
use tokio::time::{Instant, sleep};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_a_follower_try_seldom_and_find_the_server_when_it_is_back() {
    let direct = shared_postgres().await.expect("a server");
    let mut url = url::Url::parse(&direct).expect("a URL");
    let (host, port) = (url.host_str().expect("a host").to_owned(), url.port().expect("a port"));
    assert!(["127.0.0.1", "localhost"].contains(&host.as_str()), "{host}");
    let proxy = Proxy::start(port).expect("a proxy");
    url.set_host(Some("127.0.0.1")).expect("a host");
    url.set_port(Some(proxy.port())).expect("a port");
    let handle = Postgres::new(url.as_str()).expect("a URL");
    let tier = handle.open(&namespace(Role::Store)).expect("a tier");
    tier.apply(&key(1), put("v")).await.expect("done");
    let follower = RecordingFollower::new();
    handle.log().expect("a log").follow("users", follower.weak());
    follower.caught_up().await;

    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("a port");
    proxy.lead_to(nobody.port());
    proxy.cut().await;
    let (before, stop) = (proxy.accepted(), Arc::new(AtomicBool::new(false)));
    let failed = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..8)
        .map(|number| {
            let (tier, stop, failed) = (Arc::clone(&tier), Arc::clone(&stop), Arc::clone(&failed));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let done = tier.apply(&key(number), put("v")).await;
                    failed.fetch_add(u64::from(done.is_err()), Ordering::Relaxed);
                    sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    sleep(Duration::from_secs(3)).await;
    let attempts = proxy.accepted() - before;
    assert!(failed.load(Ordering::Relaxed) > 100, "they fail at once: {failed:?}");
    assert!((5..=40).contains(&attempts), "{attempts} attempts in 3 s");

    proxy.lead_to(port);
    let back = Instant::now();
    while tier.apply(&key(1), put("v")).await.is_err() {
        sleep(Duration::from_millis(5)).await;
    }
    assert!(back.elapsed() < Duration::from_secs(2), "back after {:?}", back.elapsed());
    follower.caught_up().await;
    assert!(back.elapsed() < Duration::from_secs(4), "the log after {:?}", back.elapsed());
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("a writer");
    }
}
