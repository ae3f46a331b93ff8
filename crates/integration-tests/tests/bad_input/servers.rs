//! Servers that differ from the settings: wrong URLs, passwords, databases and schemas, and a Postgres
//! that takes no writes.

use sqlx::{Connection, Executor, PgConnection};
use terrace::{BoxError, Builder, Error, ErrorKind, NoNear, Postgres, Redis, Source, TierSettings};
use terrace_testbed as testbed;
use terrace_testbed::{shared_postgres, unique_name};

use super::stacks::Stack;
use crate::support::{PATIENCE, capture_log, eventually, logged};

/// The password in the URLs of these tests, right or wrong.
const SECRET: &str = "hush5ecret";

fn builder() -> Builder<String, u64, NoNear> {
    Builder::new(unique_name("servers"), NoNear)
}

/// Checks that neither these texts nor anything that was logged shows the secret.
fn shows_no_secret(shown: &[String]) {
    for text in shown.iter().chain(&logged(&[])) {
        assert!(!text.contains("5ecret"), "{text}");
    }
}

/// The display and debug texts of an error and its sources.
fn all_texts(error: &Error) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    text
}

/// A tier that refuses counts as lost: its errors are counted, and no read fails.
async fn the_loader_answers(cache: &Stack<String, u64>) {
    for key in 0..20_u64 {
        let load = move || async move { Ok::<_, BoxError>(key) };
        let found = cache.get_or_load(&key.to_string(), load).await.unwrap();
        assert_eq!((*found, found.served().from), (key, Source::Loader));
    }
    cache.settled().await;
    let tier = &cache.stats().tiers[0];
    assert!(tier.errors > 0 && tier.hits == 0, "{tier:?}");
}

#[tokio::test]
async fn urls_that_cannot_work_are_config_errors_at_once() {
    capture_log();
    let mut shown = Vec::new();
    for url in [
        format!("http://:{SECRET}@localhost"),
        format!("redis://:{SECRET}@localhost:port"),
        format!("redis://:{SECRET}@localhost/zero"),
        format!("redis://:{SECRET}@cache.example"),
        format!("redis://:{SECRET}@"),
    ] {
        let error = Redis::new(&url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        shown.push(all_texts(&error));
    }
    for url in [
        format!("mysql://app:{SECRET}@localhost/app"),
        format!("postgres://app:{SECRET}@localhost:port/app"),
        format!("postgres://app:{SECRET}@localhost/app?sslmode={SECRET}"),
        format!("app:{SECRET}"),
        String::new(),
    ] {
        let error = Postgres::new(&url).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{url}");
        shown.push(all_texts(&error));
    }
    let good = format!("postgres://app:{SECRET}@localhost/app?unknown={SECRET}");
    for schema in ["", "a b", "a\"; drop table x; --", &"s".repeat(64)] {
        let error = Postgres::builder(&good).schema(schema).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{schema}");
        shown.push(all_texts(&error));
    }
    shown.push(format!("{:?}", Postgres::new(&good).unwrap()));
    shows_no_secret(&shown);
}

#[tokio::test]
async fn a_wrong_password_is_denied_in_a_tier_counted_and_never_shown() {
    capture_log();
    let redis = testbed::Redis::options().password("right").start().await.unwrap();
    let server = testbed::Postgres::options().password("right").start().await.unwrap();
    let redis_url = format!("redis://:{SECRET}@127.0.0.1:{}", redis.port());
    let postgres_url = format!("postgres://postgres:{SECRET}@127.0.0.1:{}/postgres", server.port());
    let (wrong_redis, wrong_postgres) =
        (Redis::new(&redis_url).unwrap(), Postgres::new(&postgres_url).unwrap());
    let mut shown = vec![format!("{wrong_redis:?} {wrong_postgres:?}")];
    let tiers = [builder().tier(wrong_redis.clone()), builder().tier(wrong_postgres.clone())];
    for tier in tiers {
        let cache: Stack<_, _> = tier.build().unwrap();
        let error = cache.ready().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
        the_loader_answers(&cache).await;
        shown.extend([all_texts(&error), format!("{cache:?} {:?}", cache.stats())]);
    }
    let store: Stack<_, _> = builder().tier(wrong_redis).store(wrong_postgres).build().unwrap();
    for error in [
        store.get("k").await.map(drop).unwrap_err(),
        store.put("k", 1).await.map(drop).unwrap_err(),
        store.get_or_load("k", async || Ok::<_, BoxError>(1)).await.map(drop).unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.tier()), (ErrorKind::Denied, Some("postgres")), "{error}");
        shown.push(all_texts(&error));
    }
    shown.push(format!("{store:?}"));
    assert!(!logged(&["the tier does not serve", "tier=\"redis\""]).is_empty());
    shows_no_secret(&shown);
}

