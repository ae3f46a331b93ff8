//! The sums of a fleet, over a tier of its own.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use std::time::Duration;

use support::stack;
use terrace_conformance::Fake;
use terrace_telemetry::{Fleet, Telemetry};

#[tokio::test(start_paused = true)]
async fn the_sums_of_ten_processes_are_exact_after_twelve_seconds() {
    let shared = Fake::named("redis");
    let mut fleets = Vec::new();
    for process in 1..=10 {
        let telemetry = Telemetry::new();
        let cache = stack("users", &Fake::named("redis"), &Fake::named("postgres"));
        telemetry.watch(&cache);
        let fleet = Fleet::new("orders", shared.clone(), telemetry).unwrap();
        tokio::spawn(fleet.clone().run());
        tokio::time::sleep(Duration::from_millis(300)).await;
        for key in 0..process {
            cache.put(&key, key).await.unwrap();
            cache.get(&key).await.unwrap();
        }
        fleets.push((fleet, cache));
    }
    tokio::time::sleep(Duration::from_secs(12)).await;
    let before = shared.calls().trips();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let trips = shared.calls().trips() - before;
    println!("{trips} trips of ten processes in 60 s");
    assert!(trips <= 120, "{trips} trips");
    let sums = fleets[3].0.stats_everywhere().await.unwrap();
    assert_eq!(sums.instances, 10);
    let users = &sums.caches["users"];
    assert_eq!((users.puts, users.tiers["near"].hits), (55, 55));
}
