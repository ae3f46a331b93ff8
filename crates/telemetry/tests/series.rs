//! What a scrape tells: how many series, and that they agree with what was done.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use std::{convert::Infallible, time::Duration};

use support::{samples, stack, sum};
use terrace_conformance::Fake;
use terrace_core::{BoxError, Cache, Level, NoNear};
use terrace_telemetry::Telemetry;
use terrace_tier_memory::Memory;

#[tokio::test]
async fn a_cache_with_three_tiers_has_at_most_150_series_and_two_more_for_each_class() {
    let (redis, postgres) = (Fake::named("redis"), Fake::named("postgres"));
    let (plain, classed) = (Telemetry::new(), Telemetry::new());
    let cache = stack("plain", &redis, &postgres);
    plain.watch(&cache);
    let by_class =
        Cache::builder("classed").near(Memory::<u64, u64>::entries(10)).tier(redis).store(postgres);
    let by_class = by_class.class_by((0..32).map(|class| format!("c{class}")), |_| "c1").build().unwrap();
    classed.watch(&by_class);
    for telemetry in [&plain, &classed] {
        let cache = if telemetry.read()[0].0.starts_with("plain") { &cache } else { &by_class };
        cache.get_or_load(&1, || async { Ok::<_, Infallible>(1) }).await.unwrap();
        cache.invalidate(&1).await.unwrap();
        cache.settled().await;
    }
    // The log's age and the relay's lag are missing here: the tiers have no log.
    let (plain, classed) = (samples(&plain).len() + 2, samples(&classed).len() + 2);
    println!("{plain} series, and {classed} with 32 classes");
    assert!((100..=150).contains(&plain), "{plain} series");
    assert_eq!(classed, plain + 64);
}

/// A small generator, so that a run can be repeated.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_outcomes_of_near_add_up_to_the_reads_made() {
    let reads: u64 = std::env::var("TERRACE_READS").map_or(100_000, |reads| reads.parse().unwrap());
    let (redis, telemetry) = (Fake::named("redis"), Telemetry::new());
    let builder = Cache::builder("random").near(Memory::<u64, u64>::entries(500)).tier(redis.clone());
    let cache = builder.expire(terrace_policies::Ttl::of(Duration::from_millis(20))).build().unwrap();
    telemetry.watch(&cache);
    let tasks = (1..=8).map(|task| {
        let (cache, mut state) = (cache.clone(), task * 0x9E37_79B9);
        tokio::spawn(async move {
            let mut made = 0;
            while made < reads / 8 {
                let key = random(&mut state) % 1_000;
                match random(&mut state) % 20 {
                    0 => _ = cache.put(&key, key).await.unwrap(),
                    1 => _ = cache.invalidate(&key).await.unwrap(),
                    2..=5 => {
                        let keys = [key, (key + 1) % 1_000, (key + 2) % 1_000];
                        cache.get_many(&keys).await.into_values().unwrap();
                        made += 3;
                    }
                    6..=12 => {
                        let load = || async move { Ok::<_, BoxError>(key) };
                        assert_eq!(*cache.get_or_load(&key, load).await.unwrap(), key);
                        made += 1;
                    }
                    _ => {
                        cache.get(&key).await.unwrap();
                        made += 1;
                    }
                }
            }
            made
        })
    });
    let mut made = 0;
    for task in tasks.collect::<Vec<_>>() {
        made += task.await.unwrap();
    }
    let samples = samples(&telemetry);
    let near = sum(&samples, "terrace_reads_total", "tier=\"near\"");
    println!("{made} reads were made, and the outcomes of near add up to {near}");
    assert_eq!(near, made as f64);
    let asked = near - samples["terrace_reads_total{cache=\"random\",tier=\"near\",outcome=\"hit\"}"];
    assert!(sum(&samples, "terrace_reads_total", "tier=\"redis\"") > 0.1 * asked);
}

#[tokio::test]
async fn every_outcome_of_a_read_counts_once() {
    let (redis, postgres, telemetry) = (Fake::named("redis"), Fake::named("postgres"), Telemetry::new());
    let cache = stack("users", &redis, &postgres);
    telemetry.watch(&cache);
    let read = |tier: &str, outcome: &str| {
        samples(&telemetry)
            [&format!("terrace_reads_total{{cache=\"users\",tier=\"{tier}\",outcome=\"{outcome}\"}}")]
    };
    cache.get(&1).await.unwrap();
    assert_eq!((read("near", "miss"), read("redis", "miss"), read("postgres", "miss")), (1.0, 1.0, 1.0));
    cache.put(&1, 5).await.unwrap();
    cache.get(&1).await.unwrap();
    assert_eq!((read("near", "hit"), read("redis", "hit")), (1.0, 0.0));
    redis.set_down(true);
    cache.invalidate(&2).await.unwrap_err();
    cache.get(&3).await.unwrap();
    let samples = samples(&telemetry);
    assert_eq!(samples["terrace_tier_up{cache=\"users\",tier=\"redis\"}"], 0.0);
    assert_eq!(samples["terrace_pending_invalidations{cache=\"users\",tier=\"redis\"}"], 1.0);
    assert_eq!(telemetry.health().status, terrace_telemetry::Status::Degraded);
}

