//! Concurrent callers share calls of scripts, and a read leases in its first trip where misses are frequent.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use terrace_testbed::Redis;
use terrace_tier::{Condition, ErrorKind, Op, Order, Reply, Version};
use tokio::time::sleep;

use crate::bench::{Bench, body_of, lease, long, put};

const CALLERS: usize = 200;

struct Setup {
    _server: Redis,
    bench: Bench,
    raw: MultiplexedConnection,
}

impl Setup {
    async fn new() -> Self {
        let server = Redis::start().await.unwrap();
        let bench = Bench::new(&server.url());
        let raw = bench.raw().await;
        Self { _server: server, bench, raw }
    }

    /// How often the server ran each of these commands.
    async fn calls<const N: usize>(&mut self, commands: [&str; N]) -> [u64; N] {
        let text: String = redis::cmd("INFO").arg("commandstats").query_async(&mut self.raw).await.unwrap();
        commands.map(|command| {
            let start = format!("cmdstat_{command}:calls=");
            let line = text.lines().find_map(|line| line.strip_prefix(&start));
            line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
        })
    }
}

fn put_if_absent(body: &str) -> Op {
    match put(body) {
        Op::Put { deadlines, body, tombstone_ttl, .. } => {
            Op::Put { order: Order::Author(Condition::Absent), deadlines, body, tombstone_ttl }
        }
        other => other,
    }
}

#[tokio::test]
async fn concurrent_writes_share_calls_and_log_entries_and_each_has_its_own_reply() {
    let mut setup = Setup::new().await;
    for number in (0..CALLERS).step_by(2) {
        setup.bench.put(&number.to_string(), "old").await.unwrap();
    }
    let before = setup.calls(["evalsha", "xadd"]).await;
    let bench = &setup.bench;
    let puts = (0..CALLERS).map(|number| async move {
        bench.tier.apply(&bench.key(&number.to_string()), put_if_absent(&format!("new {number}"))).await
    });
    let replies = join_all(puts).await;
    let mut versions = BTreeSet::new();
    for (number, reply) in replies.into_iter().enumerate() {
        match reply.unwrap() {
            Reply::Refused(Some(held)) if number % 2 == 0 => {
                assert_eq!(held.body.as_deref(), Some(&b"old"[..]));
                bench.reads(&number.to_string(), "old").await;
            }
            Reply::Kept(version) if number % 2 == 1 => {
                versions.insert(version);
                bench.reads(&number.to_string(), &format!("new {number}")).await;
            }
            other => panic!("{number}: {other:?}"),
        }
    }
    assert_eq!(versions.len(), CALLERS / 2, "each has a version of its own");
    let after = setup.calls(["evalsha", "xadd"]).await;
    let [calls, entries] = [after[0] - before[0], after[1] - before[1]];
    assert!(calls <= 6, "two alone, and the others in batches of up to 128: {calls} calls");
    assert!(entries <= 12, "up to 16 keys in an entry: {entries} entries");
}

#[tokio::test]
async fn the_writes_of_several_tenants_that_share_a_call_stay_apart() {
    let setup = Setup::new().await;
    let tenants: Vec<Bench> = ["a", "b", "c"].map(|tenant| setup.bench.tenant(tenant)).into();
    let puts = (0..CALLERS).map(|number| {
        let bench = &tenants[number % 3];
        async move { bench.put(&(number / 3).to_string(), &format!("value {number}")).await }
    });
    assert!(join_all(puts).await.into_iter().all(|reply| matches!(reply, Ok(Reply::Kept(_)))));
    for number in 0..CALLERS {
        tenants[number % 3].reads(&(number / 3).to_string(), &format!("value {number}")).await;
    }
    tenants[1].tier.clear().await.unwrap();
    tenants[0].reads("0", "value 0").await;
    tenants[1].misses("0").await;
    tenants[2].reads("0", "value 2").await;
}

