//! A clear makes every copy and every lease of its namespace dead.

use terrace_tier::{Condition, Fence, Op, Order, Reply, Version};

use crate::suite::{
    Outcome,
    bench::{Bench, kept},
    ensure, ensure_eq,
};

pub(crate) async fn a_clear_makes_values_dead(bench: &Bench) -> Outcome {
    let keys: Vec<_> = (0..50u8).map(|number| bench.key([number])).collect();
    for key in &keys {
        bench.put(key, "value").await?;
    }
    let negative = bench.key("negative");
    bench.write(&negative, Order::Author(Condition::Always), None, bench.long()).await?;
    bench.tier.clear().await?;
    for key in keys.iter().chain([&negative]) {
        bench.misses(key).await?;
    }
    ensure!(!bench.remove(&keys[0]).await?.0, "a dead value counts as no value");
    Ok(())
}

pub(crate) async fn a_clear_kills_leases(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    bench.tier.clear().await?;
    bench.refuses(&key, fence).await?;
    bench.misses(&key).await?;
    let next = bench.lease(&key).await?;
    ensure!(next.token != fence.token, "a dead lease must not come back");
    bench.refuses(&key, Fence { version: Version::MAX, ..fence }).await?;
    kept(&bench.fill(&key, next, "next").await?)?;
    bench.reads(&key, "next").await
}

pub(crate) async fn a_clear_kills_a_lease_over_a_value(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let old = bench.put(&key, "old").await?;
    let fence = bench.lease_for(&key, crate::suite::bench::LONG, Some(old)).await?;
    bench.tier.clear().await?;
    bench.refuses(&key, fence).await?;
    bench.misses(&key).await
}

pub(crate) async fn writes_after_a_clear_are_kept(bench: &Bench) -> Outcome {
    let (key, other) = (bench.key("k"), bench.key("other"));
    for round in 0..3 {
        let before = bench.put(&key, "before").await?;
        bench.tier.clear().await?;
        bench.misses(&key).await?;
        // A follow put must not replace the dead value as if it were an older one.
        let late = bench.follow(&key, before.next(0), "late").await?;
        ensure!(matches!(late, Reply::Refused(_)), "round {round}: nothing was there\n  found    {late:?}");
        bench.put(&key, "after").await?;
        bench.reads(&key, "after").await?;
        let fence = bench.lease(&other).await?;
        kept(&bench.fill(&other, fence, "filled").await?)?;
        bench.reads(&other, "filled").await?;
        bench.tier.clear().await?;
    }
    Ok(())
}

pub(crate) async fn a_clear_of_nothing_is_done(bench: &Bench) -> Outcome {
    bench.tier.clear().await?;
    bench.tier.clear().await?;
    bench.misses(&bench.key("k")).await
}

pub(crate) async fn a_clear_is_seen_by_every_handle(bench: &Bench) -> Outcome {
    let other = bench.through_second_handle()?;
    let (key, leased) = (bench.key("k"), bench.key("leased"));
    bench.put(&key, "value").await?;
    other.reads(&key, "value").await?;
    let fence = bench.lease(&leased).await?;
    other.tier.clear().await?;
    bench.wait(bench.subject.notified_within).await;
    bench.misses(&key).await?;
    bench.refuses(&leased, fence).await?;
    bench.put(&key, "again").await?;
    other.reads(&key, "again").await?;
    let gone = other.apply(&key, Op::Get).await?;
    ensure_eq!(gone, bench.get(&key).await?, "both handles must give the same answer");
    Ok(())
}

pub(crate) async fn a_fill_that_anothers_clear_overtook_is_never_read(bench: &Bench) -> Outcome {
    let other = bench.through_second_handle()?;
    let (leased, again) = (bench.key("leased"), bench.key("again"));
    let fence = bench.lease(&leased).await?;
    other.tier.clear().await?;
    // This handle may not know of the clear yet. Its fill must be dead all the same.
    bench.fill(&leased, fence, "old").await?;
    other.misses(&leased).await?;
    bench.wait(bench.subject.notified_within).await;
    bench.misses(&leased).await?;
    let fence = other.lease(&again).await?;
    kept(&bench.fill(&again, fence, "new").await?)?;
    other.reads(&again, "new").await
}

pub(crate) async fn a_clear_without_a_tenant_is_one_of_all_tenants(bench: &Bench) -> Outcome {
    let alice = bench.sibling(|namespace| namespace.tenant = Some("alice".into()))?;
    let unnamed = bench.sibling(|namespace| namespace.tenant = Some(String::new()))?;
    let other = bench.sibling(|namespace| namespace.name.push('2'))?;
    let others_tenant = bench.sibling(|namespace| {
        namespace.name.push('2');
        namespace.tenant = Some("alice".into());
    })?;
    let all = [bench, &alice, &unnamed, &other, &others_tenant];
    for one in all {
        one.put(&one.key("k"), "value").await?;
    }
    let fence = alice.lease(&alice.key("leased")).await?;
    bench.tier.clear().await?;
    for one in &all[..3] {
        one.misses(&one.key("k")).await?;
    }
    alice.refuses(&alice.key("leased"), fence).await?;
    for one in &all[3..] {
        one.reads(&one.key("k"), "value").await?;
    }
    alice.put(&alice.key("k"), "again").await?;
    alice.reads(&alice.key("k"), "again").await
}

/// The nearer tier was cleared after this one, and a copy that came from here now would stay in it.
pub(crate) async fn a_clear_is_seen_at_once_behind_a_nearer_tier(bench: &Bench) -> Outcome {
    let other = bench.through_second_handle()?;
    let promoted = bench.sibling(|namespace| namespace.is_promoted = true)?;
    for round in 0..10u8 {
        let key = bench.key([round]);
        other.put(&key, "dead").await?;
        promoted.reads(&key, "dead").await?;
        other.tier.clear().await?;
        promoted.misses(&key).await?;
    }
    Ok(())
}
