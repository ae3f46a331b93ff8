//! A relay's step: drops and the move of the mark are one, whatever happens.

use std::time::Duration;

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use terrace_testbed::Redis;
use terrace_tier::{
    Condition, ErrorKind, Fence, Invalidation, Level, Op, Publication, Reply, Result, TierKey, Version,
    Watermark,
};
use tokio::time::Instant;

use crate::{
    bench::{Bench, kind_of, lease, put, raw},
    log::{dump, go_back},
};

const BOUNDED: Level = Level::Bounded(Duration::from_secs(1));

/// A server, a tier on it that asks for the mark, and a look behind the scenes.
struct Stage {
    server: Redis,
    bench: Bench,
    raw: MultiplexedConnection,
}

impl Stage {
    async fn new() -> Self {
        Self::on(Redis::start().await.unwrap()).await
    }

    async fn on(server: Redis) -> Self {
        let (bench, raw) = (Bench::on(&server.url(), BOUNDED), raw(&server.url()).await);
        Self { server, bench, raw }
    }

    async fn ask<T: redis::FromRedisValue>(&mut self, words: &[&str]) -> T {
        let mut command = redis::Cmd::new();
        command.arg(words).query_async(&mut self.raw).await.unwrap()
    }

    /// All that the server keeps, but for what reads leave.
    async fn everything(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = dump(&mut self.raw).await;
        all.sort();
        all
    }

    /// The log's entries from the oldest on: kind, and key behind the names.
    async fn told(&mut self) -> Vec<(u8, Vec<u8>)> {
        type Entries = Vec<(String, Vec<(String, Vec<u8>)>)>;
        let entries: Entries = self.ask(&["XRANGE", "terrace:$log", "-", "+"]).await;
        entries.into_iter().map(|(_, fields)| (fields[0].1[0], key_in(&fields[0].1).to_vec())).collect()
    }
}

/// Kind, version, number, origin; then namespace and tenant with their lengths.
fn key_in(entry: &[u8]) -> &[u8] {
    let length = |at: usize| usize::from(u16::from_be_bytes([entry[at], entry[at + 1]]));
    let tenant = 27 + length(25);
    match length(tenant) {
        0xffff => &entry[tenant + 2..],
        bytes => &entry[tenant + 2 + bytes..],
    }
}

/// A step of the relay 7 that drops `keys`.
fn step<'a>(
    bench: &Bench,
    expected: Condition,
    watermark: u64,
    keys: impl IntoIterator<Item = (Option<&'a str>, TierKey)>,
) -> Publication {
    let drop = |(tenant, key): (Option<&str>, TierKey)| {
        let tenant = tenant.map(str::to_owned);
        Invalidation { tenant, key, version: None }
    };
    let mark =
        Watermark { relay: 7, version: Version::from_u64(watermark), position: Bytes::from_static(b"here") };
    Publication::new(Watermark::key(&bench.space.name), expected, mark.encode(), Duration::from_secs(600))
        .with_drops(keys.into_iter().map(drop).collect())
}

async fn publish(bench: &Bench, publication: Publication) -> Result<Reply> {
    bench.tier.publish().unwrap().publish(publication).await
}

async fn moves(bench: &Bench, publication: Publication) -> Version {
    match publish(bench, publication).await.unwrap() {
        Reply::Kept(version) => version,
        reply => panic!("the mark must move: {reply:?}"),
    }
}

async fn watermark(bench: &Bench, key: &str) -> Option<u64> {
    match bench.get(key).await.unwrap() {
        Reply::Hit(stored) => stored.watermark.map(Version::as_u64),
        reply => panic!("{key} must be a hit: {reply:?}"),
    }
}

#[tokio::test]
async fn a_step_drops_and_moves_the_mark() {
    let mut stage = Stage::new().await;
    let bench = &stage.bench;
    bench.put("k", "old").await.unwrap();
    let fence = bench.lease("leased").await.unwrap();
    let keys = ["k", "leased", "absent"].map(|key| (None, bench.key(key)));
    let first = moves(bench, step(bench, Condition::Absent, 0, keys)).await;
    bench.misses("k").await;
    assert!(matches!(bench.fill("leased", fence, "old").await.unwrap(), Reply::Refused(_)));
    let second = moves(bench, step(bench, Condition::Version(first), 5, [])).await;
    assert!(second > first);
    let told = stage.told().await;
    let expected: Vec<_> = ["k", "k", "leased", "absent"].map(|key| (b'K', key.as_bytes().to_vec())).into();
    let mark = (b'K', stage.bench.space.name.clone().into_bytes());
    assert_eq!(told, [expected, vec![mark.clone(), mark]].concat(), "drops before the mark");
}

