//! Every key that the tier writes has an end, or is one of the two that are bounded: docs/operations.md lists them.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use redis::aio::MultiplexedConnection;
use terrace_testbed::Redis;
use terrace_tier::{
    Condition, Deadlines, Level, Op, Order, Publication, Timestamp, Token, Version, Watermark,
};
use tokio::time::sleep;

use crate::bench::{Bench, fill, put};

const DAY: i64 = 24 * 3_600_000;

/// The rest of the life of each key in milliseconds, by kind: the part of its name behind the prefix of the
/// handle, up to the next colon. `-1` stands for a key without an end.
async fn ends(raw: &mut MultiplexedConnection) -> BTreeMap<String, i64> {
    let keys: Vec<String> = redis::cmd("KEYS").arg("terrace:*").query_async(raw).await.unwrap();
    let mut ends = BTreeMap::new();
    for key in keys {
        let left: i64 = redis::cmd("PTTL").arg(&key).query_async(raw).await.unwrap();
        let kind = key.split(':').nth(1).unwrap();
        let kind = if kind.starts_with("faults") { "cell" } else { kind };
        let longest = ends.entry(kind.to_owned()).or_insert(left);
        *longest = if left == -1 || *longest == -1 { -1 } else { left.max(*longest) };
    }
    ends
}

/// Makes the tier write all kinds of keys.
async fn write_all(bench: &Bench) {
    let tenant = bench.tenant("acme");
    bench.tier.ready().await.unwrap();
    // Values, of which one never ends, a tombstone, a lease, and a clear of a tenant and of all.
    for of in [bench, &tenant] {
        of.tier.clear().await.unwrap();
        of.put("k", "value").await.unwrap();
        let fence = of.lease("filled").await.unwrap();
        of.fill("filled", fence, "value").await.unwrap();
        let order = Order::Author(Condition::Always);
        let deadlines = Deadlines::forever(Timestamp::from_millis(0));
        let body = Some(Bytes::from_static(b"value"));
        let endless = Op::Put { order, deadlines, body, tombstone_ttl: Duration::ZERO };
        of.tier.apply(&of.key("endless"), endless).await.unwrap();
        let gone = Op::Invalidate { version: None, tombstone_ttl: Duration::from_secs(60) };
        of.tier.apply(&of.key("gone"), gone).await.unwrap();
    }
    // A lease that is waited for, and one that is released. A load shows that it is alive after 400 ms.
    let [loads, failed] = ["loads", "failed"].map(|key| bench.key(key));
    let (first, second) = (bench.lease("loads").await.unwrap(), bench.lease("failed").await.unwrap());
    let waiter = bench.tier.lease_waiter().unwrap();
    let held = waiter.hold(&loads, first.token);
    drop(waiter.hold(&failed, second.token));
    let other = bench.other_process();
    let waiting = tokio::spawn(async move {
        let waits = other.tier.lease_waiter().unwrap().wait(&other.key("loads"), first.token);
        waits.await
    });
    sleep(Duration::from_millis(900)).await;
    drop(held);
    waiting.await.unwrap().unwrap();
    let watermark =
        Watermark { relay: 7, version: Version::from_u64(1), position: Bytes::from_static(b"here") };
    let (key, ttl) = (Watermark::key(&bench.namespace.name), Duration::from_secs(600));
    let step = Publication::new(key, Condition::Absent, watermark.encode(), ttl);
    bench.tier.publish().unwrap().publish(step).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_key_has_an_end_or_is_the_log() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::on(&server.url(), Level::Bounded(Duration::from_secs(1)));
    let mut raw = bench.raw().await;
    write_all(&bench).await;
    let plain = Bench::on(&server.url(), Level::Ttl);
    plain.misses("k").await;
    for key in ["by a script", "plain"] {
        let fence = terrace_tier::Fence { token: Token::random(), version: Version::from_u64(1) };
        let Op::Fill { fence, version, body, .. } = fill(fence, "value") else { panic!() };
        let deadlines = Deadlines::forever(Timestamp::from_millis(0));
        plain.tier.apply(&plain.key(key), Op::Fill { fence, version, deadlines, body }).await.unwrap();
    }
    let ends = ends(&mut raw).await;
    let kinds: Vec<&str> = ends.keys().map(String::as_str).collect();
    let expected = [
        "$epoch",
        "$log",
        "$log-head",
        "$sign",
        "$sweep",
        "$terms",
        "$ttl",
        "$ttl-epoch",
        "$waits",
        "cell",
        "terrace.relay",
    ];
    for kind in expected.into_iter().filter(|kind| !["$sweep", "$waits"].contains(kind)) {
        assert!(kinds.contains(&kind), "{kind} was not written: {kinds:?}");
    }
    let operations = include_str!("../../../../docs/operations.md");
    for (kind, left) in &ends {
        let most = match kind.as_str() {
            // They are bounded in another way: see the test below.
            "$log" | "$log-head" => {
                assert_eq!(*left, -1, "{kind}");
                continue;
            }
            "$epoch" | "$ttl-epoch" => 30 * DAY,
            "cell" | "$ttl" | "terrace.relay" => 365 * DAY,
            "$sign" | "$terms" => 60_000,
            "$sweep" => 5_000,
            "$waits" => 1_000,
            other => panic!("{other} is not listed"),
        };
        assert!((0..=most).contains(left), "{kind} ends in {left} ms");
        assert!(operations.contains(&format!("`{kind}")) || kind == "cell", "{kind} is not in the guide");
    }
}

