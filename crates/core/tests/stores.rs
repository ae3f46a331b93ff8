//! A cache with a store, which holds the records.

mod support;

use serde::{Deserialize, Serialize};
use support::{Loader, builder, fake, ms, without_near};
use terrace_conformance::{Call, Fault, Faulty};
use terrace_core::{BoxError, Builder, ErrorKind, Item, Level, NoNear, Source};
use terrace_tier::Clock;

#[tokio::test(start_paused = true)]
async fn a_record_outlives_every_copy() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let cache = builder().clock(&hand).tier(tier).store(store).build().unwrap();
    cache.put("k", 1).await.unwrap();
    hand.advance(ms(365 * 24 * 3_600_000));
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Store("postgres"));
    assert_eq!(cache.ttl("k").await.unwrap(), Some(std::time::Duration::MAX));
}

#[tokio::test(start_paused = true)]
async fn a_loader_creates_what_is_absent_and_the_record_stays() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let cache = builder().clock(&hand).store(store.clone()).build().unwrap();
    let loader = Loader::default();
    assert_eq!(cache.get_or_load("k", || loader.give(1, ms(1))).await.unwrap(), 1);
    let other = without_near().clock(&hand).store(store).build().unwrap();
    assert_eq!(other.get("k").await.unwrap().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_record_is_read_once_its_copy_is_over_though_the_load_that_made_it_is_still_filling() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let tier = Faulty::new(tier);
    tier.arm(Fault::delay(ms(20)).on(Call::Fill));
    let cache = builder().clock(&hand).tier(tier.clone()).store(store).build().unwrap();
    cache.get_or_load("k", || Loader::default().give(1, ms(1))).await.unwrap();
    // The flight still exists, but its answer has expired.
    hand.advance(ms(300_000));
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    let many = cache.get_many(&["k".to_owned()]).await.into_values().unwrap();
    assert_eq!(many[0].clone().unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_to_create_a_record_wins_and_everyone_gets_the_winner() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let stack = || builder().clock(&hand).store(store.another_handle()).build().unwrap();
    let (slow, fast) = (stack(), stack());
    let first = slow.get_or_load("k", || Loader::default().give(1, ms(50)));
    let second = async {
        tokio::time::sleep(ms(10)).await;
        fast.get_or_load("k", || Loader::default().give(2, ms(5))).await
    };
    let (first, second) = tokio::join!(first, second);
    assert_eq!((*first.unwrap(), *second.unwrap()), (2, 2));
    assert_eq!(slow.get("k").await.unwrap().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_lost_to_a_remove_is_answered_and_not_kept() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let stack = || builder().clock(&hand).store(store.another_handle()).build().unwrap();
    let (here, there) = (stack(), stack());
    let load = here.get_or_load("k", || Loader::default().give(1, ms(50)));
    let remove = async {
        tokio::time::sleep(ms(10)).await;
        there.remove("k").await
    };
    let (load, removed) = tokio::join!(load, remove);
    assert_eq!((*load.unwrap(), removed.unwrap()), (1, false));
    assert!(here.get("k").await.unwrap().is_none());
    assert!(there.get("k").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn invalidate_keeps_the_record_and_remove_deletes_it() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let cache = builder().clock(&hand).tier(tier).store(store).build().unwrap();
    cache.put("k", 1).await.unwrap();
    cache.invalidate("k").await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    cache.clear().await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    assert!(cache.remove("k").await.unwrap());
    assert!(cache.get("k").await.unwrap().is_none());
    assert!(!cache.remove("k").await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_negative_no_row_answers_plain_reads_and_never_a_loader() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let expiry = TwoLifetimes { value: ms(60_000), absence: ms(5_000) };
    let cache = builder().clock(&hand).tier(tier).store(store.clone()).expire(expiry).build().unwrap();
    assert!(cache.get("k").await.unwrap().is_none());
    cache.settled().await;
    let before = store.calls().total();
    assert!(cache.get("k").await.unwrap().is_none());
    assert_eq!(store.calls().total(), before, "the second read must find the absence in the tier");
    assert_eq!(cache.get_or_load("k", || Loader::default().give(3, ms(1))).await.unwrap(), 3);
    cache.settled().await;
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_loader_creates_a_record_however_many_plain_reads_find_its_absence() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let expiry = TwoLifetimes { value: ms(60_000), absence: ms(5_000) };
    let cache = without_near().clock(&hand).tier(tier.clone()).store(store).expire(expiry).build().unwrap();
    assert!(cache.get("k").await.unwrap().is_none());
    cache.settled().await;
    tier.set_latency(ms(5));
    // Each read leads the next flight before the loader can join it.
    let reads = async {
        for _ in 0..6 {
            assert!(cache.get("k").await.is_ok());
        }
    };
    let load = cache.get_or_load("k", || Loader::default().give(1, ms(1)));
    let ((), loaded) = futures_util::future::join(reads, load).await;
    assert_eq!(loaded.unwrap(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_loader_keeps_its_lease_for_the_record_that_it_creates() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let expiry = TwoLifetimes { value: ms(60_000), absence: ms(5_000) };
    let cache = without_near().clock(&hand).tier(tier).store(store).expire(expiry).build().unwrap();
    assert_eq!(cache.get_or_load("k", || Loader::default().give(1, ms(5))).await.unwrap(), 1);
    cache.settled().await;
    let stats = cache.stats();
    let tier = stats.tier("redis").unwrap();
    assert_eq!((tier.fills, tier.fills_refused), (1, 0));
    assert_eq!(cache.get("k").await.unwrap().unwrap().served().from, Source::Tier("redis"));
}

#[tokio::test(start_paused = true)]
async fn a_grouped_load_creates_its_records_in_one_trip_and_each_loser_gets_its_winner() {
    let hand = Clock::manual();
    let store = fake("postgres", &hand);
    let stack = || builder().clock(&hand).store(store.another_handle()).build().unwrap();
    let (here, there) = (stack(), stack());
    let keys: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let before = store.calls().trips();
    let load = |missing: terrace_core::MissingKeys<String>| async move {
        there.put("7", 7).await.unwrap();
        Ok::<_, BoxError>(missing.keys().iter().map(|key| (key.clone(), 1)).collect::<Vec<_>>())
    };
    let values = here.get_or_load_many(&keys, load).await.into_values().unwrap();
    let values: Vec<u64> = values.into_iter().flatten().map(|value| *value).collect();
    assert_eq!(values, (0..20).map(|number| if number == 7 { 7 } else { 1 }).collect::<Vec<_>>());
    assert_eq!(
        store.calls().trips() - before,
        3,
        "the batch must take three trips: its lookup, the put of the other process, its records"
    );
}

#[tokio::test(start_paused = true)]
async fn a_record_that_may_have_been_created_is_not_hidden_by_an_absence() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), Faulty::new(fake("postgres", &hand)));
    let expiry = TwoLifetimes { value: ms(60_000), absence: ms(5_000) };
    let cache = without_near().clock(&hand).tier(tier).store(store.clone()).expire(expiry).build().unwrap();
    assert!(cache.get("k").await.unwrap().is_none());
    cache.settled().await;
    store.arm(Fault::lose_answer().on(Call::Fill));
    let error = cache.get_or_load("k", || Loader::default().give(1, ms(1))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unknown);
    assert_eq!(cache.get("k").await.unwrap().map(|value| *value), Some(1));
}

/// One lifetime for values, another for absences.
struct TwoLifetimes {
    value: std::time::Duration,
    absence: std::time::Duration,
}

impl terrace_core::policy::Expiry for TwoLifetimes {
    fn lifetime(&self, context: &terrace_core::policy::WriteContext) -> terrace_core::policy::Lifetime {
        terrace_core::policy::Lifetime::fresh(if context.negative { self.absence } else { self.value })
    }
}

#[tokio::test(start_paused = true)]
async fn put_if_absent_and_replace_are_decided_by_the_store() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let stack =
        || builder().clock(&hand).tier(tier.another_handle()).store(store.another_handle()).build().unwrap();
    let (here, there) = (stack(), stack());
    assert!(here.put_if_absent("k", 1).await.unwrap());
    assert!(!there.put_if_absent("k", 2).await.unwrap());
    let seen = here.get("k").await.unwrap().unwrap().served().version;
    assert!(there.replace("k", seen, 3).await.unwrap());
    assert!(!here.replace("k", seen, 4).await.unwrap());
    assert_eq!(there.get("k").await.unwrap().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_record_with_a_life_of_its_own_ends_in_every_tier() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let cache = builder().clock(&hand).tier(tier).store(store).build().unwrap();
    cache.put_item("session", Item::new(1).ttl(ms(1_000))).await.unwrap();
    assert_eq!(cache.get("session").await.unwrap().unwrap(), 1);
    cache.settled().await;
    hand.advance(ms(1_000));
    assert!(cache.get("session").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_changed_type_is_a_typed_error_in_a_store_and_a_miss_in_a_cache() {
    #[derive(Serialize, Deserialize)]
    struct Old {
        name: String,
        age: u32,
    }
    #[derive(Serialize, Deserialize, Debug)]
    struct New {
        age: u32,
        name: String,
    }
    let hand = Clock::manual();
    let (store, tier) = (fake("postgres", &hand), fake("redis", &hand));
    let old = || Old { name: "Ann".to_owned(), age: 7 };
    let records = Builder::<String, Old, _>::new("records".to_owned(), NoNear).store(store.another_handle());
    records.build().unwrap().put("k", old()).await.unwrap();
    let copies = Builder::<String, Old, _>::new("copies".to_owned(), NoNear).tier(tier.another_handle());
    copies.build().unwrap().put("k", old()).await.unwrap();

    let records = Builder::<String, New, _>::new("records".to_owned(), NoNear).store(store.another_handle());
    let error = records.build().unwrap().get("k").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Undecodable);
    let copies = Builder::<String, New, _>::new("copies".to_owned(), NoNear).tier(tier.another_handle());
    let copies = copies.build().unwrap();
    assert!(copies.get("k").await.unwrap().is_none());
    assert_eq!(copies.stats().tier("redis").unwrap().undecodable, 1);
    let load = || async { Ok::<_, BoxError>(New { age: 8, name: "Bob".to_owned() }) };
    assert_eq!(copies.get_or_load("k", load).await.unwrap().age, 8);
    copies.settled().await;
    assert_eq!(
        copies.get("k").await.unwrap().unwrap().name,
        "Bob",
        "the load must replace the undecodable copy"
    );
}

#[tokio::test(start_paused = true)]
async fn parts_that_do_not_fit_are_refused_at_build() {
    let hand = Clock::manual();
    let ttl_with_store = builder().store(fake("postgres", &hand)).level(Level::Ttl).build();
    assert_eq!(ttl_with_store.unwrap_err().kind(), ErrorKind::Config);
    let nameless = Builder::<String, u64, _>::new(String::new(), NoNear).build();
    assert_eq!(nameless.unwrap_err().kind(), ErrorKind::Config);
}

#[tokio::test(start_paused = true)]
async fn a_put_of_level_ttl_stands_when_any_tier_took_it() {
    let hand = Clock::manual();
    let tier = fake("redis", &hand);
    let cache = builder().clock(&hand).tier(tier.clone()).level(Level::Ttl).build().unwrap();
    tier.set_down(true);
    cache.put("k", 1).await.unwrap();
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 1);
    let bare = without_near().clock(&hand).tier(tier.clone()).level(Level::Ttl).build();
    // Both caches have the same namespace options, so one handle may open them both.
    let bare = bare.unwrap();
    assert_eq!(bare.put("k", 2).await.unwrap_err().kind(), ErrorKind::Unavailable);
    assert_eq!(bare.put_if_absent("k", 2).await.unwrap_err().kind(), ErrorKind::Unsupported);
}

#[tokio::test(start_paused = true)]
async fn tenants_never_see_each_other() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let tenants = builder().clock(&hand).tier(tier).store(store).build_per_tenant().unwrap();
    let (a, b) = (tenants.tenant("a").unwrap(), tenants.tenant("b").unwrap());
    a.put("k", 1).await.unwrap();
    assert!(b.get("k").await.unwrap().is_none());
    b.put("k", 2).await.unwrap();
    a.clear().await.unwrap();
    b.remove("k").await.unwrap();
    assert_eq!(a.get("k").await.unwrap().unwrap(), 1);
    assert_eq!(tenants.tenant("a").unwrap().get("k").await.unwrap().unwrap(), 1);
    assert!(b.get("k").await.unwrap().is_none());
    assert_eq!(tenants.tenant(&"x".repeat(257)).unwrap_err().kind(), ErrorKind::Key);
}

#[tokio::test(start_paused = true)]
async fn a_closed_cache_answers_with_a_typed_error() {
    let hand = Clock::manual();
    let cache = builder().clock(&hand).tier(fake("redis", &hand)).build().unwrap();
    cache.put("k", 1).await.unwrap();
    let other = cache.clone();
    cache.close().await;
    assert_eq!(other.get("k").await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(other.put("k", 2).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(other.clear().await.unwrap_err().kind(), ErrorKind::Closed);
}

#[tokio::test(start_paused = true)]
async fn of_a_key_that_comes_twice_in_a_batch_the_last_value_stays() {
    let hand = Clock::manual();
    let (tier, store) = (fake("redis", &hand), fake("postgres", &hand));
    let cache = builder().clock(&hand).tier(tier).store(store).build().unwrap();
    let items = [("a", 1), ("b", 2), ("a", 3), ("a", 4)].map(|(key, value)| (key.to_owned(), value));
    let versions = cache.put_many(items).await;
    assert!(versions.iter().all(Result::is_ok));
    assert_eq!(cache.get("a").await.unwrap().unwrap(), 4);
    let removed = cache.remove_many(&["a", "a", "b"].map(String::from)).await;
    assert_eq!(removed.into_iter().map(Result::unwrap).collect::<Vec<_>>(), [true, false, true]);
}

#[tokio::test(start_paused = true)]
async fn a_type_that_its_codec_cannot_carry_is_refused_at_build() {
    let hand = Clock::manual();
    let stack = || Builder::<String, serde_json::Value, _>::new("json".to_owned(), NoNear);
    let binary = stack().tier(fake("redis", &hand)).build();
    assert_eq!(binary.unwrap_err().kind(), ErrorKind::Unencodable);
    let json = stack().tier(fake("redis", &hand)).codec(terrace_core::Codec::Json).build().unwrap();
    json.put("k", serde_json::json!({"a": [1, null]})).await.unwrap();
    assert_eq!(json.get("k").await.unwrap().unwrap()["a"][0], 1);
}

#[tokio::test(start_paused = true)]
async fn a_record_created_while_a_tier_was_away_is_not_hidden_by_its_old_no_row() {
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let expiry = TwoLifetimes { value: ms(60_000), absence: ms(5_000) };
    let stack = without_near().clock(&hand).tier(redis.clone()).store(fake("postgres", &hand));
    let cache = stack.expire(expiry).build().unwrap();
    assert!(cache.get("k").await.unwrap().is_none());
    cache.settled().await;
    redis.set_down(true);
    assert_eq!(cache.get_or_load("k", || Loader::default().give(3, ms(1))).await.unwrap(), 3);
    redis.set_down(false);
    tokio::time::sleep(ms(200)).await;
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_another_process_created_first_is_not_hidden_by_an_old_no_row() {
    let hand = Clock::manual();
    let (redis, postgres) = (fake("redis", &hand), fake("postgres", &hand));
    let stack = || without_near().clock(&hand).expire(TwoLifetimes { value: ms(60_000), absence: ms(5_000) });
    let here = stack().tier(redis).store(postgres.clone()).build().unwrap();
    let there = stack().store(postgres.another_handle()).build().unwrap();
    assert!(here.get("k").await.unwrap().is_none());
    here.settled().await;
    let load = here.get_or_load("k", || Loader::default().give(3, ms(50)));
    let put = async {
        tokio::time::sleep(ms(10)).await;
        there.put("k", 9).await.unwrap();
    };
    let (loaded, ()) = tokio::join!(load, put);
    assert_eq!(loaded.unwrap(), 9);
    here.settled().await;
    assert_eq!(here.get("k").await.unwrap().unwrap(), 9);
}