#[tokio::test]
async fn a_record_of_another_type_counts_as_undecodable_and_not_as_a_hit() {
    let (postgres, telemetry) = (Fake::named("postgres"), Telemetry::new());
    let old = Cache::<u64, String, NoNear>::builder("users").store(postgres.clone()).build().unwrap();
    old.put(&1, "a".to_owned()).await.unwrap();
    drop(old);
    let new = Cache::<u64, (u64, f64), NoNear>::builder("users").store(postgres).build().unwrap();
    telemetry.watch(&new);
    new.get(&1).await.unwrap_err();
    let samples = samples(&telemetry);
    let read = |outcome| {
        samples[&format!("terrace_reads_total{{cache=\"users\",tier=\"postgres\",outcome=\"{outcome}\"}}")]
    };
    assert_eq!((read("hit"), read("undecodable"), read("miss")), (0.0, 1.0, 0.0));
}

#[tokio::test]
async fn hits_count_in_the_class_of_their_key() {
    let (redis, telemetry) = (Fake::named("redis"), Telemetry::new());
    type Key = (String, u64);
    let answers = Cache::<Key, u64, Memory<Key, u64>>::builder("answers")
        .near(Memory::entries(100))
        .tier(redis)
        .class_by(["small", "large", "other"], |(model, _)| model)
        .build()
        .unwrap();
    telemetry.watch(&answers);
    let key = |model: &str, number| (model.to_owned(), number);
    for (model, reads) in [("small", 3), ("large", 2), ("huge", 1)] {
        for _ in 0..reads {
            answers.get_or_load(&key(model, 1), || async { Ok::<_, Infallible>(1) }).await.unwrap();
        }
    }
    let keys = [key("small", 1), key("small", 9), key("large", 1)];
    answers.get_many(&keys).await.into_values().unwrap();
    let samples = samples(&telemetry);
    let read = |class: &str, outcome: &str| {
        samples[&format!(
            "terrace_class_reads_total{{cache=\"answers\",class=\"{class}\",outcome=\"{outcome}\"}}"
        )]
    };
    let by_class = ["small", "large", "other"].map(|class| (read(class, "hit"), read(class, "miss")));
    assert_eq!(by_class, [(3.0, 2.0), (2.0, 1.0), (0.0, 1.0)]);
}

#[test]
fn a_list_of_classes_that_cannot_be_counted_is_refused() {
    let build = |names: Vec<String>| Cache::<u64, u64, NoNear>::builder("a").class_by(names, |_| "").build();
    let many = (0..33).map(|class| class.to_string()).collect();
    for names in [vec![], vec!["a".to_owned(), "a".to_owned()], many] {
        assert_eq!(build(names).unwrap_err().kind(), terrace_core::ErrorKind::Config);
    }
}

#[tokio::test(start_paused = true)]
async fn times_count_in_the_tier_and_by_the_outcome() {
    let (redis, telemetry) = (Fake::named("redis"), Telemetry::new());
    let cache = Cache::<u64, u64, NoNear>::builder("users").tier(redis.clone()).level(Level::Fenced);
    let cache = cache.build().unwrap();
    telemetry.watch(&cache);
    cache.put(&1, 1).await.unwrap();
    cache.get(&1).await.unwrap();
    let load = || async {
        tokio::time::sleep(Duration::from_millis(30)).await;
        Ok::<_, Infallible>(1)
    };
    cache.get_or_load(&2, load).await.unwrap();
    cache.get_or_load(&3, || async { Err::<u64, _>(BoxError::from("no")) }).await.unwrap_err();
    redis.set_down(true);
    cache.get(&9).await.unwrap();
    let samples = samples(&telemetry);
    let calls = |outcome| {
        samples[&format!(
            "terrace_call_duration_seconds_count{{cache=\"users\",tier=\"redis\",outcome=\"{outcome}\"}}"
        )]
    };
    assert!(calls("read") >= 3.0 && calls("written") >= 1.0);
    assert_eq!(calls("failed"), 1.0);
    let loads = |series: &str| samples[&format!("terrace_load_duration_seconds_{series}")];
    assert_eq!(loads("bucket{cache=\"users\",outcome=\"ok\",le=\"0.01\"}"), 0.0);
    assert_eq!(loads("bucket{cache=\"users\",outcome=\"ok\",le=\"0.05\"}"), 1.0);
    assert_eq!(
        (loads("count{cache=\"users\",outcome=\"ok\"}"), loads("count{cache=\"users\",outcome=\"error\"}")),
        (1.0, 1.0)
    );
}

#[tokio::test]
async fn fifty_caches_are_scraped_in_a_few_milliseconds() {
    let (redis, postgres, telemetry) = (Fake::named("redis"), Fake::named("postgres"), Telemetry::new());
    let caches: Vec<_> = (0..50).map(|number| stack(&format!("c{number}"), &redis, &postgres)).collect();
    caches.iter().for_each(|cache| telemetry.watch(cache));
    let text = telemetry.prometheus();
    let best = (0..20).map(|_| {
        let began = std::time::Instant::now();
        assert_eq!(telemetry.prometheus().len(), text.len());
        began.elapsed()
    });
    let (series, best) = (text.lines().filter(|line| !line.starts_with('#')).count(), best.min().unwrap());
    println!("{series} series of 50 caches in {best:?}");
    assert!((5_000..=7_500).contains(&series), "{series}");
}
