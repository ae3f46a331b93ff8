//! Leases as the fence of fills in a cache tier.

use std::time::Duration;

use terrace_tier::{Deadlines, Fence, Op, Order, Reply, Token, Version};

use crate::suite::{
    Outcome,
    bench::{Bench, LONG, bytes, kept, lease_op},
    ensure, ensure_eq,
};

pub(crate) async fn a_fill_over_its_lease_is_kept(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    ensure!(fence.token != Token::NONE, "a lease must have a token");
    bench.misses(&key).await?;
    let deadlines = bench.long();
    let fill = Op::Fill { fence, version: fence.version, deadlines, body: Some(bytes("loaded")) };
    let version = kept(&bench.apply(&key, fill).await?)?;
    ensure_eq!(version, fence.version, "a fill must be kept at its own version");
    let stored = bench.hit(&key).await?;
    ensure_eq!(stored.body, Some(bytes("loaded")), "the body must come back");
    ensure_eq!(
        (stored.version, stored.deadlines),
        (version, deadlines),
        "the version and deadlines must come back"
    );
    Ok(())
}

pub(crate) async fn a_lease_on_a_value_is_a_hit(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    bench.put(&key, "value").await?;
    let reply = bench
        .apply(&key, Op::Lease { token: Token::random(), ttl: LONG, over: None, replaces: Token::NONE })
        .await?;
    ensure_eq!(reply, Reply::Hit(bench.hit(&key).await?), "a lease must not hide the value");
    Ok(())
}

pub(crate) async fn absence_rejects_a_fill(bench: &Bench) -> Outcome {
    let key = bench.key("never leased");
    let fence = Fence { token: Token::random(), version: Version::from_u64(1) };
    bench.refuses(&key, fence).await?;
    bench.misses(&key).await
}

pub(crate) async fn a_fill_without_a_token_is_refused(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    bench.refuses(&key, Fence::default()).await?;
    bench.lease(&key).await?;
    bench.refuses(&key, Fence::default()).await?;
    let value = bench.key("value");
    bench.put(&value, "value").await?;
    bench.refuses(&value, Fence { token: Token::NONE, version: Version::MAX }).await?;
    bench.reads(&value, "value").await?;
    bench.misses(&key).await
}

pub(crate) async fn a_fill_over_another_token_is_refused(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    bench.refuses(&key, Fence { token: Token::random(), ..fence }).await?;
    bench.misses(&key).await?;
    kept(&bench.fill(&key, fence, "mine").await?)?;
    bench.reads(&key, "mine").await
}

pub(crate) async fn readers_share_a_living_lease_and_the_first_fill_wins(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let first = bench.lease(&key).await?;
    let second = bench.lease(&key).await?;
    ensure_eq!(second.token, first.token, "readers must share a lease: it is a fence, not a lock");
    kept(&bench.fill(&key, second, "fast").await?)?;
    bench.refuses(&key, first).await?;
    bench.reads(&key, "fast").await
}

pub(crate) async fn a_fence_permits_one_fill(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    kept(&bench.fill(&key, fence, "once").await?)?;
    bench.refuses(&key, fence).await?;
    bench.reads(&key, "once").await
}

pub(crate) async fn a_lease_permits_no_fill_of_another_key(bench: &Bench) -> Outcome {
    let (key, other) = (bench.key("k"), bench.key("other"));
    let fence = bench.lease(&key).await?;
    bench.lease(&other).await?;
    bench.refuses(&other, fence).await?;
    bench.misses(&other).await
}

pub(crate) async fn an_invalidation_kills_the_lease(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    bench.invalidate(&key, None).await?;
    bench.refuses(&key, fence).await?;
    bench.misses(&key).await
}

pub(crate) async fn a_versioned_invalidation_kills_the_lease(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    // Even an old version kills the lease: the tier knew of no version when it granted the lease.
    bench.invalidate(&key, Some(Version::from_u64(1))).await?;
    bench.refuses(&key, fence).await?;
    bench.misses(&key).await
}

