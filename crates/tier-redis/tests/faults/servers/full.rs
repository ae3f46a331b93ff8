//! A server whose memory is full.

use terrace_testbed::Redis;
use terrace_tier::{Deadlines, ErrorKind, FindingTopic, Op, Reply, Timestamp};

use super::command;
use crate::{
    bench::{Bench, kind_of, raw},
    log::RecordingFollower,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_drops_or_ends_a_copy_works_on_a_full_server() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let other = bench.other_process();
    let follower = RecordingFollower::on(&other).await;
    for key in ["invalidated", "removed", "cleared", "expired"] {
        bench.put(key, "old").await.unwrap();
        other.reads(key, "old").await;
    }
    let mut raw = raw(&server.url()).await;
    command(&mut raw, &["CONFIG", "SET", "maxmemory", "1"]).await;
    let error = bench.put("k", "new").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly);
    assert_eq!(error.finding().unwrap().topic(), FindingTopic::Memory);
    let tombstone_ttl = std::time::Duration::from_secs(60);
    let invalidate = Op::Invalidate { version: None, tombstone_ttl };
    let reply = bench.tier.apply(&bench.key("invalidated"), invalidate.clone()).await.unwrap();
    assert!(matches!(reply, Reply::Done { existed: true, .. }), "{reply:?}");
    let reply = bench.tier.apply(&bench.key("removed"), Op::Remove { tombstone_ttl }).await.unwrap();
    assert!(matches!(reply, Reply::Done { existed: true, .. }), "{reply:?}");
    for key in ["invalidated", "removed"] {
        other.misses(key).await;
        follower.is_notified_of(key).await;
    }
    other.reads("cleared", "old").await;
    other.reads("expired", "old").await;
    // A life that is to end at once ends, too.
    let reply = bench
        .tier
        .apply(
            &bench.key("expired"),
            Op::Expire { deadlines: Deadlines::ttl(Timestamp::default(), std::time::Duration::ZERO) },
        )
        .await
        .unwrap();
    assert!(matches!(reply, Reply::Done { existed: true, .. }), "{reply:?}");
    other.misses("expired").await;
    bench.tier.clear().await.unwrap();
    bench.misses("cleared").await;
    // Batches, and keys and epochs that the server does not hold.
    let batch = (0..10).map(|number| (bench.key(&number.to_string()), invalidate.clone())).collect();
    assert!(bench.tier.apply_many(batch).await.iter().all(Result::is_ok));
    let fresh = Bench::new(&server.url());
    fresh.tier.apply(&fresh.key("k"), invalidate).await.unwrap();
    fresh.tier.clear().await.unwrap();
    command(&mut raw, &["CONFIG", "SET", "maxmemory", "0"]).await;
    bench.put("k", "new").await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_is_begun_anew_on_a_full_server() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let follower = RecordingFollower::on(&bench).await;
    let mut raw = raw(&server.url()).await;
    command(&mut raw, &["CONFIG", "SET", "maxmemory", "1"]).await;
    command(&mut raw, &["DEL", "terrace:$log-head", "terrace:$log"]).await;
    follower.is_lost().await;
    follower.gets_heartbeat().await;
    assert_eq!(kind_of(bench.put("k", "new").await), ErrorKind::ReadOnly);
}
