//! Records: how a fill creates one, and what a store must remember.

use std::time::Duration;

use terrace_tier::{Deadlines, Fence, Op, Reply, Token, Version};

use crate::suite::{
    Outcome,
    bench::{Bench, bytes, kept},
    ensure, ensure_eq,
};

pub(crate) async fn a_fill_creates_what_was_absent(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    ensure_eq!(
        fence,
        Fence { token: Token::NONE, version: Version::NONE },
        "the fence of a key that was never written must have no token and version 0"
    );
    let deadlines = bench.long();
    let fill = Op::Fill { fence, version: Version::NONE, deadlines, body: Some(bytes("created")) };
    let version = kept(&bench.apply(&key, fill).await?)?;
    ensure!(version > Version::NONE, "the store must issue a version");
    let stored = bench.hit(&key).await?;
    ensure_eq!(stored.body, Some(bytes("created")), "the body must come back");
    ensure_eq!(
        (stored.version, stored.deadlines),
        (version, deadlines),
        "the version and deadlines must come back"
    );
    Ok(())
}

pub(crate) async fn a_fill_that_lost_to_a_creator_returns_the_winner(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let (first, second) = (bench.lease(&key).await?, bench.lease(&key).await?);
    kept(&bench.fill(&key, first, "winner").await?)?;
    let reply = bench.fill(&key, second, "loser").await?;
    ensure_eq!(reply, Reply::Refused(Some(bench.hit(&key).await?)), "the loser must get the winner's record");
    bench.reads(&key, "winner").await
}

pub(crate) async fn a_fill_that_lost_to_a_put_returns_the_winner(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    bench.put(&key, "put").await?;
    let reply = bench.fill(&key, fence, "loaded").await?;
    ensure_eq!(reply, Reply::Refused(Some(bench.hit(&key).await?)), "the loser must get the record");
    bench.reads(&key, "put").await
}

pub(crate) async fn a_fill_that_lost_to_a_remove_is_refused_without_a_record(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    bench.put(&key, "value").await?;
    bench.remove(&key).await?;
    ensure_eq!(bench.fill(&key, fence, "old").await?, Reply::Refused(None), "a newer remove must win");
    bench.misses(&key).await
}

pub(crate) async fn a_remove_of_an_absent_key_refuses_a_fill_that_saw_it_absent(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    let (existed, removed) = bench.remove(&key).await?;
    ensure!(!existed && removed > Version::NONE, "a remove must issue a version even for an absent key");
    ensure_eq!(bench.fill(&key, fence, "old").await?, Reply::Refused(None), "a newer remove must win");
    bench.misses(&key).await
}

pub(crate) async fn a_fill_after_a_remove_that_it_saw_is_kept(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    bench.put(&key, "value").await?;
    let (_, removed) = bench.remove(&key).await?;
    let fence = bench.lease(&key).await?;
    ensure_eq!(fence.version, removed, "the observed version must be the version of the remove");
    let version = kept(&bench.fill(&key, fence, "again").await?)?;
    ensure!(version > removed, "versions must grow\n  found    {version} after {removed}");
    bench.reads(&key, "again").await
}

pub(crate) async fn a_fill_never_replaces_a_record(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let version = bench.put(&key, "record").await?;
    let fence = Fence { token: Token::NONE, version };
    let reply = bench.fill(&key, fence, "fill").await?;
    ensure_eq!(reply, Reply::Refused(Some(bench.hit(&key).await?)), "only a put may replace a record");
    bench.reads(&key, "record").await
}

pub(crate) async fn a_fill_replaces_a_negative_record_that_it_saw(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let fence = bench.lease(&key).await?;
    let negative = Op::Fill { fence, version: Version::NONE, deadlines: bench.long(), body: None };
    let version = kept(&bench.apply(&key, negative).await?)?;
    let stored = bench.hit(&key).await?;
    ensure_eq!((stored.version, stored.body), (version, None), "the negative record must be there");
    kept(&bench.fill(&key, Fence { token: Token::NONE, version }, "created").await?)?;
    bench.reads(&key, "created").await
}

pub(crate) async fn an_expired_record_is_absent_and_its_version_is_remembered(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    let absent = bench.lease(&key).await?;
    let gone = bench.put_until(&key, "gone", Deadlines::ttl(bench.now(), Duration::ZERO)).await?;
    ensure_eq!(
        bench.fill(&key, absent, "old").await?,
        Reply::Refused(None),
        "the key was written after the fence was given"
    );
    let fence = bench.lease(&key).await?;
    ensure_eq!(fence.version, gone, "the observed version must be the version of the expired record");
    kept(&bench.fill(&key, fence, "next").await?)?;
    bench.reads(&key, "next").await
}

pub(crate) async fn a_clear_keeps_records(bench: &Bench) -> Outcome {
    let (key, absent) = (bench.key("k"), bench.key("absent"));
    let version = bench.put(&key, "record").await?;
    let fence = bench.lease(&absent).await?;
    bench.tier.clear().await?;
    ensure_eq!(bench.hit(&key).await?.version, version, "a clear must not drop records");
    bench.reads(&key, "record").await?;
    kept(&bench.fill(&absent, fence, "created").await?)?;
    Ok(())
}

pub(crate) async fn a_record_is_there_for_another_handle(bench: &Bench) -> Outcome {
    let other = bench.through_second_handle()?;
    let key = bench.key("k");
    let version = bench.put(&key, "record").await?;
    ensure_eq!(other.hit(&key).await?, bench.hit(&key).await?, "both handles must see one record");
    let newer = other.put(&key, "newer").await?;
    ensure!(newer > version, "versions grow across handles\n  found    {newer} after {version}");
    bench.reads(&key, "newer").await?;
    let absent = bench.key("absent");
    let fence = bench.lease(&absent).await?;
    other.remove(&absent).await?;
    ensure_eq!(
        bench.fill(&absent, fence, "old").await?,
        Reply::Refused(None),
        "the remove through the other handle must win"
    );
    Ok(())
}
