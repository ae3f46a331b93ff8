//! Sentinels name the server to use.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use terrace_testbed::{Redis, Sentinel};
use terrace_tier::{ErrorKind, FindingTopic};
use tokio::time::{Instant, sleep};

use super::{Recording, fake_server, has, lasting, takes_writes_within};
use crate::{
    bench::{Bench, raw},
    log::RecordingFollower,
};

const MASTER: &str = "main";
/// The longest time from the promotion until the new primary takes writes.
const TAKEOVER: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(30);

/// A primary with a replica, and three sentinels that know each other and both servers.
struct Watched {
    primary: Redis,
    replica: Redis,
    sentinels: Vec<Sentinel>,
}

impl Watched {
    async fn new() -> Self {
        let primary = Redis::start().await.unwrap();
        let replica = Redis::options().replica_of(&primary).start().await.unwrap();
        let sentinels = Sentinel::watch(&primary, MASTER, 3).await.unwrap();
        let watched = Self { primary, replica, sentinels };
        for sentinel in &watched.sentinels {
            let knows = format!("slaves=1,sentinels={}", watched.sentinels.len());
            until("the sentinels must know each other", async || {
                let mut raw = raw(&sentinel.url()).await;
                let info: String = redis::cmd("INFO").arg("sentinel").query_async(&mut raw).await.unwrap();
                info.contains(&knows)
            })
            .await;
        }
        watched
    }

    fn url(&self) -> String {
        let hosts: Vec<_> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        format!("redis+sentinel://{}/{MASTER}", hosts.join(","))
    }

    /// A tier through the sentinels.
    fn bench(&self) -> Bench {
        Bench::new(&self.url())
    }

    /// Waits until most sentinels name the replica.
    async fn is_promoted(&self) {
        until("the replica must be promoted", async || {
            let mut votes = 0;
            for sentinel in &self.sentinels {
                let mut raw = raw(&sentinel.url()).await;
                let mut ask = redis::cmd("SENTINEL");
                ask.arg("get-master-addr-by-name").arg(MASTER);
                let (_, port): (String, u16) = ask.query_async(&mut raw).await.unwrap();
                votes += usize::from(port == self.replica.port());
            }
            votes > self.sentinels.len() / 2
        })
        .await;
    }
}

