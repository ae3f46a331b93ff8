//! Data on the server that are lost, replaced or foreign.

use std::time::Duration;

use terrace_testbed::Redis;
use terrace_tier::{Condition, Fence, Level, Op, Order, Reply, Token, Version};
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, fill, lease, lease_by, long, put};

async fn command(bench: &Bench, words: &[&str]) {
    let mut raw = bench.raw().await;
    let mut command = redis::Cmd::new();
    command.arg(words);
    command.exec_async(&mut raw).await.unwrap();
}

#[tokio::test]
async fn forgotten_scripts_are_sent_again() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    bench.put("k", "one").await.unwrap();
    command(&bench, &["SCRIPT", "FLUSH"]).await;
    bench.put("k", "two").await.unwrap();
    command(&bench, &["SCRIPT", "FLUSH"]).await;
    let batch: Vec<_> = (0..100).map(|n| (bench.key(&n.to_string()), put("many"))).collect();
    for answer in bench.tier.apply_many(batch).await {
        assert!(matches!(answer.unwrap(), Reply::Kept(_)));
    }
    bench.reads("k", "two").await;
    bench.reads("99", "many").await;
}

#[tokio::test]
async fn after_flushall_values_are_gone_and_older_leases_cannot_fill() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    bench.put("there", "value").await.unwrap();
    let fence = bench.lease("k").await.unwrap();
    command(&bench, &["FLUSHALL"]).await;
    assert!(matches!(bench.fill("k", fence, "old").await.unwrap(), Reply::Refused(_)));
    bench.misses("there").await;
    let next = bench.lease("k").await.unwrap();
    assert_ne!(next.token, fence.token);
    assert!(matches!(bench.fill("k", next, "new").await.unwrap(), Reply::Kept(_)));
    bench.reads("k", "new").await;
}

#[tokio::test]
async fn a_lost_epoch_makes_all_cells_dead_and_another_one_replaces_it() {
    for level in [Level::Fenced, Level::Ttl] {
        let server = Redis::start().await.unwrap();
        let bench = Bench::on(&server.url(), level);
        bench.put("k", "value").await.unwrap();
        let epoch = match level {
            Level::Ttl => format!("terrace:$ttl-epoch:{}", bench.namespace.name),
            _ => format!("terrace:$epoch:{}", bench.namespace.name),
        };
        for loss in [vec!["DEL", &epoch], vec!["SET", &epoch, "garbage"]] {
            command(&bench, &loss).await;
            sleep(Duration::from_millis(120)).await;
            bench.misses("k").await;
            bench.put("k", "again").await.unwrap();
            bench.reads("k", "again").await;
        }
        command(&bench, &["DEL", &epoch]).await;
        command(&bench, &["RPUSH", &epoch, "a list"]).await;
        sleep(Duration::from_millis(120)).await;
        bench.misses("k").await;
        bench.put("k", "new").await.unwrap();
        bench.reads("k", "new").await;
    }
}

#[tokio::test]
async fn foreign_bytes_and_types_under_our_keys_are_misses_and_can_be_overwritten() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    bench.misses("warm up").await;
    let long = "V".repeat(56);
    let plausible = "V".repeat(200);
    let foreign: [&[&str]; 8] = [
        &["SET", "", ""],
        &["SET", "", "V"],
        &["SET", "", &long],
        &["SET", "", &plausible],
        &["SET", "", "{\"json\": true, \"long enough to be taken for one of our cells\": 1}"],
        &["RPUSH", "", "a", "b"],
        &["HSET", "", "field", "value"],
        &["SADD", "", "member"],
    ];
    for (number, words) in foreign.iter().enumerate() {
        let keys = [
            format!("get-{number}"),
            format!("lease-{number}"),
            format!("put-{number}"),
            format!("many-{number}"),
        ];
        for key in &keys {
            let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            words[1] = bench.cell_name(key);
            command(&bench, &words.iter().map(String::as_str).collect::<Vec<_>>()).await;
            bench.misses(key).await;
        }
        let fence = bench.lease(&keys[1]).await.unwrap();
        assert!(matches!(bench.fill(&keys[1], fence, "new").await.unwrap(), Reply::Kept(_)), "{words:?}");
        bench.reads(&keys[1], "new").await;
        bench.put(&keys[2], "new").await.unwrap();
        bench.reads(&keys[2], "new").await;
        let many = bench.tier.apply_many(vec![(bench.key(&keys[3]), lease())]).await;
        let Ok(Reply::Miss(fence)) = many[0] else { panic!("{many:?}") };
        let many = bench.tier.apply_many(vec![(bench.key(&keys[3]), fill(fence, "new"))]).await;
        assert!(matches!(many[0], Ok(Reply::Kept(_))), "{many:?}");
    }
}

