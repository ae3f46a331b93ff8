//! A relay's step: the invalidations and the advance of the watermark are atomic, whatever fails.

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
    bench::{Bench, keys_in, kind_of, lease, put, raw},
    log::{dump, roll_back},
};

const BOUNDED: Level = Level::Bounded(Duration::from_secs(1));

/// A server, a tier on it that reads the watermark, and a connection for the test's own commands.
struct Setup {
    server: Redis,
    bench: Bench,
    raw: MultiplexedConnection,
}

impl Setup {
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

    /// All keys of the server with their values, in order.
    async fn all_data(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = dump(&mut self.raw).await;
        all.sort();
        all
    }

    /// The kind and the key of each log entry, the oldest first.
    async fn logged(&mut self) -> Vec<(u8, Vec<u8>)> {
        type Entries = Vec<(String, Vec<(String, Vec<u8>)>)>;
        let entries: Entries = self.ask(&["XRANGE", "terrace:$log", "-", "+"]).await;
        entries.iter().flat_map(|(_, fields)| keys_in(&fields[0].1)).collect()
    }
}

/// A step of relay 7 that invalidates `keys`.
fn step<'a>(
    bench: &Bench,
    expected: Condition,
    watermark: u64,
    keys: impl IntoIterator<Item = (Option<&'a str>, TierKey)>,
) -> Publication {
    let invalidation = |(tenant, key): (Option<&str>, TierKey)| {
        let tenant = tenant.map(str::to_owned);
        Invalidation { tenant, key, version: None }
    };
    let value =
        Watermark { relay: 7, version: Version::from_u64(watermark), position: Bytes::from_static(b"here") };
    let (key, ttl) = (Watermark::key(&bench.namespace.name), Duration::from_secs(600));
    Publication::new(key, expected, value.encode(), ttl)
        .with_drops(keys.into_iter().map(invalidation).collect())
}

async fn publish(bench: &Bench, publication: Publication) -> Result<Reply> {
    bench.tier.publish().unwrap().publish(publication).await
}

async fn publish_ok(bench: &Bench, publication: Publication) -> Version {
    match publish(bench, publication).await.unwrap() {
        Reply::Kept(version) => version,
        reply => panic!("the watermark must advance: {reply:?}"),
    }
}

async fn watermark(bench: &Bench, key: &str) -> Option<u64> {
    match bench.get(key).await.unwrap() {
        Reply::Hit(stored) => stored.watermark.map(Version::as_u64),
        reply => panic!("{key} must be a hit: {reply:?}"),
    }
}

#[tokio::test]
async fn a_step_invalidates_and_advances_the_watermark() {
    let mut setup = Setup::new().await;
    let bench = &setup.bench;
    bench.put("k", "old").await.unwrap();
    let fence = bench.lease("leased").await.unwrap();
    let keys = ["k", "leased", "absent"].map(|key| (None, bench.key(key)));
    let first = publish_ok(bench, step(bench, Condition::Absent, 0, keys)).await;
    bench.misses("k").await;
    assert!(matches!(bench.fill("leased", fence, "old").await.unwrap(), Reply::Refused(_)));
    let second = publish_ok(bench, step(bench, Condition::Version(first), 5, [])).await;
    assert!(second > first);
    let logged = setup.logged().await;
    let expected: Vec<_> = ["k", "k", "leased", "absent"].map(|key| (b'K', key.as_bytes().to_vec())).into();
    let watermark = (b'K', setup.bench.namespace.name.clone().into_bytes());
    assert_eq!(
        logged,
        [expected, vec![watermark.clone(), watermark]].concat(),
        "the invalidations come before the watermark"
    );
}