#[tokio::test]
async fn a_wrong_port_and_a_missing_database_are_named() {
    capture_log();
    let server = testbed::Postgres::start().await.unwrap();
    let nowhere = testbed::Redis::away().await.unwrap();
    let redis = Redis::new(format!("redis://:{SECRET}@127.0.0.1:{}", nowhere.port())).unwrap();
    let port = Postgres::new(&format!("postgres://app:{SECRET}@127.0.0.1:{}/app", nowhere.port())).unwrap();
    let name =
        Postgres::new(&format!("postgres://postgres:{SECRET}@127.0.0.1:{}/nodb", server.port())).unwrap();
    let mut shown = Vec::new();
    for (cache, kind) in [
        (builder().tier(redis), ErrorKind::Unavailable),
        (builder().tier(port.clone()), ErrorKind::Unavailable),
        (builder().store(port), ErrorKind::Unavailable),
        (builder().store(name), ErrorKind::Config),
    ] {
        let cache: Stack<_, _> = cache.build().unwrap();
        let error = cache.ping().await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        shown.push(all_texts(&error));
    }
    shows_no_secret(&shown);
}

#[tokio::test]
async fn a_schema_of_a_newer_program_is_a_config_error_and_a_dropped_one_is_made_again() {
    let url = shared_postgres().await.unwrap();
    let mut session = PgConnection::connect(&url).await.unwrap();
    let (postgres, namespace) = (Postgres::new(&url).unwrap(), unique_name("schema"));
    let cache: Stack<String, u64> = Builder::new(namespace, NoNear).store(postgres).build().unwrap();
    cache.put("k", 1).await.unwrap();

    session.execute("drop schema terrace cascade").await.unwrap();
    let error = cache.get("k").await.unwrap_err();
    assert_eq!((error.kind(), error.tier()), (ErrorKind::Config, Some("postgres")), "{error}");
    eventually("the schema is there again", async || cache.put("k", 2).await.is_ok()).await;
    assert_eq!(cache.get("k").await.unwrap().unwrap(), 2);

    session.execute("insert into terrace.migrations (version) values (99)").await.unwrap();
    let newer: Stack<String, u64> = builder().store(Postgres::new(&url).unwrap()).build().unwrap();
    for error in [newer.ready().await.unwrap_err(), newer.get("k").await.map(drop).unwrap_err()] {
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains("99"), "{error}");
    }
}

#[tokio::test]
async fn another_schema_of_the_values_is_a_typed_error_in_a_store() {
    let url = shared_postgres().await.unwrap();
    let namespace = unique_name("values");
    let build = |schema| -> Stack<String, u64> {
        let postgres = Postgres::new(&url).unwrap();
        Builder::new(namespace.clone(), NoNear).store(postgres).schema(schema).build().unwrap()
    };
    let old = build(1);
    old.put("k", 7).await.unwrap();
    // The program with the higher number gets an error for a record that it cannot read.
    let new = build(2);
    new.ready().await.unwrap();
    let load = async || Ok::<_, BoxError>(8);
    for error in [new.get("k").await.unwrap_err(), new.get_or_load("k", load).await.unwrap_err()] {
        assert_eq!((error.kind(), error.tier()), (ErrorKind::Undecodable, Some("postgres")), "{error}");
    }
    assert_eq!(old.get("k").await.unwrap().unwrap(), 7, "nothing is lost");
    old.ready().await.unwrap();
}

#[tokio::test]
async fn a_read_only_postgres_serves_its_records_and_refuses_writes_by_name() {
    let server = testbed::Postgres::start().await.unwrap();
    let postgres = Postgres::new(&server.url()).unwrap();
    let store: Stack<_, _> = builder().store(postgres.clone()).build().unwrap();
    let tier: Stack<_, _> = builder().tier(postgres.budget(PATIENCE)).build().unwrap();
    store.put("k", 1).await.unwrap();
    tier.ready().await.unwrap();
    tier.put("k", 1).await.unwrap();
    server.read_only(true).await.unwrap();
    assert_eq!(store.get("k").await.unwrap().unwrap(), 1);
    for error in [
        store.put("k", 2).await.map(drop).unwrap_err(),
        store.remove("k").await.map(drop).unwrap_err(),
        store.get_or_load("new", async || Ok::<_, BoxError>(2)).await.map(drop).unwrap_err(),
        tier.put("k", 2).await.map(drop).unwrap_err(),
    ] {
        let text = all_texts(&error);
        assert!(error.kind() == ErrorKind::ReadOnly || text.contains("takes no writes"), "{text}");
    }
    assert_eq!(store.get("k").await.unwrap().unwrap(), 1, "nothing is lost");
    the_loader_answers_without_fills(&tier).await;
    server.read_only(false).await.unwrap();
    store.put("k", 3).await.unwrap();
    assert_eq!(store.get("k").await.unwrap().unwrap(), 3);
    // A program that starts while the server takes no writes finds the existing tables.
    server.read_only(true).await.unwrap();
    let late: Stack<String, u64> = builder().store(Postgres::new(&server.url()).unwrap()).build().unwrap();
    let error = late.put("k", 1).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ReadOnly, "{error}");
}

/// A read-only cache tier grants no lease, so nothing is filled there, and the loader answers.
async fn the_loader_answers_without_fills(tier: &Stack<String, u64>) {
    for key in 100..120_u64 {
        let load = move || async move { Ok::<_, BoxError>(key) };
        assert_eq!(tier.get_or_load(&key.to_string(), load).await.unwrap(), key);
    }
    tier.settled().await;
    let stats = &tier.stats().tiers[0];
    assert!(stats.errors > 0 && stats.fills == 0, "{stats:?}");
}
