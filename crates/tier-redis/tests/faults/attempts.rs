//! How often a handle tries to connect to a server that refuses it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use terrace_testbed::{Proxy, Redis};
use tokio::time::{Instant, sleep};

use crate::{bench::Bench, log::RecordingFollower};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_and_a_follower_try_seldom_and_find_the_server_when_it_is_back() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let bench = Arc::new(Bench::new(&format!("redis://127.0.0.1:{}", proxy.port())));
    bench.put("k", "value").await.unwrap();
    let follower = RecordingFollower::on(&bench).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    proxy.lead_to(nobody.port());
    proxy.cut().await;
    let (before, stop) = (proxy.accepted(), Arc::new(AtomicBool::new(false)));
    let writers: Vec<_> = (0..8)
        .map(|_| {
            let (bench, stop) = (Arc::clone(&bench), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let _failed = bench.put("k", "value").await;
                    sleep(Duration::from_millis(5)).await;
                }
            })
        })
        .collect();
    sleep(Duration::from_secs(3)).await;
    let attempts = proxy.accepted() - before;
    assert!((5..=60).contains(&attempts), "{attempts} attempts in 3 s");
    proxy.lead_to(server.port());
    let back = Instant::now();
    bench.recovers_within(Duration::from_secs(2)).await;
    follower.gets_heartbeat().await;
    assert!(back.elapsed() < Duration::from_secs(4), "the log after {:?}", back.elapsed());
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
}
