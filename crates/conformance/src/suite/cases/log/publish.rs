//! A relay's step: the tier drops copies and advances the watermark in one atomic step.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use terrace_tier::{
    Condition, Invalidation, Level, Notice, Op, Publication, Reply, Stored, Tier, TierKey, Token, Version,
    Watermark,
};

use super::follower::RecordingFollower;
use crate::suite::{
    Failure, Outcome,
    bench::{Bench, LONG, kept},
    ensure, ensure_eq,
};

/// The copies and tenants that one step is to drop.
#[derive(Default)]
struct Step<'a> {
    drops: &'a [(Option<&'a str>, TierKey, Option<Version>)],
    clears: &'a [Option<&'a str>],
}

impl Bench {
    /// The same cache at level `Bounded`, under a name of its own.
    fn bounded(&self) -> Result<Self, Failure> {
        self.sibling(|namespace| {
            namespace.name.push_str("-bounded");
            namespace.level = Level::Bounded(Duration::from_secs(1));
        })
    }

    async fn publish(&self, expected: Option<Version>, step: Step<'_>) -> Result<Reply, Failure> {
        let drops = step.drops.iter().map(|(tenant, key, version)| Invalidation {
            tenant: tenant.map(str::to_owned),
            key: key.clone(),
            version: *version,
        });
        let version = expected.unwrap_or(Version::NONE);
        let publication = Publication::new(
            Watermark::key(&self.namespace.name),
            expected.map_or(Condition::Absent, Condition::Version),
            Watermark { relay: 7, version, position: Bytes::from_static(b"position") }.encode(),
            LONG,
        )
        .with_drops(drops.collect())
        .with_clears(step.clears.iter().map(|tenant| tenant.map(str::to_owned)).collect());
        match self.tier.publish() {
            Some(tier) => Ok(tier.publish(publication).await?),
            None => {
                ensure!(false, "the tier must publish");
                Ok(Reply::Refused(None))
            }
        }
    }

    /// The first step of a relay.
    async fn begin(&self) -> Result<Version, Failure> {
        kept(&self.publish(None, Step::default()).await?)
    }

    fn watermark_tier(&self) -> Result<Arc<dyn Tier>, Failure> {
        let backend = self.subject.second.as_ref().unwrap_or(&self.subject.backend);
        Ok(backend.open(&Watermark::namespace(&self.namespace))?)
    }

    async fn watermark(&self) -> Result<Option<Stored>, Failure> {
        match self.watermark_tier()?.apply(&Watermark::key(&self.namespace.name), Op::Get).await? {
            Reply::Hit(stored) => Ok(Some(stored)),
            _ => Ok(None),
        }
    }
}

pub(crate) async fn a_step_drops_what_it_names_and_advances_the_watermark(bench: &Bench) -> Outcome {
    let (key, other) = (bench.key("k"), bench.key("other"));
    let first = bench.begin().await?;
    for key in [&key, &other] {
        bench.put(key, "value").await?;
    }
    let step = Step { drops: &[(None, key.clone(), None)], ..Step::default() };
    let second = kept(&bench.publish(Some(first), step).await?)?;
    ensure!(second > first, "the versions of a watermark must grow: {first}, then {second}");
    bench.misses(&key).await?;
    bench.reads(&other, "value").await?;
    let stored = bench.watermark().await?;
    ensure_eq!(
        stored.as_ref().map(|stored| stored.version),
        Some(second),
        "the watermark has the new version"
    );
    let body = stored.and_then(|stored| stored.body).and_then(|body| Watermark::decode(&body));
    let expected = Watermark { relay: 7, version: first, position: Bytes::from_static(b"position") };
    ensure_eq!(body, Some(expected), "the watermark has the new value");
    Ok(())
}

