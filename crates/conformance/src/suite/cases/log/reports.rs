//! The changes that a log reports, their order, and its heartbeats.

use std::time::Duration;

use terrace_tier::{Condition, Deadlines, Notice, Op, Order, TierKey, Version};
use tokio::time::Instant;

use super::follower::{Event, RecordingFollower};
use crate::suite::{
    Bench, Failure, Outcome,
    bench::{LONG, bytes, kept},
    ensure, ensure_eq,
};

pub(crate) async fn nothing_is_proven_before_the_log_was_followed(bench: &Bench) -> Outcome {
    let follower = bench.follow_log().await?;
    let first = follower.events().into_iter().next();
    ensure_eq!(first, Some(Event::Notice(Notice::Lost)), "the first notice must be `Lost`");
    Ok(())
}

pub(crate) async fn puts_and_removes_are_reported_in_order_with_their_versions(bench: &Bench) -> Outcome {
    let (follower, other) = (bench.follow_log().await?, bench.through_second_handle()?);
    let (key, absent) = (bench.key("k"), bench.key("absent"));
    let first = other.put(&key, "first").await?;
    let second = other.put(&key, "second").await?;
    let (_, removed) = other.remove(&key).await?;
    let (_, never) = other.remove(&absent).await?;
    let third = kept(&other.put_if(&key, Condition::Absent, "third").await?)?;
    let expected = [
        bench.notice(&key, first),
        bench.notice(&key, second),
        bench.notice(&key, removed),
        bench.notice(&absent, never),
        bench.notice(&key, third),
    ];
    ensure_eq!(follower.wait_for(5).await?, expected, "the log must report every write");
    Ok(())
}

pub(crate) async fn changed_deadlines_are_reported(bench: &Bench) -> Outcome {
    let (follower, other, key) = (bench.follow_log().await?, bench.through_second_handle()?, bench.key("k"));
    let version = other.put(&key, "value").await?;
    other.expire(&key, Deadlines::ttl(bench.now(), Duration::from_secs(60))).await?;
    let expected = [bench.notice(&key, version), bench.notice(&key, None)];
    ensure_eq!(
        follower.wait_for(2).await?,
        expected,
        "the log must report the new deadlines, so that copies with the old ones go"
    );
    Ok(())
}

pub(crate) async fn a_refused_put_is_not_reported(bench: &Bench) -> Outcome {
    let (follower, other, key) = (bench.follow_log().await?, bench.through_second_handle()?, bench.key("k"));
    let first = other.put(&key, "first").await?;
    other.put_if(&key, Condition::Absent, "refused").await?;
    let second = other.put(&key, "second").await?;
    let expected = [bench.notice(&key, first), bench.notice(&key, second)];
    ensure_eq!(follower.wait_for(2).await?, expected, "a refused put changed nothing");
    Ok(())
}

pub(crate) async fn a_batch_of_puts_is_reported_key_by_key(bench: &Bench) -> Outcome {
    let (follower, other) = (bench.follow_log().await?, bench.through_second_handle()?);
    let keys: Vec<TierKey> = (0..20u8).map(|number| bench.key([b'k', number])).collect();
    let put = |key: &TierKey| {
        let (order, deadlines) = (Order::Author(Condition::Always), bench.long());
        (key.clone(), Op::Put { order, deadlines, body: Some(bytes("value")), tombstone_ttl: LONG })
    };
    let mut expected = Vec::new();
    for (key, reply) in keys.iter().zip(other.tier.apply_many(keys.iter().map(put).collect()).await) {
        expected.push(bench.notice(key, kept(&reply?)?));
    }
    let reported = follower.wait_for(keys.len()).await?;
    ensure!(reported.len() == expected.len(), "the log must report each key once: {reported:?}");
    let all = expected.iter().all(|notice| reported.contains(notice));
    ensure!(all, "the log must report every key of the batch: {reported:?}");
    Ok(())
}

