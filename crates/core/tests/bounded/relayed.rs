//! Copies in a shared tier and near, while a relay proves them and after it has stopped.

use terrace_conformance::Fake;
use terrace_core::Source;
use terrace_tier::defence::Defence;

use crate::{
    is_missed,
    servers::{BOUND, LEVEL, STORE, TIER, read, servers},
    support::{ReplayableStore, builder, ms, without_near},
};

#[tokio::test(start_paused = true)]
async fn copies_are_trusted_while_a_relay_proves_them() {
    let mut servers = servers();
    let (here, there) = (servers.process(builder()), servers.process(builder()));
    servers.relayed(&[]).await;
    there.put("k", 1).await.unwrap();
    assert_eq!(read(&here, "k").await, Some((1, STORE)), "a put must not fill a tier that had no copy");
    here.settled().await;
    servers.relayed(&[]).await;
    let third = servers.process(builder());
    assert_eq!(read(&third, "k").await, Some((1, STORE)), "the third process knows no watermark yet");
    servers.relayed(&[]).await;
    let fourth = third.clone();
    fourth.invalidate("other").await.unwrap();
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
    servers.unrelayed(ms(100)).await;
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
}

#[tokio::test(start_paused = true)]
async fn a_copy_of_the_tier_is_an_answer_within_the_bound_and_is_read_past_beyond_it() {
    let mut servers = servers();
    let here = servers.process(without_near());
    servers.copied_to(&[&here]).await;
    assert_eq!(read(&here, "k").await, Some((1, TIER)));
    servers.unrelayed(BOUND).await;
    assert_eq!(read(&here, "k").await, Some((1, STORE)), "the watermark is too old");
    assert_eq!(here.stats().tier("redis").unwrap().unproven, 1);
    servers.relayed(&[]).await;
    assert_eq!(read(&here, "k").await, Some((1, TIER)));
}

#[tokio::test(start_paused = true)]
async fn near_copies_are_unproven_when_watermarks_stop_although_heartbeats_go_on() {
    let mut servers = servers();
    let here = servers.process(builder());
    servers.copied_to(&[&here]).await;
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
    servers.unrelayed(BOUND).await;
    assert_eq!(read(&here, "k").await, Some((1, STORE)));
    assert_eq!(here.stats().tier("near").unwrap().unproven, 1);
    assert_eq!(
        read(&here, "k").await,
        Some((1, Source::Near)),
        "the copy is proven by the time of its own read"
    );
    servers.unrelayed(BOUND).await;
    servers.relayed(&[]).await;
    assert_eq!(
        read(&here, "k").await,
        Some((1, TIER)),
        "the near copy was proven only by the time of its own read"
    );
    assert_eq!(read(&here, "k").await, Some((1, Source::Near)));
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_writer_committed_is_read_once_the_bound_has_passed() {
    let mut servers = servers();
    let (near, far) = (servers.process(builder()), servers.process(without_near()));
    servers.copied_to(&[&near, &far]).await;
    servers.writer.put("k", 2).await.unwrap();
    for cache in [&near, &far] {
        assert_eq!(read(cache, "k").await.unwrap().0, 1, "no relay has dropped the copy yet");
    }
    servers.unrelayed(BOUND).await;
    for cache in [&near, &far] {
        assert_eq!(read(cache, "k").await, Some((2, STORE)));
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_relay_drops_is_read_at_once() {
    let mut servers = servers();
    let (near, far) = (servers.process(builder()), servers.process(without_near()));
    servers.copied_to(&[&near, &far]).await;
    servers.writer.put("k", 2).await.unwrap();
    servers.relayed(&["k"]).await;
    for cache in [&near, &far] {
        assert_eq!(read(cache, "k").await.unwrap().0, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn one_watermark_proves_the_copies_of_all_tenants() {
    let mut servers = servers();
    let tenant = |redis: Fake, db: Fake| {
        let stack = without_near().clock(&servers.hand).level(LEVEL).tier(redis).store(ReplayableStore(db));
        stack.build_per_tenant().unwrap().tenant("ann").unwrap()
    };
    let here = tenant(servers.redis.another_handle(), servers.db.another_handle());
    here.put("k", 1).await.unwrap();
    servers.relayed(&[]).await;
    read(&here, "k").await;
    here.settled().await;
    assert_eq!(read(&here, "k").await, Some((1, TIER)));
    servers.unrelayed(BOUND).await;
    assert_eq!(read(&here, "k").await, Some((1, STORE)));
}

#[test]
fn watermarks_are_missed_where_near_relies_on_heartbeats() {
    is_missed(Defence::Watermarks, || async {
        let mut servers = servers();
        let here = servers.process(builder());
        servers.copied_to(&[&here]).await;
        servers.writer.put("k", 2).await.unwrap();
        servers.unrelayed(BOUND).await;
        read(&here, "k").await == Some((2, STORE))
    });
}