#[tokio::test]
async fn a_clear_frees_the_memory_of_dead_cells_only() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let neighbour = Bench::new(&server.url());
    let batch = (0..3_000).map(|n| (bench.key(&n.to_string()), put("dead"))).collect();
    bench.tier.apply_many(batch).await.into_iter().for_each(|answer| drop(answer.unwrap()));
    neighbour.put("k", "not mine").await.unwrap();
    command(&bench, &["SET", &bench.cell_name("foreign"), "not ours"]).await;
    bench.tier.clear().await.unwrap();
    bench.put("new", "alive").await.unwrap();
    let mut raw = bench.raw().await;
    let start = Instant::now();
    loop {
        let mut keys: Vec<String> =
            redis::cmd("KEYS").arg(bench.cell_name("*")).query_async(&mut raw).await.unwrap();
        keys.sort();
        if keys == [bench.cell_name("foreign"), bench.cell_name("new")] {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "{} keys are left", keys.len());
        sleep(Duration::from_millis(10)).await;
    }
    bench.reads("new", "alive").await;
    neighbour.reads("k", "not mine").await;
}

#[tokio::test]
async fn another_process_sees_a_clear_within_100_ms() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let other = bench.other_process();
    bench.put("k", "value").await.unwrap();
    other.reads("k", "value").await;
    bench.tier.clear().await.unwrap();
    let start = Instant::now();
    while other.get("k").await.unwrap() != Reply::Miss(Fence::default()) {
        sleep(Duration::from_millis(2)).await;
    }
    assert!(start.elapsed() < Duration::from_millis(150), "{:?}", start.elapsed());
    // A later write is seen at once, although the last known epoch is older.
    other.tier.clear().await.unwrap();
    other.put("k", "after").await.unwrap();
    bench.reads("k", "after").await;
}

/// The clock of a host that took over after a failover may be behind, and near tiers elsewhere spare copies of
/// later versions than the one that is reported.
#[tokio::test]
async fn a_version_grows_although_the_cell_is_gone_and_the_clock_is_behind() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    bench.put("k", "one").await.unwrap();
    let (cell, hour) = (bench.cell_name("k"), 3_600_000_000);
    let of_another_clock = Version::from_u64(terrace_tier::Clock::system().micros() + hour);
    let mut raw = bench.raw().await;
    let mut set = redis::cmd("SETRANGE");
    set.arg(&cell).arg(1).arg(&of_another_clock.as_u64().to_be_bytes()[..]);
    set.exec_async(&mut raw).await.unwrap();
    let mut last = of_another_clock;
    for _ in 0..3 {
        let Reply::Kept(version) = bench.put("k", "next").await.unwrap() else { panic!("kept") };
        assert!(version > last, "{version} after {last}");
        command(&bench, &["DEL", &cell]).await;
        let remove = Op::Remove { tombstone_ttl: Duration::from_secs(60) };
        let Reply::Done { version: removed, .. } = bench.tier.apply(&bench.key("k"), remove).await.unwrap()
        else {
            panic!("done")
        };
        assert!(removed > version, "{removed} after {version}");
        last = removed;
        command(&bench, &["DEL", &cell]).await;
    }
}

#[tokio::test]
async fn evicted_cells_and_epochs_do_no_harm() {
    let server = Redis::options()
        .config("maxmemory", "3mb")
        .config("maxmemory-policy", "allkeys-lru")
        .start()
        .await
        .unwrap();
    let bench = Bench::new(&server.url());
    let body = "x".repeat(2_000);
    let (mut kept, mut refused) = (0, 0);
    for number in 0..3_000 {
        let key = number.to_string();
        let fence = bench.lease(&key).await.unwrap();
        match bench.fill(&key, fence, &body).await.unwrap() {
            Reply::Kept(_) => kept += 1,
            Reply::Refused(_) => refused += 1,
            reply => panic!("{reply:?}"),
        }
    }
    let mut hits = 0;
    for number in 0..3_000 {
        hits += usize::from(matches!(bench.get(&number.to_string()).await.unwrap(), Reply::Hit(_)));
    }
    assert!(kept > 2_000, "{kept} kept, {refused} refused");
    assert!((1..3_000).contains(&hits), "{hits} hits: the server must have evicted some");
}