#[tokio::test]
async fn a_step_that_expects_another_mark_does_nothing() {
    let mut stage = Stage::new().await;
    stage.bench.put("k", "value").await.unwrap();
    let first = moves(&stage.bench, step(&stage.bench, Condition::Absent, 1, [])).await;
    let before = stage.everything().await;
    for expected in [Condition::Absent, Condition::Version(first.next(0)), Condition::Version(Version::NONE)]
    {
        let bench = &stage.bench;
        let mut publication = step(bench, expected, 9, [(None, bench.key("k"))]);
        publication.clears = vec![None, Some("a".to_owned())];
        assert_eq!(publish(bench, publication).await.unwrap(), Reply::Refused(None), "{expected:?}");
    }
    assert_eq!(stage.everything().await, before, "no drop, no entry, no mark, no epoch");
    assert_eq!(watermark(&stage.bench, "k").await, Some(1));
}

#[tokio::test]
async fn of_two_relays_on_one_mark_one_moves_it() {
    let stage = Stage::new().await;
    let other = stage.bench.other_process();
    let mut version = moves(&stage.bench, step(&stage.bench, Condition::Absent, 0, [])).await;
    for round in 0..50 {
        let step = |bench| step(bench, Condition::Version(version), round, [(None, stage.bench.key("k"))]);
        let (one, two) = (step(&stage.bench), step(&other));
        let replies = tokio::join!(publish(&stage.bench, one), publish(&other, two));
        version = match (replies.0.unwrap(), replies.1.unwrap()) {
            (Reply::Kept(version), Reply::Refused(None)) | (Reply::Refused(None), Reply::Kept(version)) => {
                version
            }
            replies => panic!("one of two must move the mark: {replies:?}"),
        };
    }
}

