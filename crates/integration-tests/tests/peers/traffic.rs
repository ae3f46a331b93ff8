//! What a server receives: connections, commands and their size.

use terrace::BoxError;
use terrace_testbed as testbed;

use crate::{
    bare, process,
    support::{calls_of, eventually, raw_redis, redis_command},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_7_one_connection_serves_ten_thousand_operations() {
    let server = testbed::Redis::start().await.unwrap();
    let cache = bare(&server.url(), "many");
    cache.ready().await.unwrap();
    let calls: Vec<_> = (0..10_000_u64)
        .map(|call| {
            let cache = cache.clone();
            tokio::spawn(async move {
                let key = (call % 2_000).to_string();
                match call % 3 {
                    0 => cache.put(&key, call % 2_000).await.map(drop).unwrap(),
                    1 => assert!(cache.get(&key).await.unwrap().is_none_or(|value| *value == call % 2_000)),
                    _ => {
                        let load = move || async move { Ok::<_, BoxError>(call % 2_000) };
                        assert_eq!(cache.get_or_load(&key, load).await.unwrap(), call % 2_000);
                    }
                }
            })
        })
        .collect();
    for call in calls {
        call.await.unwrap();
    }
    assert_eq!(cache.stats().tier("redis").unwrap().errors, 0);
    let mut raw = raw_redis(&server.url()).await;
    let clients: String = redis_command(&mut raw, &["CLIENT", "LIST", "TYPE", "normal"]).await;
    assert_eq!(clients.lines().count(), 2, "one connection is the cache's, one this test's: {clients}");
    let stats: String = redis_command(&mut raw, &["INFO", "stats"]).await;
    let made = stats.lines().find_map(|line| line.strip_prefix("total_connections_received:")).unwrap();
    // Two are the testbed's and two those on which `ready` tries the log and the channels.
    assert!(made.trim().parse::<u32>().unwrap() <= 6, "{made} connections were made");
}

#[tokio::test]
async fn fault_8_another_process_that_reads_writes_nothing() {
    let server = testbed::Redis::start().await.unwrap();
    let (writer, reader) = (process(&server.url(), "readers"), process(&server.url(), "readers"));
    for key in 0..20_u64 {
        writer.put(&key.to_string(), key).await.unwrap();
    }
    reader.ready().await.unwrap();
    let mut raw = raw_redis(&server.url()).await;
    let mut written = async || {
        let (mut scripts, mut sets) = (0, 0);
        for script in ["evalsha", "eval"] {
            scripts += calls_of(&mut raw, script).await;
        }
        for set in ["set", "del", "unlink"] {
            sets += calls_of(&mut raw, set).await;
        }
        (scripts, sets)
    };
    let before = written().await;
    for key in 0..20_u64 {
        assert_eq!(reader.get(&key.to_string()).await.unwrap().unwrap(), key);
        let load = async || Ok::<u64, BoxError>(0);
        assert_eq!(reader.get_or_load(&key.to_string(), load).await.unwrap(), key);
    }
    reader.settled().await;
    assert_eq!(written().await, before);
}

#[tokio::test]
async fn fault_12_a_clear_scans_and_unlinks_in_bounded_batches() {
    let server = testbed::Redis::start().await.unwrap();
    let cache = bare(&server.url(), "clear");
    for put in cache.put_many((0..5_000_u64).map(|key| (key.to_string(), key))).await {
        put.unwrap();
    }
    let mut raw = raw_redis(&server.url()).await;
    cache.clear().await.unwrap();
    eventually("the memory is free", async || {
        let left: u64 = redis_command(&mut raw, &["DBSIZE"]).await;
        left < 10
    })
    .await;
    let (scans, unlinks) = (calls_of(&mut raw, "scan").await, calls_of(&mut raw, "unlink").await);
    assert!(scans >= 8 && unlinks >= 8, "5,000 keys in batches: {scans} SCANs, {unlinks} UNLINKs");
    for never in ["keys", "flushdb", "flushall"] {
        assert_eq!(calls_of(&mut raw, never).await, 0, "{never}");
    }
}
