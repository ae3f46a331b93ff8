//! The errors that callers get: the cache, the method, each cause once, the loader's own error, and no key.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use std::{error::Error as _, fmt, sync::Arc};

use support::{Loader, Stack, builder, fake, ms, without_near};
use terrace_core::{BoxError, Cache, Error, ErrorKind, Item, Level, NoNear};
use terrace_tier::{Clock, ManualClock, Version};

const KEY: &str = "ann@example.org";

/// What a program prints that prints an error with its sources.
fn with_sources(error: &Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(source) = cause {
        text += &format!(": {source}");
        cause = source.source();
    }
    text
}

/// An error of a database client, whose source is not in its text.
#[derive(Debug)]
struct QueryFailed(std::io::Error);

impl fmt::Display for QueryFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the query failed")
    }
}

impl std::error::Error for QueryFailed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.0)
    }
}

fn query_failed() -> QueryFailed {
    QueryFailed(std::io::Error::other("connection refused"))
}

/// A cache over a store that does not answer.
fn over_a_lost_store(hand: &ManualClock) -> Stack {
    let store = fake("db", hand);
    store.set_down(true);
    without_near().clock(hand).store(store).build().unwrap()
}

async fn errors_of_each_method(cache: &Stack) -> Vec<(&'static str, Error)> {
    let keys = [KEY.to_owned()];
    let load = || async { Ok::<_, BoxError>(1) };
    let grouped = async |missing: terrace_core::MissingKeys<String>| Ok::<_, BoxError>(missing.zip([1]));
    let first = |answers: terrace_core::Many<u64>| answers.into_values().unwrap_err();
    vec![
        ("get", cache.get(KEY).await.unwrap_err()),
        ("get_or_load", cache.get_or_load(KEY, load).await.unwrap_err()),
        ("get_or_load_with", cache.get_or_load_with(KEY, |_| load()).await.unwrap_err()),
        ("get_many", first(cache.get_many(&keys).await)),
        ("get_or_load_many", first(cache.get_or_load_many(&keys, grouped).await)),
        ("refresh", cache.refresh(KEY, |_| load()).await.unwrap_err()),
        ("put", cache.put(KEY, 1).await.unwrap_err()),
        ("put_if_absent", cache.put_if_absent(KEY, 1).await.unwrap_err()),
        ("replace", cache.replace(KEY, Version::from_u64(1), 1).await.unwrap_err()),
        ("put_many", cache.put_many([(KEY.to_owned(), 1)]).await.remove(0).unwrap_err()),
        ("remove", cache.remove(KEY).await.unwrap_err()),
        ("remove_many", cache.remove_many(&keys).await.remove(0).unwrap_err()),
        ("contains", cache.contains(KEY).await.unwrap_err()),
        ("ttl", cache.ttl(KEY).await.unwrap_err()),
        ("expire", cache.expire(KEY, ms(1_000)).await.unwrap_err()),
        ("ping", cache.ping().await.unwrap_err()),
    ]
}

