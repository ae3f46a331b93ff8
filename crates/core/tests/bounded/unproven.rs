//! Copies that are not proven any more: stale copies, batches, refreshes, and absences.

use terrace_core::{Many, MissingKeys, policy::OnStale};
use terrace_tier::defence::Defence;

use crate::{
    is_missed,
    servers::{BOUND, STORE, TIER, read, servers, with_an_old_copy},
    support::{FixedExpiry, Loader, OnStaleHit, builder, ms, without_near},
};

#[tokio::test(start_paused = true)]
async fn what_a_policy_serves_past_its_time_is_marked_and_an_absence_cannot_be() {
    for make in [builder, without_near] {
        let mut servers = servers();
        let here = servers.process(
            make()
                .freshness(OnStaleHit(OnStale::Serve))
                .expire(FixedExpiry::fresh(ms(1_000)).stale(ms(60_000))),
        );
        servers.writer.put("k", 1).await.unwrap();
        servers.relayed(&[]).await;
        assert_eq!(read(&here, "k").await, Some((1, STORE)));
        assert_eq!(read(&here, "absent").await, None);
        here.settled().await;
        servers.unrelayed(ms(2_000)).await;
        for key in ["k", "absent"] {
            servers.writer.put(key, 2).await.unwrap();
        }
        let keys = ["k".to_owned(), "absent".to_owned()];
        let many = here.get_many(&keys).await.into_values().unwrap();
        for (k, absent) in [
            (here.get("k").await.unwrap(), here.get("absent").await.unwrap()),
            (many[0].clone(), many[1].clone()),
        ] {
            assert!(k.is_some_and(|k| *k == 1 && k.served().stale));
            assert!(absent.is_some_and(|absent| *absent == 2 && !absent.served().stale));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn batches_read_past_what_is_not_proven() {
    for make in [builder, without_near] {
        let (mut servers, here) = with_an_old_copy(make()).await;
        let keys = ["k".to_owned(), "absent".to_owned(), "l".to_owned(), "k".to_owned()];
        let values = |many: Many<u64>| -> Vec<Option<u64>> {
            many.into_values().unwrap().into_iter().map(|value| value.map(|value| *value)).collect()
        };
        assert_eq!(values(here.get_many(&keys).await), [Some(2), None, Some(2), Some(2)]);
        servers.unrelayed(BOUND).await;
        let load = |missing: MissingKeys<String>| async move {
            assert_eq!(missing.keys(), ["absent"]);
            Ok::<_, std::io::Error>(missing.zip(vec![7]))
        };
        assert_eq!(values(here.get_or_load_many(&keys, load).await), [Some(2), Some(7), Some(2), Some(2)]);
        servers.relayed(&["k", "l"]).await;
        assert_eq!(values(here.get_many(&keys).await), [Some(2), Some(7), Some(2), Some(2)]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refresh_replaces_what_is_not_proven() {
    let (mut servers, here) = with_an_old_copy(without_near()).await;
    let loader = Loader::default();
    let value = here.refresh("k", |_| loader.give(9, ms(0))).await.unwrap().unwrap();
    assert_eq!((*value, loader.runs()), (2, 0));
    here.settled().await;
    servers.relayed(&[]).await;
    assert_eq!(read(&here, "k").await, Some((2, TIER)));
}

#[tokio::test(start_paused = true)]
async fn an_absence_needs_proof_too() {
    for make in [builder, without_near] {
        let mut servers = servers();
        let here = servers.process(make().expire(FixedExpiry::fresh(ms(60_000))));
        servers.relayed(&[]).await;
        assert_eq!(read(&here, "k").await, None);
        here.settled().await;
        servers.writer.put("k", 1).await.unwrap();
        assert_eq!(read(&here, "k").await, None, "no relay has dropped the absence yet");
        servers.unrelayed(BOUND).await;
        assert_eq!(read(&here, "k").await, Some((1, STORE)));
    }
}

#[test]
fn proofs_of_copies_are_missed_where_nobody_asks_for_them() {
    is_missed(Defence::Proof, || async {
        let (_servers, here) = with_an_old_copy(without_near()).await;
        read(&here, "k").await == Some((2, STORE))
    });
}
