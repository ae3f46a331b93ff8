//! Deadlines: a value ends at its deadline, neither before nor after it.

use std::time::Duration;

use terrace_tier::{Deadlines, Op, Reply, Timestamp, Version};

use crate::suite::{
    Outcome,
    bench::{Bench, LONG, kept},
    ensure, ensure_eq,
};

const SHORT: Duration = Duration::from_millis(40);

/// How far the clocks of the suite and of the tier may be apart: some ticks of a busy kernel.
const MARGIN: Duration = Duration::from_millis(20);

pub(crate) async fn a_value_of_40_milliseconds_lives_and_ends(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    // On a busy machine a round may take longer than the value lives. Then the case tries again.
    for _ in 0..20 {
        let start = bench.now();
        bench.put_until(&key, "short", Deadlines::ttl(start, SHORT)).await?;
        let reply = bench.get(&key).await?;
        if bench.now().since(start) + MARGIN < SHORT {
            ensure!(matches!(reply, Reply::Hit(_)), "the value must live for 40 ms\n  found    {reply:?}");
            break;
        }
    }
    bench.wait(SHORT + MARGIN).await;
    bench.misses(&key).await?;
    bench.lease(&key).await?;
    Ok(())
}

pub(crate) async fn a_filled_value_ends_too(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    let deadlines = Deadlines::ttl(bench.now(), SHORT);
    let fill = Op::Fill { fence, version: fence.version, deadlines, body: None };
    kept(&bench.apply(&key, fill).await?)?;
    bench.wait(SHORT + MARGIN).await;
    bench.misses(&key).await
}

pub(crate) async fn a_value_of_no_time_is_never_there(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    bench.put_until(&key, "never", Deadlines::ttl(bench.now(), Duration::ZERO)).await?;
    bench.misses(&key).await?;
    let past = Deadlines::ttl(Timestamp::from_millis(0), Duration::from_millis(1));
    bench.put(&key, "value").await?;
    bench.put_until(&key, "long gone", past).await?;
    bench.misses(&key).await
}

pub(crate) async fn a_value_of_u64_max_seconds_lives(bench: &Bench) -> Outcome {
    let ttls = [Duration::MAX, Duration::from_secs(u64::MAX), Duration::from_millis(u64::MAX)];
    for (number, ttl) in ttls.into_iter().enumerate() {
        let key = bench.key([u8::try_from(number).unwrap_or(0)]);
        let deadlines = Deadlines::ttl(bench.now(), ttl);
        bench.put_until(&key, "for ever", deadlines).await?;
        ensure_eq!(bench.hit(&key).await?.deadlines, deadlines, "a lifetime of {ttl:?} must come back");
        bench.expire(&key, deadlines).await?;
        ensure_eq!(bench.hit(&key).await?.deadlines, deadlines, "expire must keep a lifetime of {ttl:?}");
    }
    Ok(())
}

pub(crate) async fn a_stale_window_counts_as_life(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let now = bench.now();
    let deadlines = Deadlines { fresh_until: now, stale_until: now, ..Deadlines::ttl(now, LONG) };
    bench.put_until(&key, "stale", deadlines).await?;
    ensure_eq!(
        bench.hit(&key).await?.deadlines,
        deadlines,
        "a tier must keep a value until its last deadline"
    );
    Ok(())
}

pub(crate) async fn expire_gives_other_deadlines_and_nothing_else(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let version = bench.put(&key, "value").await?;
    let now = bench.now();
    let deadlines = Deadlines {
        written: now,
        fresh_until: now.after(Duration::from_millis(100_001)),
        stale_until: now.after(Duration::from_millis(200_002)),
        expires_at: now.after(Duration::from_millis(300_003)),
    };
    ensure_eq!(bench.expire(&key, deadlines).await?, (true, version), "a value was there");
    let stored = bench.hit(&key).await?;
    ensure_eq!(
        (stored.version, stored.deadlines),
        (version, deadlines),
        "expire must change the deadlines and keep the version"
    );
    bench.reads(&key, "value").await
}

pub(crate) async fn expire_can_end_a_life(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    bench.put(&key, "value").await?;
    ensure!(bench.expire(&key, Deadlines::ttl(bench.now(), Duration::ZERO)).await?.0, "a value was there");
    bench.misses(&key).await?;
    let other = bench.key("other");
    bench.put(&other, "value").await?;
    bench.expire(&other, Deadlines::ttl(bench.now(), SHORT)).await?;
    bench.wait(SHORT + MARGIN).await;
    bench.misses(&other).await
}

pub(crate) async fn expire_can_extend_a_life(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    bench.put_until(&key, "value", Deadlines::ttl(bench.now(), Duration::from_millis(400))).await?;
    ensure!(bench.expire(&key, bench.long()).await?.0, "a value was there");
    bench.wait(Duration::from_millis(450)).await;
    bench.reads(&key, "value").await
}

pub(crate) async fn expire_brings_nothing_back(bench: &Bench) -> Outcome {
    let never = bench.key("never");
    ensure_eq!(bench.expire(&never, bench.long()).await?, (false, Version::NONE), "nothing was ever there");
    bench.misses(&never).await?;
    let removed = bench.key("removed");
    bench.put(&removed, "value").await?;
    bench.remove(&removed).await?;
    ensure!(!bench.expire(&removed, bench.long()).await?.0, "it was removed");
    bench.misses(&removed).await?;
    let gone = bench.key("gone");
    bench.put_until(&gone, "value", Deadlines::ttl(bench.now(), Duration::ZERO)).await?;
    ensure!(!bench.expire(&gone, bench.long()).await?.0, "it had expired");
    bench.misses(&gone).await
}
