//! Versions of a program whose value types differ share a namespace.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use support::{FixedExpiry, fake, ms};
use terrace_conformance::{Call, Fake, Fault, Faulty, Recording};
use terrace_core::{BoxError, Builder, Cache, ErrorKind, Level, NoNear, Value};
use terrace_tier::{Clock, ManualClock};

/// The value type of the old version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Old {
    name: String,
}

/// The value type of the new version, which has a field more.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct New {
    name: String,
    age: Option<u8>,
}

type Version<V> = Cache<u64, V, NoNear>;

fn old(name: &str) -> Old {
    Old { name: name.to_owned() }
}

fn new(name: &str) -> New {
    New { name: name.to_owned(), age: Some(7) }
}

fn version<V>(hand: &ManualClock) -> Builder<u64, V, NoNear>
where
    V: Value + Serialize + DeserializeOwned,
{
    Builder::new("users".to_owned(), NoNear).clock(hand).expire(FixedExpiry::fresh(ms(60_000)))
}

/// One process of each version over the tiers. Each process has handles of its own.
fn both(hand: &ManualClock, tiers: &[Fake], level: Level) -> (Version<Old>, Version<New>) {
    fn build<V>(builder: Builder<u64, V, NoNear>, tiers: &[Fake]) -> Version<V>
    where
        V: Value + Serialize + DeserializeOwned,
    {
        tiers.iter().fold(builder, |builder, tier| builder.tier(tier.another_handle())).build().unwrap()
    }
    (build(version(hand).level(level), tiers), build(version(hand).level(level), tiers))
}

/// Reads a key, and counts the load if there is one.
async fn read<V: Value + Clone>(cache: &Version<V>, key: u64, loads: &AtomicU64, value: V) -> V {
    let loads = move || {
        loads.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok::<_, BoxError>(value))
    };
    let read = cache.get_or_load(&key, loads).await.unwrap();
    cache.settled().await;
    (*read).clone()
}

#[tokio::test(start_paused = true)]
async fn each_version_loads_a_key_once_forward_and_back() {
    for (tiers, level) in [(1, Level::Fenced), (2, Level::Fenced), (1, Level::Ttl), (2, Level::Ttl)] {
        let hand = Clock::manual();
        let names = ["redis", "postgres"];
        let tiers: Vec<Fake> = names[..tiers].iter().map(|name| fake(name, &hand)).collect();
        let (first, second) = both(&hand, &tiers, level);
        first.ready().await.unwrap();
        second.ready().await.unwrap();
        let loads = [AtomicU64::new(0), AtomicU64::new(0)];
        for _ in 0..5 {
            for key in 0..20 {
                assert_eq!(read(&first, key, &loads[0], old("Ann")).await, old("Ann"));
                assert_eq!(read(&second, key, &loads[1], new("Ann")).await, new("Ann"));
            }
        }
        let [first, second] = loads.map(AtomicU64::into_inner);
        assert_eq!((first, second), (20, 20), "{} tiers at level {level:?}", tiers.len());
    }
}