/// The tombstone was there before the lease, so the holder of the lease read the origin after the version
/// of the tombstone had been committed.
pub(crate) async fn a_change_older_than_the_lease_spares_it(bench: &Bench) -> Outcome {
    for change in ["follow", "invalidate"] {
        let key = bench.key(change);
        let put = bench.put(&key, "old").await?;
        let (_, known) = bench.invalidate(&key, Some(put.next(0))).await?;
        let apply_late = async |version: Version| -> Outcome {
            match change {
                "follow" => {
                    let reply = bench.follow(&key, version, "late").await?;
                    ensure_eq!(reply, Reply::Refused(None), "there is no older value to replace");
                }
                _ => {
                    let done = bench.invalidate(&key, Some(version)).await?;
                    ensure_eq!(done, (false, known), "no value was there");
                }
            }
            bench.misses(&key).await
        };
        let fence = bench.lease(&key).await?;
        apply_late(known).await?;
        apply_late(put).await?;
        apply_late(Version::from_u64(1)).await?;
        ensure_eq!(
            bench.fill(&key, fence, "new").await?,
            Reply::Kept(fence.version),
            "the lease must stay alive"
        );
        bench.reads(&key, "new").await?;

        let (_, known) = bench.remove(&key).await?;
        let fence = bench.lease(&key).await?;
        let newer = known.next(0);
        let reply = match change {
            "follow" => bench.follow(&key, newer, "newer").await.map(drop),
            _ => bench.invalidate(&key, Some(newer)).await.map(drop),
        };
        reply?;
        let reply = bench.fill_version(&key, fence, Version::MAX, "must be refused").await?;
        ensure!(
            matches!(reply, Reply::Refused(_)),
            "a change of a later version must kill the lease\n  found    {reply:?}"
        );
    }
    Ok(())
}

pub(crate) async fn a_put_kills_the_lease(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    let version = bench.put(&key, "written").await?;
    bench.refuses(&key, Fence { version: Version::MAX, ..fence }).await?;
    ensure_eq!(bench.hit(&key).await?.version, version, "the put must stay");
    bench.reads(&key, "written").await
}

pub(crate) async fn a_follow_put_kills_the_lease(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    bench.follow(&key, Version::from_u64(1), "written").await?;
    bench.refuses(&key, fence).await?;
    bench.misses(&key).await
}

pub(crate) async fn an_unfenced_put_kills_the_lease(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    let order = Order::Unfenced(Version::from_u64(1));
    kept(&bench.write(&key, order, Some(bytes("unfenced")), bench.long()).await?)?;
    bench.refuses(&key, fence).await?;
    bench.reads(&key, "unfenced").await
}

pub(crate) async fn a_remove_kills_the_lease(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    bench.remove(&key).await?;
    bench.refuses(&key, fence).await?;
    bench.misses(&key).await
}

pub(crate) async fn a_lease_after_an_invalidation_is_another_one(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let old = bench.lease(&key).await?;
    bench.invalidate(&key, None).await?;
    let new = bench.lease(&key).await?;
    ensure!(new.token != old.token, "the dead lease must not come back");
    bench.refuses(&key, old).await?;
    kept(&bench.fill(&key, new, "new").await?)?;
    bench.reads(&key, "new").await
}

pub(crate) async fn a_lease_ends_with_its_time(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease_for(&key, Duration::from_millis(40), None).await?;
    bench.wait(Duration::from_millis(60)).await;
    bench.refuses(&key, fence).await?;
    bench.misses(&key).await?;
    let next = bench.lease(&key).await?;
    ensure!(next.token != fence.token, "an expired lease must not come back");
    kept(&bench.fill(&key, next, "next").await?)?;
    Ok(())
}

pub(crate) async fn a_second_reader_extends_the_lease(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let short = bench.lease_for(&key, Duration::from_millis(400), None).await?;
    let long = bench.lease_for(&key, LONG, None).await?;
    ensure_eq!(long.token, short.token, "readers must share a lease that is alive");
    bench.wait(Duration::from_millis(450)).await;
    kept(&bench.fill(&key, short, "loaded").await?)?;
    bench.reads(&key, "loaded").await
}

pub(crate) async fn a_lease_over_a_value_lets_it_be_replaced(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let old = bench.put(&key, "old").await?;
    let fence = bench.lease_for(&key, LONG, Some(old)).await?;
    bench.reads(&key, "old").await?;
    let again = bench.lease_for(&key, LONG, Some(old)).await?;
    ensure_eq!(again.token, fence.token, "readers must share a lease over a value too");
    let new = kept(&bench.fill(&key, fence, "new").await?)?;
    ensure!(new > old, "the new value must be newer\n  found    {new} after {old}");
    bench.reads(&key, "new").await?;
    let reply = bench
        .apply(&key, Op::Lease { token: Token::random(), ttl: LONG, over: Some(old), replaces: Token::NONE })
        .await?;
    ensure!(
        matches!(reply, Reply::Hit(_)),
        "a lease over another version must be a hit\n  found    {reply:?}"
    );
    Ok(())
}