pub(crate) async fn tenants_are_named_and_namespaces_apart(bench: &Bench) -> Outcome {
    let follower = bench.follow_log().await?;
    let tenant = bench.through_second_handle()?.sibling_through_second(|namespace| {
        namespace.tenant = Some("acme".to_owned());
    })?;
    let elsewhere = bench.through_second_handle()?.sibling_through_second(|namespace| {
        namespace.name.push_str("-other");
    })?;
    let key = bench.key("k");
    elsewhere.put(&elsewhere.key("k"), "of another namespace").await?;
    let version = tenant.put(&tenant.key("k"), "of a tenant").await?;
    let own = bench.through_second_handle()?.put(&key, "of no tenant").await?;
    let expected = [tenant.notice(&key, version), bench.notice(&key, own)];
    ensure_eq!(
        follower.wait_for(2).await?,
        expected,
        "the log must report all tenants of the namespace, and no other namespace"
    );
    Ok(())
}

/// A heartbeat carries a time: the log must have reported each write that was acknowledged before it.
pub(crate) async fn a_heartbeat_is_never_ahead_of_what_was_reported(bench: &Bench) -> Outcome {
    let (follower, other) = (bench.follow_log().await?, bench.through_second_handle()?);
    for round in 0..20u8 {
        let key = bench.key([round]);
        let version = other.put(&key, "value").await?;
        let acknowledged = Instant::now();
        follower.wait_for_heartbeat(acknowledged).await?;
        let mut reported = false;
        for event in follower.events() {
            match event {
                Event::Notice(notice) => reported |= notice == bench.notice(&key, version),
                Event::Heartbeat { at, received } => {
                    ensure!(at <= received, "a heartbeat must not be of a time to come");
                    ensure!(
                        reported || at < acknowledged,
                        "round {round}: the heartbeat was before the report"
                    );
                }
            }
        }
    }
    Ok(())
}

pub(crate) async fn heartbeats_go_on_while_nothing_happens(bench: &Bench) -> Outcome {
    let follower = bench.follow_log().await?;
    for _ in 0..5 {
        follower.wait_for_heartbeat(Instant::now()).await?;
    }
    ensure_eq!(follower.notices(), Vec::new(), "nothing was written, so the log must report nothing");
    Ok(())
}

pub(crate) async fn a_log_that_was_lost_is_reported_as_lost(bench: &Bench) -> Outcome {
    let Some(lose) = &bench.subject.lose_log else {
        let what = "this case needs `Subject::lose_log`".to_owned();
        return Err(Failure::Broken { at: "the subject".to_owned(), what });
    };
    let (follower, other, key) = (bench.follow_log().await?, bench.through_second_handle()?, bench.key("k"));
    other.put(&key, "before").await?;
    follower.wait_for(1).await?;
    lose(bench.namespace.clone()).await;
    let lost = |follower: &RecordingFollower| follower.notices().contains(&Notice::Lost);
    follower.wait_until("a log that was lost must report `Lost`", lost).await?;
    follower.wait_for_heartbeat(Instant::now()).await?;
    let version = other.put(&key, "after").await?;
    let reported =
        |follower: &RecordingFollower| follower.notices().last() == Some(&bench.notice(&key, version));
    follower.wait_until("after a loss the log must report new changes", reported).await
}

pub(crate) async fn changes_of_copies_are_reported_in_order(bench: &Bench) -> Outcome {
    let (follower, other, key) = (bench.follow_log().await?, bench.through_second_handle()?, bench.key("k"));
    let first = other.put(&key, "first").await?;
    let second = first.next(0);
    kept(&other.follow(&key, second, "second").await?)?;
    other.invalidate(&key, Some(second.next(0))).await?;
    other.invalidate(&key, None).await?;
    other.tier.clear().await?;
    let expected = [
        bench.notice(&key, first),
        bench.notice(&key, second),
        bench.notice(&key, second.next(0)),
        bench.notice(&key, None),
        Notice::Clear { tenant: None },
    ];
    ensure_eq!(follower.wait_for(5).await?, expected, "the log must report every change");
    Ok(())
}

