//! What clears cost a server that holds many keys of others.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use terrace_testbed::Redis;
use terrace_tier::Op;
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, put};

async fn calls_of(raw: &mut MultiplexedConnection, command: &str) -> u64 {
    let text: String = redis::cmd("INFO").arg("commandstats").query_async(raw).await.unwrap();
    let start = format!("cmdstat_{command}:calls=");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

/// Writes foreign keys, whose names begin like those of cells.
async fn write_foreign(raw: &mut MultiplexedConnection, count: u64) {
    let script = "for n = ARGV[1], ARGV[2] do redis.call('SET', 'terrace:foreign:' .. n, 'x') end";
    for from in (0..count).step_by(1_000) {
        let page = redis::cmd("EVAL").arg(script).arg(0).arg(from).arg(from + 999).to_owned();
        page.exec_async(raw).await.unwrap();
    }
}

/// Waits until no SCAN was sent for a second.
async fn scans_until_quiet(raw: &mut MultiplexedConnection) -> u64 {
    let mut last = (u64::MAX, Instant::now());
    loop {
        let scans = calls_of(raw, "scan").await;
        if scans != last.0 {
            last = (scans, Instant::now());
        } else if last.1.elapsed() > Duration::from_secs(1) {
            return scans;
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cost_of_clears_grows_with_their_cells_and_not_with_foreign_keys() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let mut raw = bench.raw().await;
    write_foreign(&mut raw, 200_000).await;
    let tenants: Vec<Bench> = (0..50).map(|number| bench.tenant(&number.to_string())).collect();
    for tenant in &tenants {
        tenant.put("k", "value").await.unwrap();
    }
    let clears = tenants.iter().map(|tenant| tenant.tier.clear());
    futures_util::future::join_all(clears).await.into_iter().for_each(Result::unwrap);
    let scans = scans_until_quiet(&mut raw).await;
    // A sweep looks at 16,384 keys, 256 in a SCAN, and at 100 more for each cell that it frees. Clears that were
    // late have a second sweep.
    assert!((64..=2 * 64 + 20).contains(&scans), "{scans} SCANs for 50 clears");
    for tenant in &tenants {
        tenant.misses("k").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sweep_frees_many_cells_among_foreign_keys() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let mut raw = bench.raw().await;
    let tenants: Vec<Bench> = (0..10).map(|number| bench.tenant(&number.to_string())).collect();
    for tenant in &tenants {
        let batch: Vec<(_, Op)> = (0..200).map(|n| (tenant.key(&n.to_string()), put("value"))).collect();
        assert!(tenant.tier.apply_many(batch).await.iter().all(Result::is_ok));
    }
    write_foreign(&mut raw, 20_000).await;
    let before: u64 = redis::cmd("DBSIZE").query_async(&mut raw).await.unwrap();
    for tenant in &tenants {
        tenant.tier.clear().await.unwrap();
    }
    scans_until_quiet(&mut raw).await;
    let after: u64 = redis::cmd("DBSIZE").query_async(&mut raw).await.unwrap();
    // The mark of the sweep may still be there.
    assert!(before - after >= 1_999, "{before} keys, then {after}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_sweeps_at_a_time() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let mut raw = bench.raw().await;
    bench.put("k", "value").await.unwrap();
    redis::cmd("SET")
        .arg("terrace:$sweep")
        .arg("another")
        .arg("PX")
        .arg(2_000)
        .exec_async(&mut raw)
        .await
        .unwrap();
    let start = Instant::now();
    bench.tier.clear().await.unwrap();
    while redis::cmd("EXISTS").arg(bench.cell_name("k")).query_async::<bool>(&mut raw).await.unwrap() {
        assert!(start.elapsed() < Duration::from_secs(20), "the cell stays");
        sleep(Duration::from_millis(10)).await;
    }
    assert!(start.elapsed() >= Duration::from_millis(1_900), "it has waited: {:?}", start.elapsed());
}