#[tokio::test]
async fn a_step_that_expects_another_watermark_does_nothing() {
    let mut setup = Setup::new().await;
    setup.bench.put("k", "value").await.unwrap();
    let first = publish_ok(&setup.bench, step(&setup.bench, Condition::Absent, 1, [])).await;
    let before = setup.all_data().await;
    for expected in [Condition::Absent, Condition::Version(first.next(0)), Condition::Version(Version::NONE)]
    {
        let bench = &setup.bench;
        let mut publication = step(bench, expected, 9, [(None, bench.key("k"))]);
        publication.clears = vec![None, Some("a".to_owned())];
        assert_eq!(publish(bench, publication).await.unwrap(), Reply::Refused(None), "{expected:?}");
    }
    assert_eq!(
        setup.all_data().await,
        before,
        "the step must not change a cell, the log, the watermark or an epoch"
    );
    assert_eq!(watermark(&setup.bench, "k").await, Some(1));
}

#[tokio::test]
async fn of_two_relays_on_one_watermark_one_advances_it() {
    let setup = Setup::new().await;
    let other = setup.bench.other_process();
    let mut version = publish_ok(&setup.bench, step(&setup.bench, Condition::Absent, 0, [])).await;
    for round in 0..50 {
        let step = |bench| step(bench, Condition::Version(version), round, [(None, setup.bench.key("k"))]);
        let (one, two) = (step(&setup.bench), step(&other));
        let replies = tokio::join!(publish(&setup.bench, one), publish(&other, two));
        version = match (replies.0.unwrap(), replies.1.unwrap()) {
            (Reply::Kept(version), Reply::Refused(None)) | (Reply::Refused(None), Reply::Kept(version)) => {
                version
            }
            replies => panic!("one of two must advance the watermark: {replies:?}"),
        };
    }
}

