//! Each line that the library logs names its cache and its tier, and reads are logged on request.

mod support;

use std::{collections::BTreeMap, fmt, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use support::{FixedExpiry, Loader, builder, fake, ms, without_near};
use terrace_core::{BoxError, Builder, Codec, NoNear, TierSettings};
use terrace_tier::Clock;
use tracing::{Event, Level, Subscriber, field, span};
use tracing_subscriber::{Layer, layer::Context, prelude::*};

/// The fields of one line.
type Line = BTreeMap<String, String>;

/// Keeps the fields of each line of this library.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<Line>>>);

/// A line may count as unwanted for ever if another test reaches it first, where nobody records.
static ALONE: Mutex<()> = Mutex::new(());

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if event.metadata().target().starts_with("terrace") {
            let mut line = Line::from([("level".to_owned(), event.metadata().level().to_string())]);
            event.record(&mut Fields(&mut line));
            self.0.lock().push(line);
        }
    }

    fn on_new_span(&self, _: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {}
}

struct Fields<'l>(&'l mut Line);

impl field::Visit for Fields<'_> {
    fn record_debug(&mut self, field: &field::Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().to_owned(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &field::Field, value: &str) {
        self.0.insert(field.name().to_owned(), value.to_owned());
    }
}

impl Lines {
    fn record(&self) -> (tracing::subscriber::DefaultGuard, MutexGuard<'static, ()>) {
        let alone = ALONE.lock();
        (tracing_subscriber::registry().with(self.clone()).set_default(), alone)
    }

    fn of(&self, message: &str) -> Vec<Line> {
        let lines = self.0.lock();
        lines.iter().filter(|line| line["message"].contains(message)).cloned().collect()
    }

    /// Checks that each line names the cache and one of the tiers.
    fn all_name(&self, cache: &str, tiers: &[&str]) {
        for line in &*self.0.lock() {
            assert_eq!(line.get("cache").map(String::as_str), Some(cache), "{line:?}");
            assert!(line.get("tier").is_some_and(|tier| tiers.contains(&tier.as_str())), "{line:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn each_line_of_a_stack_under_faults_names_cache_and_tier() {
    let lines = Lines::default();
    let _recording = lines.record();
    let hand = Clock::manual();
    let (redis, store) = (fake("redis", &hand).with_log(), fake("db", &hand).with_log());
    let cache = builder().clock(&hand).tier(redis.clone().budget(ms(20))).store(store.clone());
    let cache = cache.expire(FixedExpiry::fresh(ms(1_000))).build().unwrap();
    cache.put("k", 1).await.unwrap();
    cache.settled().await;
    redis.set_down(true);
    for _ in 0..20 {
        cache.get("k").await.unwrap();
        hand.advance(ms(2_000));
        tokio::time::advance(ms(2_000)).await;
    }
    redis.set_down(false);
    tokio::time::sleep(ms(3_000)).await;
    redis.hear_loss();
    store.set_down(true);
    cache.put("k", 2).await.unwrap_err();
    store.set_down(false);
    cache.put("k", 3).await.unwrap();
    cache.settled().await;
    assert!(!lines.of("the tier does not serve the cache").is_empty());
    assert!(!lines.of("the tier is back").is_empty());
    lines.all_name("tests", &["redis", "db", "redis, db"]);
}

#[tokio::test]
async fn a_value_that_no_tier_keeps_is_warned_of_once_a_minute_with_cause_and_cure() {
    let lines = Lines::default();
    let _recording = lines.record();
    let hand = Clock::manual();
    let cache = Builder::<u8, f64, NoNear>::new("tests".to_owned(), NoNear).clock(&hand).codec(Codec::Json);
    let cache = cache.tier(fake("redis", &hand)).tier(fake("far", &hand)).build().unwrap();
    for _ in 0..10 {
        cache.get_or_load(&1, async || Ok::<_, BoxError>(f64::NAN)).await.unwrap();
    }
    let warned = lines.of("a value is not kept in the shared tiers");
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert_eq!((warned[0]["level"].as_str(), warned[0]["tier"].as_str()), ("WARN", "redis, far"));
    assert!(warned[0]["cause"].contains("JSON would write null"), "{warned:?}");
    assert!(!warned[0]["cure"].is_empty() && warned[0]["cache"] == "tests");
}

#[tokio::test]
async fn bytes_that_are_not_readable_are_warned_of_once_a_minute_with_cause_and_cure() {
    let lines = Lines::default();
    let _recording = lines.record();
    let hand = Clock::manual();
    let redis = fake("redis", &hand);
    let stack = |schema| without_near().clock(&hand).tier(redis.another_handle()).schema(schema);
    let writer = stack(0).build().unwrap();
    for key in 0..10_u8 {
        writer.put(&key.to_string(), 1).await.unwrap();
    }
    let reader = stack(1).build().unwrap();
    for key in 0..10_u8 {
        assert!(reader.get(&key.to_string()).await.unwrap().is_none());
    }
    assert_eq!(reader.stats().tier("redis").unwrap().undecodable, 10);
    let warned = lines.of("stored bytes are not readable");
    assert_eq!(warned.len(), 1, "{warned:?}");
    assert_eq!((warned[0]["level"].as_str(), warned[0]["tier"].as_str()), ("WARN", "redis"));
    assert!(warned[0]["cause"].contains("schema 0"), "{warned:?}");
    assert!(warned[0]["cure"].contains("deploy") && warned[0]["cache"] == "tests");
}

#[tokio::test(start_paused = true)]
async fn hits_and_misses_are_logged_for_the_cache_that_asks_for_it() {
    let lines = Lines::default();
    let _recording = lines.record();
    let (hand, loader) = (Clock::manual(), Loader::default());
    let silent = builder().clock(&hand).tier(fake("redis", &hand)).build().unwrap();
    let logged = builder().clock(&hand).tier(fake("redis", &hand)).log_reads().build().unwrap();
    for cache in [&silent, &logged] {
        cache.get_or_load("k", || loader.give(1, ms(0))).await.unwrap();
        cache.settled().await;
        cache.get("k").await.unwrap();
        cache.get_many(&["k".to_owned()]).await;
    }
    let tiers = |message: &str| lines.of(message).iter().map(|line| line["tier"].clone()).collect::<Vec<_>>();
    assert_eq!(
        (tiers("hit"), tiers("miss")),
        (vec!["near".to_owned(); 2], vec!["near".to_owned(), "redis".to_owned()])
    );
    let level = Level::DEBUG.to_string();
    assert!(lines.of("hit").iter().all(|line| line["level"] == level && line["cache"] == "tests"));
    assert!(!format!("{:?}", lines.0.lock()).contains("\"k\""), "no key");
}