#[tokio::test(start_paused = true)]
async fn one_number_more_of_the_schema_is_another_version() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let build = |schema| version::<Old>(&hand).schema(schema).tier(tier.another_handle()).build().unwrap();
    let (feet, metres) = (build(0), build(1));
    let loads = [AtomicU64::new(0), AtomicU64::new(0)];
    for _ in 0..3 {
        assert_eq!(read(&feet, 1, &loads[0], old("6 ft")).await, old("6 ft"));
        assert_eq!(read(&metres, 1, &loads[1], old("1.8 m")).await, old("1.8 m"));
    }
    assert_eq!(loads.map(AtomicU64::into_inner), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn whatever_changes_a_key_reaches_all_versions() {
    for level in [Level::Fenced, Level::Ttl] {
        for tiers in [1, 2] {
            let hand = Clock::manual();
            let tiers: Vec<Fake> =
                ["redis", "postgres"][..tiers].iter().map(|name| fake(name, &hand)).collect();
            let (first, second) = both(&hand, &tiers, level);
            let loads = AtomicU64::new(0);
            for change in ["invalidate", "remove", "clear", "put", "the new version's put"] {
                read(&first, 1, &loads, old("before")).await;
                read(&second, 1, &loads, new("before")).await;
                match change {
                    "invalidate" => drop(first.invalidate(&1).await.unwrap()),
                    "remove" => drop(first.remove(&1).await.unwrap()),
                    "clear" => first.clear().await.unwrap(),
                    "put" => drop(first.put(&1, old("after")).await.unwrap()),
                    _ => drop(second.put(&1, new("after")).await.unwrap()),
                }
                hand.advance(ms(200));
                tokio::time::advance(ms(200)).await;
                assert_eq!(read(&first, 1, &loads, old("after")).await, old("after"), "{change}, {level:?}");
                assert_eq!(read(&second, 1, &loads, new("after")).await, new("after"), "{change}, {level:?}");
                first.invalidate(&1).await.unwrap();
            }
        }
    }
}

/// The new version's load is under way, over the entry of the old version, when the key is invalidated.
#[tokio::test(start_paused = true)]
async fn a_change_during_a_load_leaves_no_value_of_another_version() {
    for call in [Call::Lease, Call::Get, Call::Fill] {
        let hand = Clock::manual();
        let tier = fake("redis", &hand);
        let slow = Faulty::new(tier.another_handle());
        let (first, _) = both(&hand, &[tier], Level::Fenced);
        let second: Version<New> = version(&hand).tier(slow.clone()).build().unwrap();
        let loads = AtomicU64::new(0);
        read(&first, 1, &loads, old("before")).await;
        // Each step of the load is slow in turn: the lease, the last look at the cell, and the fill.
        slow.arm(Fault::delay(ms(20)).on(call));
        let load = async || {
            tokio::time::sleep(ms(20)).await;
            Ok::<_, BoxError>(new("after"))
        };
        let change = async {
            tokio::time::sleep(ms(30)).await;
            first.invalidate(&1).await.unwrap();
        };
        let (loaded, ()) = tokio::join!(second.get_or_load(&1, load), change);
        loaded.unwrap();
        second.settled().await;
        assert_eq!(first.get(&1).await.unwrap(), None, "{call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn values_that_share_a_cell_end_when_the_first_of_them_ends() {
    let hand = Clock::manual();
    let (first, second) = both(&hand, &[fake("redis", &hand)], Level::Fenced);
    let loads = AtomicU64::new(0);
    read(&first, 1, &loads, old("Ann")).await;
    hand.advance(ms(40_000));
    read(&second, 1, &loads, new("Ann")).await;
    assert_eq!(first.ttl(&1).await.unwrap(), Some(ms(20_000)), "no life became longer");
    hand.advance(ms(20_000));
    assert_eq!(first.get(&1).await.unwrap(), None);
    assert_eq!(second.get(&1).await.unwrap(), None);
}

#[tokio::test(start_paused = true)]
async fn a_refresh_leaves_no_older_value_of_another_version() {
    let hand = Clock::manual();
    let (first, second) = both(&hand, &[fake("redis", &hand)], Level::Fenced);
    let loads = AtomicU64::new(0);
    read(&first, 1, &loads, old("before")).await;
    second.refresh(&1, async |_| Ok::<_, BoxError>(new("after"))).await.unwrap();
    second.settled().await;
    assert_eq!(first.get(&1).await.unwrap(), None);
}

/// Two cache tiers: the nearer one has not heard of a change when the new version loads.
#[tokio::test(start_paused = true)]
async fn a_nearer_tier_keeps_no_value_that_the_authority_has_dropped() {
    for call in [Call::Invalidate, Call::Put] {
        let hand = Clock::manual();
        let tiers = [fake("redis", &hand), fake("postgres", &hand)];
        let (first, second) = both(&hand, &tiers, Level::Fenced);
        let slow = Faulty::new(tiers[0].another_handle());
        let changer = version::<Old>(&hand).tier(slow.clone()).tier(tiers[1].another_handle());
        let changer = changer.build().unwrap();
        let loads = AtomicU64::new(0);
        read(&first, 1, &loads, old("before")).await;
        slow.arm(Fault::delay(ms(40)).on(call));
        let change = async {
            match call {
                Call::Put => drop(changer.put(&1, old("after")).await.unwrap()),
                _ => drop(changer.invalidate(&1).await.unwrap()),
            }
        };
        let load = async {
            tokio::time::sleep(ms(10)).await;
            read(&second, 1, &AtomicU64::new(0), new("after")).await
        };
        tokio::join!(change, load);
        let found = first.get(&1).await.unwrap().map(|value| (*value).clone());
        assert!(found.is_none() || found == Some(old("after")), "{call:?}: {found:?}");
        assert_eq!(slow.armed(), 0, "the change was slow");
    }
}

#[tokio::test(start_paused = true)]
async fn only_a_load_over_another_versions_value_makes_more_trips() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let counted = Recording::new(tier.another_handle());
    let first: Version<Old> = version(&hand).tier(counted.clone()).build().unwrap();
    let second: Version<New> = version(&hand).tier(counted.clone()).build().unwrap();
    let names = |from: usize| counted.ops()[from..].iter().map(terrace_tier::Op::name).collect::<Vec<_>>();
    let loads = AtomicU64::new(0);
    read(&first, 1, &loads, old("Ann")).await;
    assert_eq!(names(0), ["lease", "fill"]);
    read(&second, 1, &loads, new("Ann")).await;
    assert_eq!(names(2), ["lease", "lease", "get", "fill"]);
    read(&first, 1, &loads, old("Ann")).await;
    read(&second, 1, &loads, new("Ann")).await;
    assert_eq!(names(6), ["lease", "lease"], "a hit is one trip");
}

#[tokio::test(start_paused = true)]
async fn old_records_and_copies_are_upgraded_when_they_are_read() {
    #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
    struct Newest {
        full_name: String,
    }
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let (redis, postgres) = (|| tier.another_handle(), || store.another_handle());
    let v1 = version::<Old>(&hand).schema(1).tier(redis()).store(postgres()).build().unwrap();
    let v2 = version::<New>(&hand).schema(2).tier(redis()).store(postgres());
    let v2 = v2.upgrade::<Old>(1, |old| New { name: old.name, age: None }).build().unwrap();
    let v3 = version::<Newest>(&hand).schema(3).tier(redis()).store(postgres());
    let v3 = v3.upgrade::<New>(2, |new| Newest { full_name: new.name });
    let v3 = v3.upgrade::<Old>(1, |old| Newest { full_name: old.name }).build().unwrap();
    v1.put(&1, old("Ann")).await.unwrap();
    let upgraded = New { name: "Ann".to_owned(), age: None };
    assert_eq!(*v2.get(&1).await.unwrap().unwrap(), upgraded);
    assert_eq!(v3.get(&1).await.unwrap().unwrap().full_name, "Ann");
    assert_eq!(*v1.get(&1).await.unwrap().unwrap(), old("Ann"), "a read changes no record");
    v2.put(&1, new("Bob")).await.unwrap();
    assert_eq!(v3.get(&1).await.unwrap().unwrap().full_name, "Bob");
    let error = v1.get(&1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undecodable);
    assert!(error.to_string().contains("a newer program wrote it, with schema 2"), "{error}");
    assert_eq!(
        *v2.get(&1).await.unwrap().unwrap(),
        new("Bob"),
        "the read of the old program changed nothing"
    );
}

/// A rolling update in two steps: the bridge writes the old type and reads both.
#[tokio::test(start_paused = true)]
async fn a_bridge_reads_what_the_newer_version_writes() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let bridge = version::<Old>(&hand).schema(1).store(store.another_handle());
    let bridge = bridge.upgrade::<New>(2, |new| Old { name: new.name }).build().unwrap();
    let next = version::<New>(&hand).schema(2).store(store.another_handle());
    let next = next.upgrade::<Old>(1, |old| New { name: old.name, age: None }).build().unwrap();
    bridge.put(&1, old("Ann")).await.unwrap();
    assert_eq!(next.get(&1).await.unwrap().unwrap().name, "Ann");
    next.put(&1, new("Bob")).await.unwrap();
    assert_eq!(*bridge.get(&1).await.unwrap().unwrap(), old("Bob"));
    let load = async || Ok::<_, BoxError>(old("never"));
    assert_eq!(*bridge.get_or_load(&1, load).await.unwrap(), old("Bob"));
    let both = bridge.get_many(&[1, 2]).await.into_values().unwrap();
    assert_eq!(both[0].as_deref(), Some(&old("Bob")));
}

#[tokio::test]
async fn an_upgrade_that_says_nothing_new_is_refused_at_build() {
    let hand = Clock::manual();
    let own = version::<Old>(&hand).tier(fake("redis", &hand)).upgrade::<Old>(0, |old| old);
    let twice = version::<New>(&hand).schema(2).tier(fake("redis", &hand));
    let twice = twice.upgrade::<Old>(1, |_| new("a")).upgrade::<Old>(1, |_| new("b"));
    assert_eq!(own.build().unwrap_err().kind(), ErrorKind::Config);
    assert_eq!(twice.build().unwrap_err().kind(), ErrorKind::Config);
}