#[tokio::test]
async fn hits_carry_what_the_mark_proves() {
    let stage = Stage::new().await;
    let bench = &stage.bench;
    let tenants = [bench.tenant("a"), bench.tenant("b")];
    let keys = ["k", "other"];
    for (bench, key) in
        [bench, &tenants[0], &tenants[1]].into_iter().flat_map(|bench| keys.map(|key| (bench, key)))
    {
        bench.put(key, "value").await.unwrap();
        assert_eq!(watermark(bench, key).await, None, "no mark, no proof");
    }
    let mut version = moves(bench, step(bench, Condition::Absent, 0, [])).await;
    assert_eq!(watermark(bench, "k").await, None, "a first mark proves nothing");
    for round in 1..3 {
        version = moves(bench, step(bench, Condition::Version(version), round, [])).await;
        for bench in [bench, &tenants[0], &tenants[1], &bench.other_process()] {
            assert_eq!(watermark(bench, "k").await, Some(round));
            let both: Vec<_> = ["k", "absent", "other"].map(|key| (bench.key(key), Op::Get)).into();
            let replies = bench.tier.apply_many(both).await;
            let proofs = replies.into_iter().map(|reply| match reply.unwrap() {
                Reply::Hit(stored) => stored.watermark.map(Version::as_u64),
                reply => {
                    assert_eq!(reply, Reply::Miss(Fence::default()));
                    Some(0)
                }
            });
            assert_eq!(proofs.collect::<Vec<_>>(), [Some(round), Some(0), Some(round)]);
            let hit = bench.tier.apply(&bench.key("k"), lease()).await.unwrap();
            assert!(matches!(hit, Reply::Hit(stored) if stored.watermark == Some(Version::from_u64(round))));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hits_of_a_crowd_carry_what_the_mark_proves() {
    let stage = Stage::new().await;
    let tenants: Vec<_> = (0..8).map(|number| stage.bench.tenant(&number.to_string())).collect();
    for tenant in &tenants {
        tenant.put("k", "value").await.unwrap();
    }
    let first = moves(&stage.bench, step(&stage.bench, Condition::Absent, 0, [])).await;
    moves(&stage.bench, step(&stage.bench, Condition::Version(first), 3, [])).await;
    let crowd = (0..256).map(|caller| {
        let tenant = &tenants[caller % tenants.len()];
        let (tier, key) = (std::sync::Arc::clone(&tenant.tier), tenant.key("k"));
        tokio::spawn(async move { tier.apply(&key, Op::Get).await })
    });
    for caller in crowd.collect::<Vec<_>>() {
        let reply = caller.await.unwrap().unwrap();
        assert!(matches!(reply, Reply::Hit(stored) if stored.watermark == Some(Version::from_u64(3))));
    }
}

#[tokio::test]
async fn a_cleared_copy_is_not_certified_however_fresh_the_hearing() {
    let stage = Stage::new().await;
    let (bench, other) = (&stage.bench, stage.bench.other_process());
    let mut version = moves(bench, step(bench, Condition::Absent, 0, [])).await;
    for tenant in [None, Some("a")] {
        for cleared in [None, Some("a".to_owned())] {
            let own =
                |bench: &Bench| tenant.map_or_else(|| bench.other_process(), |tenant| bench.tenant(tenant));
            let (here, there) = (own(bench), own(&other));
            here.put("k", "old").await.unwrap();
            there.reads("k", "old").await;
            let publication = step(bench, Condition::Version(version), 8, []);
            version = moves(bench, publication.with_clears(vec![cleared.clone()])).await;
            if cleared.is_none() || cleared.as_deref() == tenant {
                there.misses("k").await;
                here.misses("k").await;
            } else {
                there.reads("k", "old").await;
            }
        }
    }
}

#[tokio::test]
async fn a_clear_of_all_tenants_reaches_those_that_this_process_never_met() {
    let mut stage = Stage::new().await;
    let other = stage.bench.other_process().tenant("theirs");
    other.put("k", "old").await.unwrap();
    let fence = other.lease("leased").await.unwrap();
    let publication = step(&stage.bench, Condition::Absent, 0, []);
    moves(&stage.bench, publication.with_clears(vec![None])).await;
    other.misses("k").await;
    assert!(matches!(other.fill("leased", fence, "old").await.unwrap(), Reply::Refused(_)));
    other.put("k", "new").await.unwrap();
    other.reads("k", "new").await;
    let clears = stage.told().await.iter().filter(|(kind, _)| *kind == b'C').count();
    assert_eq!(clears, 1, "told once");
}

#[tokio::test]
async fn drops_reach_tenants_and_digests_and_keep_what_is_new() {
    let stage = Stage::new().await;
    let (bench, tenant) = (&stage.bench, stage.bench.tenant("a"));
    let long = "x".repeat(500);
    for bench in [bench, &tenant] {
        for key in ["k", "stays", &long] {
            bench.put(key, "value").await.unwrap();
        }
    }
    let Reply::Hit(kept) = tenant.get("stays").await.unwrap() else { panic!("a hit") };
    let keys = [tenant.key("k"), tenant.key(&long), tenant.key("stays")].map(|key| (Some("a"), key));
    let mut publication = step(bench, Condition::Absent, 0, keys);
    publication.drops[2].version = Some(kept.version);
    moves(bench, publication).await;
    for key in ["k", "stays", &long] {
        bench.reads(key, "value").await;
    }
    tenant.misses("k").await;
    tenant.misses(&long).await;
    tenant.reads("stays", "value").await;
}

#[tokio::test]
async fn foreign_values_are_dropped_and_a_log_that_is_none_leaves_the_mark() {
    let mut stage = Stage::new().await;
    let name = stage.bench.name("k");
    let _: () = stage.ask(&["LPUSH", &name, "foreign"]).await;
    let keys = |bench: &Bench| [(None, bench.key("k"))];
    let first = moves(&stage.bench, step(&stage.bench, Condition::Absent, 1, keys(&stage.bench))).await;
    assert_eq!(stage.ask::<String>(&["TYPE", &name]).await, "string", "a tombstone stands there now");
    let () = stage.ask(&["SET", "terrace:$log", "foreign"]).await;
    stage.bench.put("other", "value").await.unwrap_err();
    let publication = step(&stage.bench, Condition::Version(first), 2, keys(&stage.bench));
    publish(&stage.bench, publication.clone()).await.unwrap_err();
    let () = stage.ask(&["DEL", "terrace:$log"]).await;
    moves(&stage.bench, publication).await;
}

#[tokio::test]
async fn a_full_server_keeps_the_mark_where_it_was() {
    let mut stage = Stage::new().await;
    stage.bench.put("k", "value").await.unwrap();
    let first = moves(&stage.bench, step(&stage.bench, Condition::Absent, 1, [])).await;
    let () = stage.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let publication = step(&stage.bench, Condition::Version(first), 2, [(None, stage.bench.key("k"))]);
    assert_eq!(kind_of(publish(&stage.bench, publication.clone()).await), ErrorKind::ReadOnly);
    assert_eq!(watermark(&stage.bench, "k").await, Some(1));
    let () = stage.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    moves(&stage.bench, publication).await;
    stage.bench.misses("k").await;
}

#[tokio::test]
async fn a_forgotten_script_is_sent_again() {
    let mut stage = Stage::new().await;
    let mut version = moves(&stage.bench, step(&stage.bench, Condition::Absent, 0, [])).await;
    for round in 0..3 {
        stage.bench.put("k", "value").await.unwrap();
        let () = stage.ask(&["SCRIPT", "FLUSH"]).await;
        let keys = [(None, stage.bench.key("k"))];
        version = moves(&stage.bench, step(&stage.bench, Condition::Version(version), round, keys)).await;
        stage.bench.misses("k").await;
    }
}

#[tokio::test]
async fn two_thousand_keys_are_one_step() {
    let stage = Stage::new().await;
    let bench = &stage.bench;
    let keys: Vec<_> = (0..Publication::MAX_DROPS).map(|number| format!("user:{number}")).collect();
    let puts = keys.iter().map(|key| (bench.key(key), put("value"))).collect();
    assert!(bench.tier.apply_many(puts).await.iter().all(Result::is_ok));
    let drops = || keys.iter().map(|key| (None, bench.key(key)));
    let mut version = moves(bench, step(bench, Condition::Absent, 0, drops())).await;
    let gets = keys.iter().map(|key| (bench.key(key), Op::Get)).collect();
    let replies = bench.tier.apply_many(gets).await;
    assert!(replies.into_iter().all(|reply| reply.unwrap() == Reply::Miss(Fence::default())));
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let publication = step(bench, Condition::Version(version), 1, drops());
        let begun = Instant::now();
        version = moves(bench, publication).await;
        best = best.min(begun.elapsed());
    }
    println!("{} drops, as their caller sees it: {best:.1?}", keys.len());
    let one_more = step(bench, Condition::Version(version), 1, drops().chain([(None, bench.key("more"))]));
    assert_eq!(kind_of(publish(bench, one_more).await), ErrorKind::TooLarge);
}

#[tokio::test]
async fn a_server_that_went_back_shows_the_mark_of_its_copies() {
    let mut stage = Stage::new().await;
    stage.bench.put("k", "old").await.unwrap();
    let first = moves(&stage.bench, step(&stage.bench, Condition::Absent, 1, [])).await;
    let past = dump(&mut stage.raw).await;
    let keys = [(None, stage.bench.key("k"))];
    let second = moves(&stage.bench, step(&stage.bench, Condition::Version(first), 2, keys)).await;
    go_back(&mut stage.raw, &past).await;
    stage.bench.reads("k", "old").await;
    assert_eq!(watermark(&stage.bench, "k").await, Some(1));
    let late = step(&stage.bench, Condition::Version(second), 3, []);
    assert_eq!(publish(&stage.bench, late).await.unwrap(), Reply::Refused(None));
}

#[tokio::test]
async fn a_step_that_the_disk_has_in_part_never_was() {
    let server = Redis::options().durable().start().await.unwrap();
    let mut stage = Stage::on(server).await;
    for key in ["a", "b", "c"] {
        stage.bench.put(key, "old").await.unwrap();
    }
    let first = moves(&stage.bench, step(&stage.bench, Condition::Absent, 1, [])).await;
    let keys = ["a", "b", "c"].map(|key| (None, stage.bench.key(key)));
    moves(&stage.bench, step(&stage.bench, Condition::Version(first), 2, keys.clone())).await;
    let folder: Vec<String> = stage.ask(&["CONFIG", "GET", "dir"]).await;
    stage.server.kill9().unwrap();
    // Of the last commands of the step the disk has nothing: what a crash of the host may leave.
    let log = std::path::Path::new(&folder[1]).join("appendonlydir/appendonly.aof.1.incr.aof");
    let file = std::fs::OpenOptions::new().write(true).open(log).unwrap();
    file.set_len(file.metadata().unwrap().len() - 40).unwrap();
    stage.server.restart().await.unwrap();
    stage.bench.recovers_within(Duration::from_secs(20)).await;
    for key in ["a", "b", "c"] {
        stage.bench.reads(key, "old").await;
        assert_eq!(watermark(&stage.bench, key).await, Some(1), "with the old copies the old mark");
    }
    moves(&stage.bench, step(&stage.bench, Condition::Version(first), 2, keys)).await;
    stage.bench.misses("a").await;
}
