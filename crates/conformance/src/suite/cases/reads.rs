//! Plain reads and writes in both roles.

use std::time::Duration;

use terrace_tier::{Condition, Deadlines, Order, Reply, Role, TierKey, Timestamp, Version};

use crate::suite::{
    Outcome,
    bench::{Bench, bytes, kept},
    ensure, ensure_eq,
};

pub(crate) async fn it_answers_a_ping(bench: &Bench) -> Outcome {
    bench.tier.ping().await?;
    bench.tier.ready().await?;
    Ok(())
}

pub(crate) async fn a_key_never_written_is_a_miss(bench: &Bench) -> Outcome {
    bench.misses(&bench.key("never written")).await
}

pub(crate) async fn a_put_value_is_read_back_with_its_version_and_deadlines(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let deadlines = bench.long();
    let version = bench.put_until(&key, "value", deadlines).await?;
    let stored = bench.hit(&key).await?;
    ensure_eq!(stored.body, Some(bytes("value")), "the body must come back");
    ensure_eq!(stored.version, version, "the version must be the one that the put returned");
    ensure_eq!(stored.deadlines, deadlines, "the deadlines must come back");
    Ok(())
}

pub(crate) async fn a_put_replaces_the_value_with_a_higher_version(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let mut last = Version::NONE;
    for body in ["one", "two", "three"] {
        let version = bench.put(&key, body).await?;
        ensure!(version > last, "versions must grow\n  found    {version} after {last}");
        bench.reads(&key, body).await?;
        last = version;
    }
    Ok(())
}

pub(crate) async fn an_issued_version_is_the_clock_in_microseconds(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let before = bench.now().as_millis();
    let issued = bench.put(&key, "value").await?.as_u64();
    let after = bench.now().as_millis();
    // The clock of another machine may differ a little.
    let (low, high) = (before.saturating_sub(5_000) * 1000, (after + 5_000) * 1000);
    ensure!((low..=high).contains(&issued), "expected the time in microseconds\n  found    {issued}");
    Ok(())
}

pub(crate) async fn a_version_grows_over_a_floor_ahead_of_the_clock(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let mut last = bench.put(&key, "value").await?;
    for _ in 0..50 {
        let version = bench.put(&key, "value").await?;
        ensure!(
            version > last,
            "a burst of writes must have growing versions\n  found    {version} after {last}"
        );
        last = version;
    }
    Ok(())
}

pub(crate) async fn a_version_grows_after_a_remove(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let put = bench.put(&key, "value").await?;
    let (_, removed) = bench.remove(&key).await?;
    ensure!(removed > put, "a remove must issue a higher version\n  found    {removed} after {put}");
    let again = bench.put(&key, "again").await?;
    ensure!(again > removed, "a put after a remove must be newer\n  found    {again} after {removed}");
    bench.reads(&key, "again").await
}

pub(crate) async fn a_version_grows_after_an_expiry(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let gone = bench.put_until(&key, "gone", Deadlines::ttl(bench.now(), Duration::ZERO)).await?;
    // A tier may forget the expired cell. The clock must then be past the version of that cell.
    bench.wait(Duration::from_millis(10)).await;
    let next = bench.put(&key, "next").await?;
    ensure!(next > gone, "a put over an expired value must be newer\n  found    {next} after {gone}");
    Ok(())
}

pub(crate) async fn a_remove_deletes_and_tells_whether_there_was_a_value(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    bench.put(&key, "value").await?;
    ensure!(bench.remove(&key).await?.0, "a value was there");
    bench.misses(&key).await?;
    ensure!(!bench.remove(&key).await?.0, "nothing was there any more");
    ensure!(!bench.remove(&bench.key("never")).await?.0, "nothing was ever there");
    bench.misses(&key).await
}

pub(crate) async fn a_remove_touches_no_other_key(bench: &Bench) -> Outcome {
    let (key, other) = (bench.key("k"), bench.key("k2"));
    bench.put(&key, "value").await?;
    bench.put(&other, "other").await?;
    bench.remove(&key).await?;
    bench.reads(&other, "other").await
}

