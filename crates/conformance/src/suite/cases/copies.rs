//! Versioned writes and invalidations in a cache tier.

use std::time::Duration;

use terrace_tier::{Condition, Level, Op, Order, Reply, Version};

use crate::suite::{
    Outcome,
    bench::{Bench, bytes, kept},
    ensure, ensure_eq,
};

pub(crate) async fn a_follow_put_replaces_an_older_value(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let old = bench.put(&key, "old").await?;
    let newer = Version::from_u64(old.as_u64() + 10);
    ensure_eq!(
        bench.follow(&key, newer, "new").await?,
        Reply::Kept(newer),
        "the put must be kept at the authority's version"
    );
    ensure_eq!(bench.hit(&key).await?.version, newer, "the version must be the authority's");
    bench.reads(&key, "new").await
}

pub(crate) async fn a_follow_put_replaces_an_older_negative_entry(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let old = kept(&bench.write(&key, Order::Author(Condition::Always), None, bench.long()).await?)?;
    kept(&bench.follow(&key, old.next(0), "created").await?)?;
    bench.reads(&key, "created").await
}

pub(crate) async fn a_follow_put_replaces_nothing_newer(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let there = bench.put(&key, "there").await?;
    let older = Version::from_u64(there.as_u64() - 1);
    for late in [there, older, Version::from_u64(1)] {
        let reply = bench.follow(&key, late, "late").await?;
        ensure!(matches!(reply, Reply::Refused(_)), "version {late} over {there}\n  found    {reply:?}");
        bench.reads(&key, "there").await?;
    }
    Ok(())
}

pub(crate) async fn a_follow_put_inserts_nothing_where_nothing_is(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let version = Version::from_u64(bench.now().as_millis() * 1000 + 60_000_000);
    ensure_eq!(
        bench.follow(&key, version, "late").await?,
        Reply::Refused(None),
        "the put may be late, and there is nothing to replace"
    );
    bench.misses(&key).await?;
    // The version of the put is the floor for later fills.
    let fence = bench.lease(&key).await?;
    let below = Version::from_u64(version.as_u64() - 1);
    let reply = bench.fill_version(&key, fence, below, "older").await?;
    ensure!(matches!(reply, Reply::Refused(_)), "a fill older than the put\n  found    {reply:?}");
    ensure_eq!(
        bench.fill_version(&key, fence, version, "same").await?,
        Reply::Kept(version),
        "a fill at the floor must be kept"
    );
    bench.reads(&key, "same").await
}

pub(crate) async fn a_late_follow_put_does_not_undo_a_remove(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let put = bench.put(&key, "value").await?;
    let (_, removed) = bench.remove(&key).await?;
    ensure_eq!(bench.follow(&key, put, "late").await?, Reply::Refused(None), "the key was removed");
    bench.misses(&key).await?;
    let fence = bench.lease(&key).await?;
    ensure!(fence.version > removed, "the floor of the remove must stay\n  found    {}", fence.version);
    Ok(())
}

pub(crate) async fn an_invalidation_drops_whatever_is_there(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let version = bench.put(&key, "value").await?;
    ensure_eq!(bench.invalidate(&key, None).await?, (true, version), "a value was there");
    bench.misses(&key).await?;
    ensure!(!bench.invalidate(&key, None).await?.0, "no value was there any more");
    Ok(())
}

pub(crate) async fn an_invalidation_of_an_absent_key_is_done(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    ensure_eq!(bench.invalidate(&key, None).await?, (false, Version::NONE), "nothing was there");
    let other = bench.key("other");
    let version = Version::from_u64(77);
    ensure_eq!(bench.invalidate(&other, Some(version)).await?, (false, version), "nothing was there");
    bench.misses(&key).await?;
    bench.misses(&other).await
}

pub(crate) async fn a_versioned_invalidation_spares_what_is_as_new(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let there = bench.put(&key, "there").await?;
    for spared in [there, Version::from_u64(there.as_u64() - 1), Version::from_u64(1)] {
        let answer = bench.invalidate(&key, Some(spared)).await?;
        ensure_eq!(answer, (false, there), "an invalidation of version {spared}");
        bench.reads(&key, "there").await?;
    }
    ensure_eq!(
        bench.invalidate(&key, Some(there.next(0))).await?,
        (true, there.next(0)),
        "an invalidation of a newer version must drop the value"
    );
    bench.misses(&key).await
}

pub(crate) async fn an_invalidation_touches_no_other_key(bench: &Bench) -> Outcome {
    let (key, other) = (bench.key("k"), bench.key("k2"));
    bench.put(&key, "value").await?;
    bench.put(&other, "other").await?;
    bench.invalidate(&key, None).await?;
    bench.reads(&other, "other").await
}

pub(crate) async fn an_invalidation_whose_tombstone_has_no_time_still_drops_the_value(
    bench: &Bench,
) -> Outcome {
    let key = bench.key("k");
    bench.put(&key, "value").await?;
    let invalidate = Op::Invalidate { version: None, tombstone_ttl: Duration::ZERO };
    let reply = bench.apply(&key, invalidate).await?;
    ensure!(matches!(reply, Reply::Done { existed: true, .. }), "a value was there\n  found    {reply:?}");
    bench.misses(&key).await
}

pub(crate) async fn an_author_stays_above_the_floor_of_an_invalidation(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let floor = Version::from_u64(bench.now().as_millis() * 1000 + 60_000_000);
    bench.invalidate(&key, Some(floor)).await?;
    let version = bench.put(&key, "value").await?;
    ensure!(version > floor, "expected above {floor}\n  found    {version}");
    bench.reads(&key, "value").await
}

pub(crate) async fn an_unfenced_put_is_kept_whatever_is_there(bench: &Bench) -> Outcome {
    let ttl = bench.sibling(|namespace| {
        namespace.name.push_str("-ttl");
        namespace.level = Level::Ttl;
    })?;
    let key = ttl.key("k");
    let put = async |version: u64, body| {
        let order = Order::Unfenced(Version::from_u64(version));
        kept(&ttl.write(&key, order, Some(bytes(body)), ttl.long()).await?)
    };
    for (version, body) in [(5, "five"), (9, "nine"), (3, "three"), (3, "three again")] {
        ensure_eq!(
            put(version, body).await?,
            Version::from_u64(version),
            "the put must be kept at its own version"
        );
        ttl.reads(&key, body).await?;
        ensure_eq!(ttl.hit(&key).await?.version, Version::from_u64(version), "the version must come back");
    }
    ttl.invalidate(&key, None).await?;
    ttl.misses(&key).await?;
    put(4, "four").await?;
    ttl.reads(&key, "four").await?;
    ttl.tier.clear().await?;
    ttl.misses(&key).await
}

pub(crate) async fn handles_see_each_others_writes_and_leases(bench: &Bench) -> Outcome {
    let other = bench.through_second_handle()?;
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    ensure_eq!(other.lease(&key).await?.token, fence.token, "both handles must share one lease");
    kept(&other.fill(&key, fence, "by the second handle").await?)?;
    bench.refuses(&key, fence).await?;
    bench.reads(&key, "by the second handle").await?;
    bench.invalidate(&key, None).await?;
    other.misses(&key).await?;
    let fence = other.lease(&key).await?;
    bench.remove(&key).await?;
    other.refuses(&key, fence).await?;
    let version = bench.put(&key, "by the first handle").await?;
    ensure_eq!(other.hit(&key).await?.version, version, "both handles must see one version");
    Ok(())
}