#[tokio::test(start_paused = true)]
async fn each_method_names_the_cache_itself_and_the_tier_that_failed() {
    let hand = Clock::manual();
    let cache = over_a_lost_store(&hand);
    for (method, error) in errors_of_each_method(&cache).await {
        assert_eq!(error.operation(), Some(method), "{error}");
        assert_eq!((error.cache(), error.tier()), (Some("tests"), Some("db")), "{error}");
        let text = with_sources(&error);
        assert!(text.starts_with(&format!("cache tests: {method}: db: ")), "{text}");
        assert!(!text.contains("ann") && !format!("{error:?}").contains("ann"), "{text}");
        assert!(!text.contains("lease"), "an inner step: {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_change_names_its_tier_once_and_what_to_do() {
    let hand = Clock::manual();
    let (near, far) = (fake("redis", &hand), fake("far", &hand));
    let cache = without_near().clock(&hand).tier(near.clone()).tier(far).build().unwrap();
    near.set_down(true);
    let (dropped, cleared) = (cache.invalidate(KEY).await.unwrap_err(), cache.clear().await.unwrap_err());
    for (method, error) in [("invalidate", dropped), ("clear", cleared)] {
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Partial, Some(method)));
        let text = with_sources(&error);
        assert_eq!(text.matches("the fake was set down").count(), 1, "{text}");
        assert!(text.contains("redis: ") && error.cure().is_some(), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_loaders_error_is_said_once_and_given_back_to_all_callers_of_the_load() {
    let cache = builder().build().unwrap();
    let load = || async {
        tokio::time::sleep(ms(10)).await;
        Err::<u64, _>(query_failed())
    };
    let (one, other) = tokio::join!(cache.get_or_load(KEY, load), cache.refresh(KEY, |_| load()));
    let alone = cache.get_or_load(KEY, load).await.unwrap_err();
    for error in [&one.unwrap_err(), &other.unwrap_err(), &alone] {
        let method = error.operation().unwrap();
        let text = format!("cache tests: {method}: the loader failed: the query failed");
        assert_eq!(error.to_string(), text);
        assert_eq!(with_sources(error), text + ": connection refused");
        let own: &QueryFailed = error.load_error().expect("the loader's own error");
        assert_eq!(own.0.to_string(), "connection refused");
        assert!(error.load_error::<fmt::Error>().is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn callers_that_share_a_failed_load_get_one_error_under_their_own_names() {
    let cache = builder().build().unwrap();
    let load = || async {
        tokio::time::sleep(ms(10)).await;
        Err::<u64, _>(query_failed())
    };
    let with = cache.get_or_load_with(KEY, |_| load());
    let (one, other) = tokio::join!(cache.get_or_load(KEY, load), with);
    let (one, other) = (one.unwrap_err(), other.unwrap_err());
    assert_eq!((one.operation(), other.operation()), (Some("get_or_load"), Some("get_or_load_with")));
    let (a, b): (&QueryFailed, &QueryFailed) = (one.load_error().unwrap(), other.load_error().unwrap());
    assert!(std::ptr::eq(a, b), "one load, one error");
    assert_eq!(cache.stats().loads, 1);
}

#[tokio::test(start_paused = true)]
async fn a_bound_loader_that_fails_or_panics_is_named_as_one_of_the_callers() {
    let cache = builder().loader(async |_| Err::<u64, _>(query_failed())).build().unwrap();
    let error = cache.get(KEY).await.unwrap_err();
    assert!(error.load_error::<QueryFailed>().is_some());
    let many = cache.get_many(&[KEY.to_owned()]).await.into_values().unwrap_err();
    assert!(many.load_error::<QueryFailed>().is_some());
    let cache =
        builder().loader(async |_| -> Result<u64, BoxError> { panic!("row 7 is broken") }).build().unwrap();
    let many = cache.get_many(&[KEY.to_owned()]).await.into_values().unwrap_err();
    for error in [cache.get(KEY).await.unwrap_err(), many] {
        assert_eq!(error.kind(), ErrorKind::Panicked);
        assert_eq!(error.to_string().matches("the loader panicked: row 7 is broken").count(), 1, "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_loaders_panic_keeps_its_message_for_the_leader_and_the_followers() {
    let cache = builder().build().unwrap();
    let load = || async {
        tokio::time::sleep(ms(10)).await;
        let broken = String::from("row 7 is broken");
        if true {
            panic!("{broken}");
        }
        Ok::<u64, BoxError>(1)
    };
    let (one, other) = tokio::join!(cache.get_or_load(KEY, load), cache.get_or_load(KEY, load));
    let text = "cache tests: get_or_load: the loader panicked: row 7 is broken";
    assert_eq!(one.unwrap_err().to_string(), text);
    assert_eq!(other.unwrap_err().to_string(), text);
    let load = || async { std::panic::resume_unwind(Box::new(7)) };
    let error = cache.get_or_load::<_, _, _, BoxError>(KEY, load).await;
    assert_eq!(error.unwrap_err().to_string(), "cache tests: get_or_load: the loader panicked");
}

#[tokio::test(start_paused = true)]
async fn a_load_that_takes_too_long_names_its_deadline_and_how_to_change_it() {
    let cache = builder().load_deadline(ms(500)).build().unwrap();
    let loader = Loader::default();
    let error = cache.get_or_load(KEY, || loader.give(1, ms(5_000))).await.unwrap_err();
    assert_eq!((error.kind(), error.operation()), (ErrorKind::Timeout, Some("get_or_load")));
    let text = error.to_string();
    assert!(text.contains("the loader gave no answer within the load deadline of 500ms"), "{text}");
    assert!(text.contains("load_deadline`"), "{text}");
}

#[tokio::test]
async fn build_and_the_other_calls_without_a_trip_name_the_cache_too() {
    let named = |error: &Error, method| {
        assert_eq!((error.cache(), error.operation()), (Some("tests"), Some(method)), "{error}");
    };
    named(&builder().level(Level::Strong).build().unwrap_err(), "build");
    let cache = builder().build().unwrap();
    named(&cache.name_of(KEY).unwrap_err(), "name_of");
    named(
        &cache.with(Level::Strong).get_or_load(KEY, async || Ok::<_, BoxError>(1)).await.unwrap_err(),
        "get_or_load",
    );
    cache.close().await;
    named(&cache.get(KEY).await.unwrap_err(), "get");
    named(&cache.put(KEY, 1).await.unwrap_err(), "put");
    named(&cache.clear().await.unwrap_err(), "clear");
    named(&cache.ready().await.unwrap_err(), "ready");
    let tenants = builder().build_per_tenant().unwrap();
    named(&tenants.tenant(&"t".repeat(257)).unwrap_err(), "tenant");
}

#[tokio::test]
async fn two_caches_of_one_name_are_told_in_words_what_differs() {
    let hand = Clock::manual();
    let shared = fake("redis", &hand);
    let one: Cache<String, u64, NoNear> = Cache::builder("users").tier(shared.clone()).build().unwrap();
    let other: Result<Cache<String, u64, NoNear>, _> =
        Cache::builder("users").tier(shared).level(Level::Ttl).build();
    let text = other.unwrap_err().to_string();
    assert!(text.contains("at level fenced, and this cache at level ttl"), "{text}");
    drop(one);
}

#[tokio::test]
async fn a_loader_that_asks_another_cache_shows_both_names() {
    let hand = Clock::manual();
    let orders = over_a_lost_store(&hand);
    let users: Arc<Cache<String, u64, NoNear>> = Arc::new(Cache::builder("users").build().unwrap());
    let load =
        || async move { orders.get_or_load(KEY, async || Ok::<_, BoxError>(1)).await.map(|value| *value) };
    let error = users.get_or_load(KEY, load).await.unwrap_err();
    let text = with_sources(&error);
    assert!(
        text.starts_with("cache users: get_or_load: the loader failed: cache tests: get_or_load: db: "),
        "{text}"
    );
    let own: &Error = error.load_error().unwrap();
    assert_eq!(own.cache(), Some("tests"));
    let item: Item<u64> = Item::absent();
    let error = users.get_or_load_with(KEY, async |_| Ok::<_, BoxError>(item)).await;
    assert!(error.unwrap().is_none());
}
