//! Stopped processes, tiers that go back in time, gaps in the log, and a store that is down.

use terrace_conformance::Saved;

use crate::{
    servers::{BOUND, STORE, TIER, read, servers},
    support::{Loader, ServeOnError, builder, ms, pass, without_near},
};

/// Anomaly 6.
#[tokio::test(start_paused = true)]
async fn a_process_that_was_stopped_believes_nothing_when_it_goes_on() {
    let mut servers = servers();
    let here = servers.process(builder());
    servers.copied_to(&[&here]).await;
    servers.redis.log().hold(true);
    servers.relayed(&[]).await;
    servers.writer.put("k", 2).await.unwrap();
    pass(&servers.hand, BOUND).await;
    // The log reports the changes that it held back. None of them is newer than the stop.
    servers.redis.log().hold(false);
    assert_eq!(read(&here, "k").await, Some((2, STORE)));
}

/// Anomaly 7: the tier goes back in time, and no process had read further in its log.
#[tokio::test(start_paused = true)]
async fn a_tier_that_went_back_is_read_past_until_a_relay_has_caught_up() {
    let mut servers = servers();
    let here = servers.process(without_near());
    servers.copied_to(&[&here]).await;
    let (saved, watermark): (Saved, _) = (servers.redis.save(), servers.relay.watermark);
    servers.writer.put("k", 2).await.unwrap();
    servers.relayed(&["k"]).await;
    servers.unrelayed(BOUND - ms(100)).await;
    servers.redis.go_back(&saved);
    servers.unrelayed(ms(60)).await;
    assert_eq!(
        read(&here, "k").await,
        Some((2, STORE)),
        "the copy of 1 is back with its old watermark, so the read must go to the store"
    );
    assert!(!servers.relay.publish(&[]).await, "the tier must refuse a step that expects another watermark");
    servers.relay.watermark = watermark;
    servers.relayed(&["k"]).await;
    assert_eq!(read(&here, "k").await.unwrap().0, 2);
    here.settled().await;
    assert_eq!(read(&here, "k").await, Some((2, TIER)));
}

#[tokio::test(start_paused = true)]
async fn near_over_a_tier_that_went_back_is_as_new() {
    let mut servers = servers();
    let here = servers.process(builder());
    servers.copied_to(&[&here]).await;
    let (saved, watermark) = (servers.redis.save(), servers.relay.watermark);
    servers.writer.put("k", 2).await.unwrap();
    servers.relayed(&["k"]).await;
    assert_eq!(read(&here, "k").await.unwrap().0, 2);
    servers.unrelayed(BOUND).await;
    servers.redis.go_back(&saved);
    servers.redis.log().lose();
    servers.redis.log().beat();
    assert_eq!(read(&here, "k").await, Some((2, STORE)));
    servers.relay.watermark = watermark;
    servers.relayed(&["k"]).await;
    assert_eq!(read(&here, "k").await.unwrap().0, 2);
}

#[tokio::test(start_paused = true)]
async fn a_gap_in_the_log_ends_the_proofs_that_it_covers() {
    let mut servers = servers();
    let here = servers.process(without_near());
    servers.copied_to(&[&here]).await;
    servers.redis.log().lose();
    assert_eq!(read(&here, "k").await, Some((1, STORE)));
    servers.relayed(&[]).await;
    assert_eq!(read(&here, "k").await, Some((1, TIER)));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_proven_is_an_error_or_marked_stale_where_the_store_is_away() {
    let mut servers = servers();
    for make in [builder, without_near] {
        let (strict, lenient) = (servers.process(make()), servers.process(make().freshness(ServeOnError)));
        servers.db.set_down(false);
        servers.copied_to(&[&strict, &lenient]).await;
        servers.unrelayed(BOUND).await;
        servers.db.set_down(true);
        assert!(strict.get("k").await.unwrap_err().is_transient());
        let value = lenient.get("k").await.unwrap().unwrap();
        assert!(*value == 1 && value.served().stale);
        let loader = Loader::default();
        let value = lenient.get_or_load("k", || loader.give(9, ms(0))).await.unwrap();
        assert!(*value == 1 && value.served().stale);
        let many = lenient.get_many(&["k".to_owned()]).await.into_values().unwrap();
        assert!(many[0].as_ref().is_some_and(|value| value.served().stale));
    }
}