#[tokio::test]
async fn level_ttl_has_keys_of_its_own_and_one_trip_on_a_miss() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::on(&server.url(), Level::Ttl);
    bench.misses("k").await;
    let mut raw = bench.raw().await;
    let lease = lease_by(Token::of_reader());
    let Reply::Miss(fence) = bench.tier.apply(&bench.key("k"), lease).await.unwrap() else { panic!() };
    assert_eq!(calls_of(&mut raw, "evalsha").await, 0, "a miss needs no script");
    // The first write creates the epoch by a script. While the epoch is fresh, writes are plain SETs.
    assert!(matches!(bench.fill("k", fence, "first").await.unwrap(), Reply::Kept(_)));
    let (scripts, sets) = (calls_of(&mut raw, "evalsha").await, calls_of(&mut raw, "set").await);
    let order = Order::Unfenced(Version::from_u64(3));
    let put = Op::Put { order, deadlines: long(), body: None, tombstone_ttl: Duration::from_secs(1) };
    assert_eq!(bench.tier.apply(&bench.key("k"), put).await.unwrap(), Reply::Kept(Version::from_u64(3)));
    assert_eq!(calls_of(&mut raw, "evalsha").await, scripts);
    assert_eq!(calls_of(&mut raw, "set").await, sets + 1);
    bench.fill("k", fence, "value").await.unwrap();
    bench.reads("k", "value").await;
    let name = format!("terrace:$ttl:{}:k", bench.namespace.name);
    let left: i64 = redis::cmd("PTTL").arg(name).query_async(&mut raw).await.unwrap();
    assert!((500_000..=600_000).contains(&left), "{left}");
    bench.tier.clear().await.unwrap();
    bench.misses("k").await;
    let first = Token::of_loader();
    for token in [first, Token::of_loader()] {
        let reply = bench.tier.apply(&bench.key("k"), lease_by(token)).await.unwrap();
        let Reply::Miss(fence) = reply else { panic!("{reply:?}") };
        assert_eq!(fence.token, first, "the second loader gets the token of the first");
    }
}

async fn calls_of(raw: &mut redis::aio::MultiplexedConnection, command: &str) -> u64 {
    let text: String = redis::cmd("INFO").arg("commandstats").query_async(raw).await.unwrap();
    let start = format!("cmdstat_{command}:calls=");
    let line = text.lines().find_map(|line| line.strip_prefix(&start));
    line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
}

#[tokio::test]
async fn a_batch_of_hits_is_one_command_for_gets_and_for_leases() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let mut raw = bench.raw().await;
    let keys: Vec<_> = (0..100).map(|n| bench.key(&n.to_string())).collect();
    let batch = |op: fn() -> Op| keys.iter().map(|key| (key.clone(), op())).collect::<Vec<_>>();
    bench.tier.apply_many(batch(|| put("value"))).await.into_iter().for_each(|answer| drop(answer.unwrap()));
    let before = (calls_of(&mut raw, "mget").await, calls_of(&mut raw, "get").await);
    let hits = bench.tier.apply_many(batch(|| Op::Get)).await;
    assert!(hits.iter().all(|hit| matches!(hit, Ok(Reply::Hit(_)))));
    let hits = bench.tier.apply_many(batch(lease)).await;
    assert!(hits.iter().all(|hit| matches!(hit, Ok(Reply::Hit(_)))));
    let after = (calls_of(&mut raw, "mget").await, calls_of(&mut raw, "get").await);
    assert_eq!(after, (before.0 + 2, before.1), "one MGET for each batch and no GET");
}

#[tokio::test]
async fn the_server_expires_cells_to_the_millisecond() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let mut raw = bench.raw().await;
    let now = long().written;
    let order = Order::Author(Condition::Always);
    const YEAR: u64 = 365 * 24 * 3_600_000;
    for (ttl, least) in
        [(1, 0), (250, 100), (999, 800), (YEAR - 1, 31_535_990_000), (u64::MAX, 31_535_990_000)]
    {
        let deadlines = terrace_tier::Deadlines::ttl(now, Duration::from_millis(ttl));
        let op = Op::Put { order, deadlines, body: None, tombstone_ttl: Duration::ZERO };
        bench.tier.apply(&bench.key("k"), op).await.unwrap();
        let left: i64 = redis::cmd("PTTL").arg(bench.cell_name("k")).query_async(&mut raw).await.unwrap();
        let most = i64::try_from(ttl.min(YEAR)).unwrap();
        assert!(left == -2 && ttl < 250 || (least..=most).contains(&left), "{ttl} ms: PTTL {left}");
    }
}