/// A reader may have filled the new value before the write arrived. Other near tiers still keep the old
/// one, so the log must report the write.
pub(crate) async fn changes_that_change_no_cell_are_reported(bench: &Bench) -> Outcome {
    let (follower, other) = (bench.follow_log().await?, bench.through_second_handle()?);
    let (key, absent) = (bench.key("k"), bench.key("absent"));
    let newest = other.put(&key, "newest").await?;
    let old = Version::from_u64(newest.as_u64() - 1);
    other.follow(&key, old, "late").await?;
    other.invalidate(&key, Some(old)).await?;
    other.follow(&absent, newest, "late").await?;
    other.invalidate(&absent, None).await?;
    let expected = [
        bench.notice(&key, newest),
        bench.notice(&key, old),
        bench.notice(&key, old),
        bench.notice(&absent, newest),
        bench.notice(&absent, None),
    ];
    ensure_eq!(
        follower.wait_for(5).await?,
        expected,
        "the log must report a change whether or not it changed the cell"
    );
    other.reads(&key, "newest").await
}

pub(crate) async fn fills_and_leases_are_not_reported(bench: &Bench) -> Outcome {
    let (follower, other) = (bench.follow_log().await?, bench.through_second_handle()?);
    let (key, last) = (bench.key("k"), bench.key("last"));
    let fence = other.lease(&key).await?;
    let kept = other.fill(&key, fence, "filled").await?;
    ensure!(matches!(kept, terrace_tier::Reply::Kept(_)), "the fill must be kept: {kept:?}");
    let version = other.put(&last, "value").await?;
    ensure_eq!(
        follower.wait_for(1).await?,
        [bench.notice(&last, version)],
        "the log must report neither the lease nor the fill: they change nothing for readers"
    );
    Ok(())
}

pub(crate) async fn a_followers_own_put_is_reported_and_its_drops_need_not_be(bench: &Bench) -> Outcome {
    let (follower, key) = (bench.follow_log().await?, bench.key("k"));
    bench.invalidate(&key, None).await?;
    bench.tier.clear().await?;
    let version = bench.put(&key, "value").await?;
    let reported = |follower: &RecordingFollower| follower.notices().contains(&bench.notice(&key, version));
    follower
        .wait_until(
            "a follower's own put may arrive after its writer gave up, so it must be reported",
            reported,
        )
        .await
}

pub(crate) async fn a_clear_of_one_tenant_is_reported_as_such(bench: &Bench) -> Outcome {
    let follower = bench.follow_log().await?;
    let tenant = bench.through_second_handle()?.sibling_through_second(|namespace| {
        namespace.tenant = Some("acme".to_owned());
    })?;
    tenant.tier.clear().await?;
    let expected = [Notice::Clear { tenant: Some("acme".to_owned()) }];
    ensure_eq!(follower.wait_for(1).await?, expected, "the log must report whose copies are dead");
    Ok(())
}

/// A handle may know the epoch of a clear by another handle late, but not after its log has reported the
/// clear: a near tier would keep the dead copy, and hear nothing of it again.
pub(crate) async fn a_read_after_a_reported_clear_finds_no_dead_copy(bench: &Bench) -> Outcome {
    let (follower, other) = (bench.follow_log().await?, bench.through_second_handle()?);
    for round in 1..=20 {
        let key = bench.key([round]);
        other.put(&key, "dead").await?;
        bench.reads(&key, "dead").await?;
        other.tier.clear().await?;
        let is_clear = |notice: &&Notice| matches!(notice, Notice::Clear { .. });
        let reported = |follower: &RecordingFollower| {
            follower.notices().iter().filter(is_clear).count() >= usize::from(round)
        };
        follower.wait_until("the log must report the clear", reported).await?;
        bench.misses(&key).await?;
    }
    Ok(())
}
