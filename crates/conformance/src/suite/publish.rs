//! What a tier owes a relay: drops and the mark that says so, in one step.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use terrace_tier::{
    Condition, Invalidation, Level, Notice, Op, Publication, Reply, Stored, Tier, TierKey, Token, Version,
    Watermark,
};

use super::{
    Failure, Outcome,
    bench::{Bench, LONG, kept},
    ensure, ensure_eq,
    log::Ears,
};

/// What one step is to drop.
#[derive(Default)]
struct Step<'a> {
    drops: &'a [(Option<&'a str>, TierKey, Option<Version>)],
    clears: &'a [Option<&'a str>],
}

impl Bench {
    /// The same cache at level `Bounded`, under a name of its own.
    fn bounded(&self) -> Result<Self, Failure> {
        self.sibling(|space| {
            space.name.push_str("-bounded");
            space.level = Level::Bounded(Duration::from_secs(1));
        })
    }

    async fn publish(&self, expected: Option<Version>, step: Step<'_>) -> Result<Reply, Failure> {
        let drops = step.drops.iter().map(|(tenant, key, version)| Invalidation {
            tenant: tenant.map(str::to_owned),
            key: key.clone(),
            version: *version,
        });
        let watermark = expected.unwrap_or(Version::NONE);
        let publication = Publication::new(
            Watermark::key(&self.space.name),
            expected.map_or(Condition::Absent, Condition::Version),
            Watermark { relay: 7, version: watermark, position: Bytes::from_static(b"place") }.encode(),
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

    fn marks(&self) -> Result<Arc<dyn Tier>, Failure> {
        let backend = self.subject.second.as_ref().unwrap_or(&self.subject.backend);
        Ok(backend.open(&Watermark::namespace(&self.space))?)
    }

    async fn mark(&self) -> Result<Option<Stored>, Failure> {
        match self.marks()?.apply(&Watermark::key(&self.space.name), Op::Get).await? {
            Reply::Hit(stored) => Ok(Some(stored)),
            _ => Ok(None),
        }
    }
}

pub(crate) async fn a_step_drops_what_it_names_and_moves_the_mark(bench: &Bench) -> Outcome {
    let (key, other) = (bench.key("k"), bench.key("other"));
    let first = bench.begin().await?;
    for key in [&key, &other] {
        bench.put(key, "value").await?;
    }
    let step = Step { drops: &[(None, key.clone(), None)], ..Step::default() };
    let second = kept(&bench.publish(Some(first), step).await?)?;
    ensure!(second > first, "a mark's versions grow: {first}, then {second}");
    bench.misses(&key).await?;
    bench.reads(&other, "value").await?;
    let mark = bench.mark().await?;
    ensure_eq!(mark.as_ref().map(|mark| mark.version), Some(second), "the mark has the new version");
    let body = mark.and_then(|mark| mark.body).and_then(|body| Watermark::decode(&body));
    let expected = Watermark { relay: 7, version: first, position: Bytes::from_static(b"place") };
    ensure_eq!(body, Some(expected), "and the new value");
    Ok(())
}

pub(crate) async fn a_step_whose_mark_is_not_as_expected_does_nothing(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let first = bench.begin().await?;
    let second = kept(&bench.publish(Some(first), Step::default()).await?)?;
    bench.put(&key, "value").await?;
    let fence = bench.lease(&bench.key("leased")).await?;
    let drops = [(None, key.clone(), None), (None, bench.key("leased"), None)];
    for expected in [None, Some(first), Some(second.next(0))] {
        let step = Step { drops: &drops, clears: &[None] };
        ensure_eq!(bench.publish(expected, step).await?, Reply::Refused(None), "the mark is at {second}");
        bench.reads(&key, "value").await?;
    }
    ensure_eq!(bench.mark().await?.map(|mark| mark.version), Some(second), "the mark has not moved");
    kept(&bench.fill(&bench.key("leased"), fence, "filled").await?)?;
    Ok(())
}

pub(crate) async fn a_step_expects_the_mark_that_is_there_and_not_one_that_was(bench: &Bench) -> Outcome {
    let first = bench.begin().await?;
    let remove = Op::Remove { tombstone_ttl: LONG };
    bench.marks()?.apply(&Watermark::key(&bench.space.name), remove).await?;
    ensure_eq!(bench.publish(Some(first), Step::default()).await?, Reply::Refused(None), "it is gone");
    let again = bench.begin().await?;
    ensure!(again > first, "a mark that begins anew is above the one before: {first}, then {again}");
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
    let tenant = |name: &str| bench.sibling_through_second(|space| space.tenant = Some(name.to_owned()));
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
    bench.wait(bench.subject.hears_within).await;
    bob.misses(&bob.key("k")).await?;
    ann.reads(&ann.key("other"), "value").await?;
    bench.reads(&bench.key("k"), "value").await
}

pub(crate) async fn a_clear_of_a_step_makes_the_copies_dead(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    bench.put(&key, "value").await?;
    let fence = bench.lease(&bench.key("leased")).await?;
    kept(&bench.publish(None, Step { clears: &[None], ..Step::default() }).await?)?;
    bench.wait(bench.subject.hears_within).await;
    bench.misses(&key).await?;
    bench.refuses(&bench.key("leased"), fence).await?;
    bench.put(&key, "again").await?;
    bench.reads(&key, "again").await
}

/// A near tier takes the mark for the end of what it certifies.
pub(crate) async fn a_step_is_told_before_the_mark_that_ends_it(bench: &Bench) -> Outcome {
    let ears = Arc::new(Ears::default());
    bench.followed_by(&ears)?;
    let marks = bench.sibling(|space| *space = Watermark::namespace(space))?;
    marks.followed_by(&ears)?;
    ears.wait_heard(tokio::time::Instant::now()).await?;
    let key = bench.key("k");
    let first = bench.begin().await?;
    let drops = [(None, key.clone(), None), (Some("ann"), key.clone(), Some(Version::from_u64(7)))];
    let second = kept(&bench.publish(Some(first), Step { drops: &drops, clears: &[Some("bob")] }).await?)?;
    let moved = |version| marks.told(&Watermark::key(&bench.space.name), version);
    let last = moved(second);
    ears.wait_until("the mark must be told", |ears| ears.notices().contains(&last)).await?;
    let mut told = ears.notices();
    told.retain(|notice| *notice != Notice::Lost);
    let ann = Notice::Key {
        tenant: Some("ann".into()),
        key: key.bytes.clone(),
        version: Some(Version::from_u64(7)),
    };
    let named = [bench.told(&key, None), ann, Notice::Clear { tenant: Some("bob".into()) }];
    ensure_eq!(told.first(), Some(&moved(first)), "the first step dropped nothing");
    ensure_eq!(told.last(), Some(&last), "the mark comes last: {told:?}");
    ensure!(named.iter().all(|notice| told.contains(notice)), "all that was dropped is told: {told:?}");
    ensure!(told.len() == 5, "each once: {told:?}");
    Ok(())
}

pub(crate) async fn a_hit_at_level_bounded_says_what_the_mark_certifies(bench: &Bench) -> Outcome {
    let bench = bench.bounded()?;
    let key = bench.key("k");
    bench.put(&key, "value").await?;
    ensure_eq!(bench.hit(&key).await?.watermark, None, "there is no mark");
    let first = bench.begin().await?;
    ensure_eq!(bench.hit(&key).await?.watermark, None, "the first mark certifies nothing");
    let second = kept(&bench.publish(Some(first), Step::default()).await?)?;
    ensure_eq!(bench.hit(&key).await?.watermark, Some(first), "the second one certifies the first");
    kept(&bench.publish(Some(second), Step::default()).await?)?;
    let lease = Op::Lease { token: Token::random(), ttl: LONG, over: None, replaces: Token::NONE };
    let Reply::Hit(hit) = bench.apply(&key, lease).await? else { return bench.misses(&key).await };
    ensure_eq!(hit.watermark, Some(second), "a lease that hits says so too");
    let batch = bench.tier.apply_many(vec![(key.clone(), Op::Get), (bench.key("absent"), Op::Get)]).await;
    let Some(Ok(Reply::Hit(hit))) = batch.into_iter().next() else { return bench.misses(&key).await };
    ensure_eq!(hit.watermark, Some(second), "and a batch");
    Ok(())
}

pub(crate) async fn a_mark_that_is_gone_certifies_nothing(bench: &Bench) -> Outcome {
    let bench = bench.bounded()?;
    let key = bench.key("k");
    bench.put(&key, "value").await?;
    let first = bench.begin().await?;
    kept(&bench.publish(Some(first), Step::default()).await?)?;
    let remove = Op::Remove { tombstone_ttl: LONG };
    bench.marks()?.apply(&Watermark::key(&bench.space.name), remove).await?;
    ensure_eq!(bench.hit(&key).await?.watermark, None, "the mark was removed");
    Ok(())
}

pub(crate) async fn marks_are_of_one_namespace_each(bench: &Bench) -> Outcome {
    let one = bench.bounded()?;
    let other = one.sibling(|space| space.name.push_str("-other"))?;
    let first = one.begin().await?;
    kept(&one.publish(Some(first), Step::default()).await?)?;
    other.put(&other.key("k"), "value").await?;
    ensure_eq!(other.hit(&other.key("k")).await?.watermark, None, "another cache's mark");
    let ann = one.sibling(|space| space.tenant = Some("ann".to_owned()))?;
    ann.put(&ann.key("k"), "value").await?;
    ensure_eq!(ann.hit(&ann.key("k")).await?.watermark, Some(first), "one mark for all tenants of a cache");
    Ok(())
}