#[tokio::test]
async fn writes_of_one_key_in_one_call_are_made_one_after_the_other() {
    let setup = Setup::new().await;
    let bench = &setup.bench;
    let puts = (0..CALLERS).map(|number| async move {
        let body = format!("value {number}");
        match bench.put("k", &body).await.unwrap() {
            Reply::Kept(version) => (version, body),
            other => panic!("{other:?}"),
        }
    });
    let puts = join_all(puts).await;
    let versions: BTreeSet<Version> = puts.iter().map(|(version, _)| *version).collect();
    assert_eq!(versions.len(), CALLERS);
    bench.reads("k", &puts.iter().max().unwrap().1).await;
}

#[tokio::test]
async fn a_read_leases_at_once_while_misses_are_frequent_and_reads_first_while_they_are_rare() {
    let mut setup = Setup::new().await;
    for number in 0..20 {
        setup.bench.lease(&format!("new {number}")).await.unwrap();
    }
    let key = setup.bench.key("k");
    setup.bench.put("k", "value").await.unwrap();
    let before = setup.calls(["get", "evalsha"]).await;
    setup.bench.lease("another").await.unwrap();
    let hit = setup.bench.tier.apply(&key, lease()).await.unwrap();
    assert_eq!(body_of(&hit), Some(&b"value"[..]), "the script that leases gives the value");
    let after = setup.calls(["get", "evalsha"]).await;
    // Each script reads the epoch and the cell.
    assert_eq!([after[0] - before[0], after[1] - before[1]], [4, 2], "no plain read");
    for _ in 0..100 {
        assert!(matches!(setup.bench.tier.apply(&key, lease()).await, Ok(Reply::Hit(_))));
    }
    let before = setup.calls(["evalsha"]).await;
    assert!(matches!(setup.bench.tier.apply(&key, lease()).await, Ok(Reply::Hit(_))));
    assert_eq!(setup.calls(["evalsha"]).await, before, "a plain read");
}

#[tokio::test]
async fn a_fill_looks_for_waiting_processes_only_if_one_waits() {
    let mut setup = Setup::new().await;
    let fence = setup.bench.lease("alone").await.unwrap();
    assert!(matches!(setup.bench.fill("alone", fence, "value").await, Ok(Reply::Kept(_))));
    assert_eq!(setup.calls(["smembers"]).await, [0]);

    let fence = setup.bench.lease("waited").await.unwrap();
    let waiter = setup.bench.tier.lease_waiter().unwrap();
    let _held = waiter.hold(&setup.bench.key("waited"), fence.token);
    let other = setup.bench.other_process();
    let wait = other.tier.lease_waiter().unwrap().wait(&other.key("waited"), fence.token);
    let wait = tokio::spawn(wait);
    // Until the other process has asked for the status of the lease, nothing is to be told.
    while setup.calls(["sadd"]).await == [0] {
        sleep(Duration::from_millis(5)).await;
    }
    // A lease that is asked for again lives longer, and stays marked.
    assert_eq!(setup.bench.lease("waited").await.unwrap().token, fence.token);
    let fill = Op::Fill {
        fence,
        version: fence.version,
        deadlines: long(),
        body: Some(bytes::Bytes::from_static(b"value")),
    };
    assert!(matches!(setup.bench.tier.apply(&setup.bench.key("waited"), fill).await, Ok(Reply::Kept(_))));
    assert_eq!(setup.calls(["smembers"]).await, [1]);
    wait.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_batch_of_several_kinds_of_writes_is_refused_and_sends_nothing() {
    let setup = Setup::new().await;
    let bench = &setup.bench;
    let remove = Op::Remove { tombstone_ttl: Duration::from_secs(60) };
    let replies = bench.tier.apply_many(vec![(bench.key("a"), put("value")), (bench.key("b"), remove)]).await;
    for reply in replies {
        assert_eq!(reply.unwrap_err().kind(), ErrorKind::Unsupported);
    }
    bench.misses("a").await;
}