pub(crate) async fn a_step_that_expects_another_watermark_does_nothing(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let first = bench.begin().await?;
    let second = kept(&bench.publish(Some(first), Step::default()).await?)?;
    bench.put(&key, "value").await?;
    let fence = bench.lease(&bench.key("leased")).await?;
    let drops = [(None, key.clone(), None), (None, bench.key("leased"), None)];
    for expected in [None, Some(first), Some(second.next(0))] {
        let step = Step { drops: &drops, clears: &[None] };
        ensure_eq!(
            bench.publish(expected, step).await?,
            Reply::Refused(None),
            "the watermark is at {second}"
        );
        bench.reads(&key, "value").await?;
    }
    ensure_eq!(
        bench.watermark().await?.map(|stored| stored.version),
        Some(second),
        "the watermark has not advanced"
    );
    kept(&bench.fill(&bench.key("leased"), fence, "filled").await?)?;
    Ok(())
}

pub(crate) async fn a_step_that_expects_a_removed_watermark_does_nothing(bench: &Bench) -> Outcome {
    let first = bench.begin().await?;
    let remove = Op::Remove { tombstone_ttl: LONG };
    bench.watermark_tier()?.apply(&Watermark::key(&bench.namespace.name), remove).await?;
    ensure_eq!(
        bench.publish(Some(first), Step::default()).await?,
        Reply::Refused(None),
        "the watermark is gone"
    );
    let again = bench.begin().await?;
    ensure!(again > first, "a new watermark must be above the removed one: {first}, then {again}");
    Ok(())
}

pub(crate) async fn a_step_spares_what_is_as_new_and_kills_leases(bench: &Bench) -> Outcome {
    let (old, new, leased) = (bench.key("old"), bench.key("new"), bench.key("leased"));
    let first = bench.begin().await?;
    let older = bench.put(&old, "old").await?;
    let newer = bench.put(&new, "new").await?;
    let fence = bench.lease(&leased).await?;
    let drops = [
        (None, old.clone(), Some(older.next(0))),
        (None, new.clone(), Some(newer)),
        (None, leased.clone(), None),
    ];
    kept(&bench.publish(Some(first), Step { drops: &drops, ..Step::default() }).await?)?;
    bench.misses(&old).await?;
    bench.reads(&new, "new").await?;
    bench.refuses(&leased, fence).await
}

pub(crate) async fn a_step_reaches_the_tenants_that_it_names(bench: &Bench) -> Outcome {
    let tenant =
        |name: &str| bench.sibling_through_second(|namespace| namespace.tenant = Some(name.to_owned()));
    let (ann, bob) = (tenant("ann")?, tenant("bob")?);
    let first = bench.begin().await?;
    for bench in [bench, &ann, &bob] {
        for key in ["k", "other"] {
            bench.put(&bench.key(key), "value").await?;
        }
    }
    let drops = [(Some("ann"), ann.key("k"), None)];
    let second = kept(&bench.publish(Some(first), Step { drops: &drops, ..Step::default() }).await?)?;
    ann.misses(&ann.key("k")).await?;
    ann.reads(&ann.key("other"), "value").await?;
    bob.reads(&bob.key("k"), "value").await?;
    bench.reads(&bench.key("k"), "value").await?;
    kept(&bench.publish(Some(second), Step { clears: &[Some("bob")], ..Step::default() }).await?)?;
    bench.wait(bench.subject.notified_within).await;
    bob.misses(&bob.key("k")).await?;
    ann.reads(&ann.key("other"), "value").await?;
    bench.reads(&bench.key("k"), "value").await
}

pub(crate) async fn a_clear_of_a_step_makes_the_copies_dead(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    bench.put(&key, "value").await?;
    let fence = bench.lease(&bench.key("leased")).await?;
    kept(&bench.publish(None, Step { clears: &[None], ..Step::default() }).await?)?;
    bench.wait(bench.subject.notified_within).await;
    bench.misses(&key).await?;
    bench.refuses(&bench.key("leased"), fence).await?;
    bench.put(&key, "again").await?;
    bench.reads(&key, "again").await
}