#[tokio::test]
async fn hits_carry_the_version_that_the_watermark_proves() {
    let setup = Setup::new().await;
    let bench = &setup.bench;
    let tenants = [bench.tenant("a"), bench.tenant("b")];
    let keys = ["k", "other"];
    for (bench, key) in
        [bench, &tenants[0], &tenants[1]].into_iter().flat_map(|bench| keys.map(|key| (bench, key)))
    {
        bench.put(key, "value").await.unwrap();
        assert_eq!(watermark(bench, key).await, None, "without a watermark there is no proof");
    }
    let mut version = publish_ok(bench, step(bench, Condition::Absent, 0, [])).await;
    assert_eq!(watermark(bench, "k").await, None, "the first watermark proves nothing");
    for round in 1..3 {
        version = publish_ok(bench, step(bench, Condition::Version(version), round, [])).await;
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
async fn concurrent_hits_carry_the_version_that_the_watermark_proves() {
    let setup = Setup::new().await;
    let tenants: Vec<_> = (0..8).map(|number| setup.bench.tenant(&number.to_string())).collect();
    for tenant in &tenants {
        tenant.put("k", "value").await.unwrap();
    }
    let first = publish_ok(&setup.bench, step(&setup.bench, Condition::Absent, 0, [])).await;
    publish_ok(&setup.bench, step(&setup.bench, Condition::Version(first), 3, [])).await;
    let callers = (0..256).map(|caller| {
        let tenant = &tenants[caller % tenants.len()];
        let (tier, key) = (std::sync::Arc::clone(&tenant.tier), tenant.key("k"));
        tokio::spawn(async move { tier.apply(&key, Op::Get).await })
    });
    for caller in callers.collect::<Vec<_>>() {
        let reply = caller.await.unwrap().unwrap();
        assert!(matches!(reply, Reply::Hit(stored) if stored.watermark == Some(Version::from_u64(3))));
    }
}

#[tokio::test]
async fn a_cleared_copy_is_a_miss_however_fresh_the_last_known_epoch() {
    let setup = Setup::new().await;
    let (bench, other) = (&setup.bench, setup.bench.other_process());
    let mut version = publish_ok(bench, step(bench, Condition::Absent, 0, [])).await;
    for tenant in [None, Some("a")] {
        for cleared in [None, Some("a".to_owned())] {
            let own =
                |bench: &Bench| tenant.map_or_else(|| bench.other_process(), |tenant| bench.tenant(tenant));
            let (here, there) = (own(bench), own(&other));
            here.put("k", "old").await.unwrap();
            there.reads("k", "old").await;
            let publication = step(bench, Condition::Version(version), 8, []);
            version = publish_ok(bench, publication.with_clears(vec![cleared.clone()])).await;
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
async fn a_clear_of_all_tenants_reaches_tenants_that_this_process_does_not_use() {
    let mut setup = Setup::new().await;
    let other = setup.bench.other_process().tenant("theirs");
    other.put("k", "old").await.unwrap();
    let fence = other.lease("leased").await.unwrap();
    let publication = step(&setup.bench, Condition::Absent, 0, []);
    publish_ok(&setup.bench, publication.with_clears(vec![None])).await;
    other.misses("k").await;
    assert!(matches!(other.fill("leased", fence, "old").await.unwrap(), Reply::Refused(_)));
    other.put("k", "new").await.unwrap();
    other.reads("k", "new").await;
    let clears = setup.logged().await.iter().filter(|(kind, _)| *kind == b'C').count();
    assert_eq!(clears, 1, "the clear has one log entry");
}

#[tokio::test]
async fn invalidations_reach_tenants_and_digests_and_keep_newer_copies() {
    let setup = Setup::new().await;
    let (bench, tenant) = (&setup.bench, setup.bench.tenant("a"));
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
    publish_ok(bench, publication).await;
    for key in ["k", "stays", &long] {
        bench.reads(key, "value").await;
    }
    tenant.misses("k").await;
    tenant.misses(&long).await;
    tenant.reads("stays", "value").await;
}

#[tokio::test]
async fn foreign_values_are_replaced_and_a_foreign_log_leaves_the_watermark() {
    let mut setup = Setup::new().await;
    let name = setup.bench.cell_name("k");
    let _: () = setup.ask(&["LPUSH", &name, "foreign"]).await;
    let keys = |bench: &Bench| [(None, bench.key("k"))];
    let first = publish_ok(&setup.bench, step(&setup.bench, Condition::Absent, 1, keys(&setup.bench))).await;
    assert_eq!(setup.ask::<String>(&["TYPE", &name]).await, "string", "the key holds a tombstone now");
    let () = setup.ask(&["SET", "terrace:$log", "foreign"]).await;
    setup.bench.put("other", "value").await.unwrap_err();
    let publication = step(&setup.bench, Condition::Version(first), 2, keys(&setup.bench));
    publish(&setup.bench, publication.clone()).await.unwrap_err();
    let () = setup.ask(&["DEL", "terrace:$log"]).await;
    publish_ok(&setup.bench, publication).await;
}

#[tokio::test]
async fn a_full_server_takes_a_relays_step() {
    let mut setup = Setup::new().await;
    setup.bench.put("k", "value").await.unwrap();
    let first = publish_ok(&setup.bench, step(&setup.bench, Condition::Absent, 1, [])).await;
    let () = setup.ask(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let publication = step(&setup.bench, Condition::Version(first), 2, [(None, setup.bench.key("k"))]);
    assert_eq!(kind_of(setup.bench.put("k", "more").await), ErrorKind::ReadOnly);
    publish_ok(&setup.bench, publication.with_clears(vec![Some("a".into())])).await;
    setup.bench.misses("k").await;
    let () = setup.ask(&["CONFIG", "SET", "maxmemory", "0"]).await;
    setup.bench.put("k", "again").await.unwrap();
    assert_eq!(watermark(&setup.bench, "k").await, Some(2));
}

#[tokio::test]
async fn a_forgotten_script_is_sent_again() {
    let mut setup = Setup::new().await;
    let mut version = publish_ok(&setup.bench, step(&setup.bench, Condition::Absent, 0, [])).await;
    for round in 0..3 {
        setup.bench.put("k", "value").await.unwrap();
        let () = setup.ask(&["SCRIPT", "FLUSH"]).await;
        let keys = [(None, setup.bench.key("k"))];
        version =
            publish_ok(&setup.bench, step(&setup.bench, Condition::Version(version), round, keys)).await;
        setup.bench.misses("k").await;
    }
}

#[tokio::test]
async fn two_thousand_keys_are_one_step() {
    let setup = Setup::new().await;
    let bench = &setup.bench;
    let keys: Vec<_> = (0..Publication::MAX_DROPS).map(|number| format!("user:{number}")).collect();
    let puts = keys.iter().map(|key| (bench.key(key), put("value"))).collect();
    assert!(bench.tier.apply_many(puts).await.iter().all(Result::is_ok));
    let drops = || keys.iter().map(|key| (None, bench.key(key)));
    let mut version = publish_ok(bench, step(bench, Condition::Absent, 0, drops())).await;
    let gets = keys.iter().map(|key| (bench.key(key), Op::Get)).collect();
    let replies = bench.tier.apply_many(gets).await;
    assert!(replies.into_iter().all(|reply| reply.unwrap() == Reply::Miss(Fence::default())));
    let mut best = Duration::MAX;
    for _ in 0..10 {
        let publication = step(bench, Condition::Version(version), 1, drops());
        let start = Instant::now();
        version = publish_ok(bench, publication).await;
        best = best.min(start.elapsed());
    }
    println!("{} invalidations take {best:.1?} for their caller", keys.len());
    let one_more = step(bench, Condition::Version(version), 1, drops().chain([(None, bench.key("more"))]));
    assert_eq!(kind_of(publish(bench, one_more).await), ErrorKind::TooLarge);
}

#[tokio::test]
async fn after_a_rollback_copies_have_their_old_watermark() {
    let mut setup = Setup::new().await;
    setup.bench.put("k", "old").await.unwrap();
    let first = publish_ok(&setup.bench, step(&setup.bench, Condition::Absent, 1, [])).await;
    let past = dump(&mut setup.raw).await;
    let keys = [(None, setup.bench.key("k"))];
    let second = publish_ok(&setup.bench, step(&setup.bench, Condition::Version(first), 2, keys)).await;
    roll_back(&mut setup.raw, &past).await;
    setup.bench.reads("k", "old").await;
    assert_eq!(watermark(&setup.bench, "k").await, Some(1));
    let late = step(&setup.bench, Condition::Version(second), 3, []);
    assert_eq!(publish(&setup.bench, late).await.unwrap(), Reply::Refused(None));
}

#[tokio::test]
async fn a_step_that_is_on_disk_in_part_is_undone() {
    let server = Redis::options().durable().start().await.unwrap();
    let mut setup = Setup::on(server).await;
    for key in ["a", "b", "c"] {
        setup.bench.put(key, "old").await.unwrap();
    }
    let first = publish_ok(&setup.bench, step(&setup.bench, Condition::Absent, 1, [])).await;
    let keys = ["a", "b", "c"].map(|key| (None, setup.bench.key(key)));
    publish_ok(&setup.bench, step(&setup.bench, Condition::Version(first), 2, keys.clone())).await;
    let folder: Vec<String> = setup.ask(&["CONFIG", "GET", "dir"]).await;
    setup.server.kill9().unwrap();
    // Truncates the last commands of the step, as a crash of the host may do.
    let folder = std::path::Path::new(&folder[1]);
    let of_redis_7 = folder.join("appendonlydir/appendonly.aof.1.incr.aof");
    let log = if of_redis_7.exists() { of_redis_7 } else { folder.join("appendonly.aof") };
    let file = std::fs::OpenOptions::new().write(true).open(log).unwrap();
    file.set_len(file.metadata().unwrap().len() - 40).unwrap();
    setup.server.restart().await.unwrap();
    setup.bench.recovers_within(Duration::from_secs(20)).await;
    for key in ["a", "b", "c"] {
        setup.bench.reads(key, "old").await;
        assert_eq!(watermark(&setup.bench, key).await, Some(1), "the old copies must have the old watermark");
    }
    publish_ok(&setup.bench, step(&setup.bench, Condition::Version(first), 2, keys)).await;
    setup.bench.misses("a").await;
}