async fn until(what: &str, is_so: impl AsyncFn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < end, "{what}");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_the_death_of_the_primary_its_replica_takes_writes() {
    let watched = Watched::new().await;
    let bench = watched.bench();
    let told = Recording::on(&bench);
    bench.tier.ready().await.unwrap();
    bench.put("k", "value").await.unwrap();
    let follower = RecordingFollower::on(&bench).await;
    let before = bench.handle.run_id().unwrap();
    watched.primary.kill9().unwrap();
    bench.get("k").await.unwrap_err();
    watched.is_promoted().await;
    let waited = takes_writes_within(&bench, TAKEOVER).await;
    println!("writes are taken {waited:?} after the promotion");
    assert_ne!(bench.handle.run_id().unwrap(), before);
    follower.gets_heartbeat().await;
    bench.other_process().put("there", "new").await.unwrap();
    follower.is_notified_of("there").await;
    assert!(told.0.lock().iter().all(|finding| finding.topic() == FindingTopic::Role), "{:?}", told.0.lock());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_primary_that_goes_on_is_not_used_again() {
    let watched = Watched::new().await;
    let bench = Arc::new(watched.bench());
    bench.put("k", "before").await.unwrap();
    watched.primary.pause().unwrap();
    watched.is_promoted().await;
    let waited = takes_writes_within(&bench, TAKEOVER).await;
    println!("writes are taken {waited:?} after the promotion");
    let new = bench.handle.run_id().unwrap();
    bench.put("k", "after").await.unwrap();
    watched.primary.resume().unwrap();
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        bench.reads("k", "after").await;
        assert_eq!(bench.handle.run_id().unwrap(), new);
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_is_followed_though_the_old_primary_answers() {
    let watched = Watched::new().await;
    let bench = watched.bench();
    bench.put("k", "value").await.unwrap();
    let mut sentinel = raw(&watched.sentinels[0].url()).await;
    redis::cmd("SENTINEL").arg("FAILOVER").arg(MASTER).exec_async(&mut sentinel).await.unwrap();
    watched.is_promoted().await;
    takes_writes_within(&bench, TAKEOVER).await;
    until("the new primary must be used", async || {
        let mut replica = raw(&watched.replica.url()).await;
        let name = bench.cell_name("probe");
        let _outcome = bench.put("probe", "there").await;
        redis::cmd("EXISTS").arg(name).query_async::<bool>(&mut replica).await.unwrap()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_sentinel_of_three_is_enough() {
    let watched = Watched::new().await;
    watched.sentinels[0].kill9().unwrap();
    watched.sentinels[1].pause().unwrap();
    let bench = watched.bench();
    bench.tier.ready().await.unwrap();
    bench.put("k", "value").await.unwrap();
    watched.sentinels[2].kill9().unwrap();
    // Sentinels that are gone are no reason to leave a server that answers.
    bench.reads("k", "value").await;
    let late = watched.bench();
    let error = late.tier.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_no_sentinel_knows_and_a_url_of_a_sentinel_are_config_errors() {
    let primary = Redis::start().await.unwrap();
    let sentinels = Sentinel::watch(&primary, MASTER, 1).await.unwrap();
    let port = sentinels[0].port();
    for url in [
        format!("redis+sentinel://127.0.0.1:{port}/other"),
        format!("redis://127.0.0.1:{port}"),
        // A server is asked as if it were a sentinel.
        format!("redis+sentinel://127.0.0.1:{}/{MASTER}", primary.port()),
    ] {
        let error = Bench::new(&url).tier.ready().await.unwrap_err();
        assert!(!error.is_transient(), "{url}: {error}");
        assert!(error.finding().is_some(), "{url}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_have_a_password_of_their_own() {
    let primary = Redis::options().password("servers").start().await.unwrap();
    let sentinel = Sentinel::options().password("sentinels").master(MASTER, primary.port(), 1);
    let sentinel = sentinel.config("sentinel auth-pass", &format!("{MASTER} servers")).start().await.unwrap();
    let url = format!("redis+sentinel://:servers@127.0.0.1:{}/{MASTER}", sentinel.port());
    let builder = terrace_tier_redis::Redis::builder(&url);
    for wrong in [builder.clone(), builder.clone().sentinel_password("wr0ng")] {
        let handle = wrong.build().unwrap();
        let error = Bench::through(handle, &url).tier.ready().await.unwrap_err();
        lasting(&error, FindingTopic::Permission);
        assert!(!format!("{error} {error:?}").contains("wr0ng"));
    }
    let bench = Bench::through(builder.sentinel_password("sentinels").build().unwrap(), &url);
    bench.tier.ready().await.unwrap();
    bench.put("k", "value").await.unwrap();
}

/// A sentinel that names the server at `host` and this port.
async fn fake_sentinel(host: &'static str, port: &Arc<AtomicU16>) -> u16 {
    let port = Arc::clone(port);
    let answer = move |request: &[u8]| {
        let port = port.load(Ordering::Relaxed).to_string();
        let named = format!("*2\r\n${}\r\n{host}\r\n${}\r\n{port}\r\n", host.len(), port.len());
        if has(request, "SENTINEL") { named.into_bytes() } else { b"+PONG\r\n".to_vec() }
    };
    fake_server(answer).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_most_sentinels_say_counts() {
    let (old, new) = tokio::try_join!(Redis::start(), Redis::start()).unwrap();
    let (old_port, new_port) = (Arc::new(AtomicU16::new(old.port())), Arc::new(AtomicU16::new(new.port())));
    let stale = fake_sentinel("127.0.0.1", &old_port).await;
    let others = [fake_sentinel("127.0.0.1", &new_port).await, fake_sentinel("127.0.0.1", &new_port).await];
    let there = Bench::new(&new.url());
    for _ in 0..20 {
        let [one, two] = others;
        let bench = Bench::open_like(
            &there,
            &format!("redis+sentinel://127.0.0.1:{stale},127.0.0.1:{one},127.0.0.1:{two}/{MASTER}"),
        );
        bench.put("k", "value").await.unwrap();
        there.reads("k", "value").await;
        assert_eq!(bench.handle.run_id(), there.handle.run_id());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_the_sentinels_no_longer_name_is_left_though_it_is_a_primary() {
    let (old, new) = tokio::try_join!(Redis::start(), Redis::start()).unwrap();
    let named = Arc::new(AtomicU16::new(old.port()));
    let sentinel = fake_sentinel("127.0.0.1", &named).await;
    let bench = Bench::new(&format!("redis+sentinel://127.0.0.1:{sentinel}/{MASTER}"));
    bench.put("k", "value").await.unwrap();
    let before = bench.handle.run_id();
    named.store(new.port(), Ordering::Relaxed);
    let start = Instant::now();
    until("the other server must be used", async || {
        let now = bench.handle.run_id();
        now.is_some() && now != before
    })
    .await;
    assert!(start.elapsed() < Duration::from_secs(7), "{:?}", start.elapsed());
    bench.misses("k").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_on_this_host_may_not_lead_to_another_host_without_tls() {
    let port = Arc::new(AtomicU16::new(6379));
    let sentinel = fake_sentinel("192.0.2.1", &port).await;
    let bench = Bench::new(&format!("redis+sentinel://:S3cret@127.0.0.1:{sentinel}/{MASTER}"));
    let error = bench.tier.ready().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(lasting(&error, FindingTopic::Protocol).cure().contains("allow_plaintext"), "{error}");
}