/// A near tier that gets the watermark takes all changes before it as reported.
pub(crate) async fn a_step_is_reported_before_the_watermark_that_ends_it(bench: &Bench) -> Outcome {
    let follower = Arc::new(RecordingFollower::default());
    bench.followed_by(&follower)?;
    let watermarks = bench.sibling(|namespace| *namespace = Watermark::namespace(namespace))?;
    watermarks.followed_by(&follower)?;
    follower.wait_for_heartbeat(tokio::time::Instant::now()).await?;
    let key = bench.key("k");
    let first = bench.begin().await?;
    let drops = [(None, key.clone(), None), (Some("ann"), key.clone(), Some(Version::from_u64(7)))];
    let second = kept(&bench.publish(Some(first), Step { drops: &drops, clears: &[Some("bob")] }).await?)?;
    let advance = |version| watermarks.notice(&Watermark::key(&bench.namespace.name), version);
    let last = advance(second);
    let what = "the log must report the watermark";
    follower.wait_until(what, |follower| follower.notices().contains(&last)).await?;
    let mut notices = follower.notices();
    notices.retain(|notice| *notice != Notice::Lost);
    let ann = Notice::Key {
        tenant: Some("ann".into()),
        key: key.bytes.clone(),
        version: Some(Version::from_u64(7)),
    };
    let named = [bench.notice(&key, None), ann, Notice::Clear { tenant: Some("bob".into()) }];
    ensure_eq!(notices.first(), Some(&advance(first)), "the first step dropped nothing");
    ensure_eq!(notices.last(), Some(&last), "the watermark must come last: {notices:?}");
    let all = named.iter().all(|notice| notices.contains(notice));
    ensure!(all, "the log must report all that was dropped: {notices:?}");
    ensure!(notices.len() == 5, "the log must report each change once: {notices:?}");
    Ok(())
}

pub(crate) async fn a_hit_at_level_bounded_has_the_version_that_the_watermark_proves(
    bench: &Bench,
) -> Outcome {
    let bench = bench.bounded()?;
    let key = bench.key("k");
    bench.put(&key, "value").await?;
    ensure_eq!(bench.hit(&key).await?.watermark, None, "there is no watermark");
    let first = bench.begin().await?;
    ensure_eq!(bench.hit(&key).await?.watermark, None, "the first watermark proves nothing");
    let second = kept(&bench.publish(Some(first), Step::default()).await?)?;
    ensure_eq!(
        bench.hit(&key).await?.watermark,
        Some(first),
        "the second watermark proves the version of the first"
    );
    kept(&bench.publish(Some(second), Step::default()).await?)?;
    let lease = Op::Lease { token: Token::random(), ttl: LONG, over: None, replaces: Token::NONE };
    let Reply::Hit(hit) = bench.apply(&key, lease).await? else { return bench.misses(&key).await };
    ensure_eq!(hit.watermark, Some(second), "a lease that hits must have it too");
    let batch = bench.tier.apply_many(vec![(key.clone(), Op::Get), (bench.key("absent"), Op::Get)]).await;
    let Some(Ok(Reply::Hit(hit))) = batch.into_iter().next() else { return bench.misses(&key).await };
    ensure_eq!(hit.watermark, Some(second), "a hit in a batch must have it too");
    Ok(())
}

pub(crate) async fn a_watermark_that_is_gone_proves_nothing(bench: &Bench) -> Outcome {
    let bench = bench.bounded()?;
    let key = bench.key("k");
    bench.put(&key, "value").await?;
    let first = bench.begin().await?;
    kept(&bench.publish(Some(first), Step::default()).await?)?;
    let remove = Op::Remove { tombstone_ttl: LONG };
    bench.watermark_tier()?.apply(&Watermark::key(&bench.namespace.name), remove).await?;
    ensure_eq!(bench.hit(&key).await?.watermark, None, "the watermark was removed");
    Ok(())
}

pub(crate) async fn a_watermark_is_of_one_namespace(bench: &Bench) -> Outcome {
    let one = bench.bounded()?;
    let other = one.sibling(|namespace| namespace.name.push_str("-other"))?;
    let first = one.begin().await?;
    kept(&one.publish(Some(first), Step::default()).await?)?;
    other.put(&other.key("k"), "value").await?;
    ensure_eq!(other.hit(&other.key("k")).await?.watermark, None, "the watermark is another cache's");
    let ann = one.sibling(|namespace| namespace.tenant = Some("ann".to_owned()))?;
    ann.put(&ann.key("k"), "value").await?;
    ensure_eq!(
        ann.hit(&ann.key("k")).await?.watermark,
        Some(first),
        "all tenants of a cache have one watermark"
    );
    Ok(())
}