pub(crate) async fn a_write_kills_a_lease_over_a_value(bench: &Bench) -> Outcome {
    for change in ["put", "follow", "invalidate", "remove"] {
        let key = bench.key(change);
        let old = bench.put(&key, "old").await?;
        let fence = bench.lease_for(&key, LONG, Some(old)).await?;
        let newer = old.next(0);
        match change {
            "put" => drop(bench.put(&key, "newer").await?),
            "follow" => drop(kept(&bench.follow(&key, newer, "newer").await?)?),
            "invalidate" => drop(bench.invalidate(&key, Some(newer)).await?),
            _ => drop(bench.remove(&key).await?),
        }
        let reply = bench.fill_version(&key, fence, Version::MAX, "must be refused").await?;
        ensure!(matches!(reply, Reply::Refused(_)), "a {change} must kill the lease\n  found    {reply:?}");
    }
    Ok(())
}

pub(crate) async fn a_fill_below_the_floor_is_refused(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let floor = bench.put(&key, "old").await?.next(0);
    let (existed, version) = bench.invalidate(&key, Some(floor)).await?;
    ensure_eq!(
        (existed, version),
        (true, floor),
        "the invalidation must drop the older value and leave its version as the floor"
    );
    let fence = bench.lease(&key).await?;
    ensure!(fence.version > floor, "a lease's version must be above the floor");
    let below = Version::from_u64(floor.as_u64() - 1);
    let reply = bench.fill_version(&key, fence, below, "old").await?;
    ensure!(
        matches!(reply, Reply::Refused(_)),
        "a fill below the floor must be refused\n  found    {reply:?}"
    );
    bench.misses(&key).await?;
    ensure_eq!(
        bench.fill_version(&key, fence, floor, "new").await?,
        Reply::Kept(floor),
        "a fill at the floor must be kept"
    );
    bench.reads(&key, "new").await
}

pub(crate) async fn a_negative_fill_needs_its_lease_too(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    bench.invalidate(&key, None).await?;
    let nothing = |fence: Fence, deadlines: Deadlines| Op::Fill {
        fence,
        version: fence.version,
        deadlines,
        body: None,
    };
    let reply = bench.apply(&key, nothing(fence, bench.long())).await?;
    ensure!(
        matches!(reply, Reply::Refused(_)),
        "a fill over a dead lease must be refused\n  found    {reply:?}"
    );
    let fence = bench.lease(&key).await?;
    kept(&bench.apply(&key, nothing(fence, bench.long())).await?)?;
    ensure_eq!(bench.hit(&key).await?.body, None, "the negative entry must be a hit");
    bench.invalidate(&key, None).await?;
    bench.misses(&key).await
}

pub(crate) async fn a_lease_that_names_the_living_token_replaces_it(bench: &Bench) -> Outcome {
    for (name, over) in [("k", false), ("over a value", true)] {
        let key = bench.key(name);
        let over = if over { Some(bench.put(&key, "old").await?) } else { None };
        let old = bench.lease_for(&key, LONG, over).await?;
        let next = bench.lease_replacing(&key, over, old.token).await?;
        ensure!(next.token != old.token, "the new token must replace the named one");
        let reader = bench.lease_for(&key, LONG, over).await?;
        ensure_eq!(reader.token, next.token, "readers must share the new lease");
        bench.refuses(&key, old).await?;
        kept(&bench.fill(&key, next, "new").await?)?;
        bench.reads(&key, "new").await?;
    }
    Ok(())
}

pub(crate) async fn a_lease_that_names_another_token_shares_the_living_one(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let old = bench.lease(&key).await?;
    let next = bench.lease_replacing(&key, None, old.token).await?;
    let late = bench.lease_replacing(&key, None, old.token).await?;
    ensure_eq!(late.token, next.token, "the named lease is gone, so a second caller must share the new one");
    bench.invalidate(&key, None).await?;
    let after = bench.lease_replacing(&key, None, next.token).await?;
    ensure!(after.token != next.token, "a dead lease must not come back");
    kept(&bench.fill(&key, after, "new").await?)?;
    let reply = bench.apply(&key, lease_op(None, after.token)).await?;
    ensure!(
        matches!(reply, Reply::Hit(_)),
        "a value must be a hit, whatever token is named\n  found    {reply:?}"
    );
    Ok(())
}