pub(crate) async fn a_put_if_absent_is_refused_over_a_value(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let first = kept(&bench.put_if(&key, Condition::Absent, "first").await?)?;
    let second = bench.put_if(&key, Condition::Absent, "second").await?;
    refused_for(bench, &key, &second, first).await?;
    bench.remove(&key).await?;
    let third = kept(&bench.put_if(&key, Condition::Absent, "third").await?)?;
    ensure!(third > first, "a put over a tombstone must be newer\n  found    {third} after {first}");
    bench.reads(&key, "third").await
}

pub(crate) async fn a_replace_needs_the_version_that_is_there(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let missing = bench.put_if(&key, Condition::Version(Version::from_u64(1)), "early").await?;
    ensure_eq!(missing, Reply::Refused(None), "there is nothing to replace");
    let first = bench.put(&key, "first").await?;
    let second = kept(&bench.put_if(&key, Condition::Version(first), "second").await?)?;
    let late = bench.put_if(&key, Condition::Version(first), "late").await?;
    refused_for(bench, &key, &late, second).await?;
    bench.reads(&key, "second").await?;
    bench.remove(&key).await?;
    let gone = bench.put_if(&key, Condition::Version(second), "gone").await?;
    ensure_eq!(gone, Reply::Refused(None), "a removed value cannot be replaced");
    bench.misses(&key).await
}

/// Checks that the reply is a refusal, that the value of version `winner` stays, and that a store returns
/// this value in the refusal.
async fn refused_for(bench: &Bench, key: &TierKey, reply: &Reply, winner: Version) -> Outcome {
    let stored = bench.hit(key).await?;
    ensure_eq!(stored.version, winner, "the winner must stay");
    match reply {
        Reply::Refused(None) if bench.role() == Role::Cache => Ok(()),
        reply => {
            ensure_eq!(*reply, Reply::Refused(Some(stored)), "the refusal must contain the winner");
            Ok(())
        }
    }
}

pub(crate) async fn a_negative_entry_is_a_hit_without_a_body(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let deadlines = bench.long();
    let version = kept(&bench.write(&key, Order::Author(Condition::Always), None, deadlines).await?)?;
    let stored = bench.hit(&key).await?;
    ensure_eq!(stored.body, None, "a negative entry has no body");
    ensure_eq!(
        (stored.version, stored.deadlines),
        (version, deadlines),
        "the version and deadlines must come back"
    );
    Ok(())
}

pub(crate) async fn a_negative_entry_counts_as_no_value(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let negative = kept(&bench.write(&key, Order::Author(Condition::Always), None, bench.long()).await?)?;
    ensure!(
        !bench.expire(&key, bench.long()).await?.0,
        "a negative entry has no value whose lifetime could change"
    );
    let replaced = bench.put_if(&key, Condition::Version(negative), "replaced").await?;
    ensure!(
        matches!(replaced, Reply::Refused(_)),
        "a negative entry has no value to replace\n  found    {replaced:?}"
    );
    kept(&bench.put_if(&key, Condition::Absent, "value").await?)?;
    bench.reads(&key, "value").await?;
    bench.write(&key, Order::Author(Condition::Always), None, bench.long()).await?;
    ensure!(!bench.remove(&key).await?.0, "a negative entry counts as no value");
    bench.misses(&key).await
}

pub(crate) async fn deadlines_come_back_to_the_millisecond(bench: &Bench) -> Outcome {
    let now = bench.now().as_millis();
    let at = Timestamp::from_millis;
    let cases = [
        ("distinct", [now - now.min(1_234), now + 60_001, now + 120_002, now + 3_600_003]),
        ("stale already", [now - now.min(9_000), now - now.min(5_000), now + 60_000, now + 70_007]),
        ("for ever", [now, u64::MAX, u64::MAX, u64::MAX]),
        ("fresh for an hour, kept for ever", [now, now + 3_600_000, u64::MAX, u64::MAX]),
        (
            "for 8,000 years",
            [now, now + 252_460_800_000_001, now + 252_460_800_000_002, now + 252_460_800_000_003],
        ),
    ];
    for (name, [written, fresh, stale, end]) in cases {
        let key = bench.key(name);
        let deadlines = Deadlines {
            written: at(written),
            fresh_until: at(fresh),
            stale_until: at(stale),
            expires_at: at(end),
        };
        bench.put_until(&key, "value", deadlines).await?;
        ensure_eq!(bench.hit(&key).await?.deadlines, deadlines, "deadlines must be exact: {name}");
    }
    Ok(())
}