#[tokio::test]
async fn a_tenant_that_is_read_keeps_its_epoch() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url()).tenant("acme");
    bench.put("k", "value").await.unwrap();
    let mut raw = bench.raw().await;
    let name = &bench.namespace.name;
    let epochs = [format!("terrace:$epoch:{name}@acme"), format!("terrace:$epoch:{name}@*")];
    for epoch in &epochs {
        let set: i64 = redis::cmd("PEXPIRE").arg(epoch).arg(60_000).query_async(&mut raw).await.unwrap();
        assert_eq!(set, 1, "{epoch} is there");
    }
    let mut renewed = false;
    for _ in 0..1_000 {
        bench.tier.apply_many(vec![(bench.key("k"), Op::Get)]).await.remove(0).unwrap();
        let mut left = Vec::new();
        for epoch in &epochs {
            left.push(redis::cmd("PTTL").arg(epoch).query_async::<i64>(&mut raw).await.unwrap());
        }
        renewed = left.iter().all(|left| *left > 29 * DAY);
        if renewed {
            break;
        }
    }
    assert!(renewed, "one read in eight renews it");
    bench.reads("k", "value").await;
}

/// The length of the value of a log entry.
fn entry_bytes(entry: &redis::Value) -> usize {
    match entry {
        redis::Value::Array(parts) => parts.iter().map(entry_bytes).max().unwrap_or_default(),
        redis::Value::BulkString(bytes) => bytes.len(),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_log_keeps_some_16_384_entries() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let mut raw = bench.raw().await;
    bench.append_entries(18_000).await;
    let length: usize = redis::cmd("XLEN").arg("terrace:$log").query_async(&mut raw).await.unwrap();
    assert!((16_384..=16_384 + 100).contains(&length), "{length}");
    let batch: Vec<_> = (0..400).map(|number| (bench.key(&number.to_string()), put("value"))).collect();
    assert!(bench.tier.apply_many(batch).await.iter().all(Result::is_ok));
    let entry: redis::Value = redis::cmd("XREVRANGE")
        .arg(&["terrace:$log", "+", "-", "COUNT", "1"])
        .query_async(&mut raw)
        .await
        .unwrap();
    let redis::Value::Array(entry) = entry else { panic!("{entry:?}") };
    let bytes = entry_bytes(&entry[0]);
    let name = &bench.namespace.name;
    // 16 keys of at most 3 digits, each with its version and length.
    assert!(bytes <= 21 + name.len() + 16 * (12 + 3), "an entry has at most 16 keys: {bytes} bytes");
    // The head has three fields, and one for each namespace.
    let fields: usize = redis::cmd("HLEN").arg("terrace:$log-head").query_async(&mut raw).await.unwrap();
    assert!(fields <= 3, "{fields}");
}
