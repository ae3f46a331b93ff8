//! Many concurrent calls on one connection.

use std::sync::Arc;

use terrace_testbed::Redis;

use crate::bench::{Bench, body_of, put};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_connection_serves_ten_thousand_operations_at_once() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let tier = Arc::clone(&bench.tier);
    let keys: Vec<_> = (0..1_000).map(|n| bench.key(&n.to_string())).collect();
    let batch = keys.iter().enumerate().map(|(n, key)| (key.clone(), put(&n.to_string()))).collect();
    tier.apply_many(batch).await.into_iter().for_each(|answer| drop(answer.unwrap()));
    let calls: Vec<_> = (0..10_000)
        .map(|call| {
            let (tier, key) = (Arc::clone(&tier), keys[call % 1_000].clone());
            let op = if call % 10 == 3 { put(&(call % 1_000).to_string()) } else { terrace_tier::Op::Get };
            tokio::spawn(async move { tier.apply(&key, op).await })
        })
        .collect();
    for (call, answer) in calls.into_iter().enumerate() {
        let answer = answer.await.unwrap().unwrap();
        if call % 10 != 3 {
            assert_eq!(body_of(&answer), Some((call % 1_000).to_string().as_bytes()));
        }
    }
    let mut raw = bench.raw().await;
    let clients: String = redis::cmd("INFO").arg("clients").query_async(&mut raw).await.unwrap();
    assert!(clients.contains("connected_clients:2"), "one of the tier and one of the test: {clients}");
    let stats: String = redis::cmd("INFO").arg("stats").query_async(&mut raw).await.unwrap();
    let accepted = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
    assert!(accepted.trim().parse::<u32>().unwrap() <= 4, "{accepted} connections");
}
