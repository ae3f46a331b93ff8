//! The invalidation log with faults of the server, the network and the data.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use terrace_testbed::{Proxy, Redis};
use terrace_tier::{Follower, Notice, Op};
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, raw};

/// A follower that records what it receives.
#[derive(Default)]
pub(crate) struct RecordingFollower(Mutex<Record>);

#[derive(Default)]
struct Record {
    notices: Vec<Notice>,
    last_heartbeat: Option<Instant>,
}

impl Follower for RecordingFollower {
    fn notice(&self, notice: &Notice) {
        self.0.lock().notices.push(notice.clone());
    }

    fn heartbeat(&self, at: Instant) {
        self.0.lock().last_heartbeat = Some(at);
    }
}

impl RecordingFollower {
    /// Follows the log of a tier and waits for the first heartbeat.
    pub(crate) async fn on(bench: &Bench) -> Arc<Self> {
        let recording = Arc::new(Self::default());
        let follower: Arc<dyn Follower> = Arc::clone(&recording) as _;
        let follower: Weak<dyn Follower> = Arc::downgrade(&follower);
        bench.tier.log().unwrap().follow(&bench.namespace.name, follower);
        recording.gets_heartbeat().await;
        recording.0.lock().notices.clear();
        recording
    }

    /// Waits for a heartbeat that is newer than this call.
    pub(crate) async fn gets_heartbeat(&self) {
        let since = Instant::now();
        self.until("the follower must get a heartbeat", |record| record.last_heartbeat >= Some(since)).await;
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Record) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is_so(&self.0.lock()) {
            assert!(Instant::now() < end, "{what}: {:?}", self.0.lock().notices);
            sleep(Duration::from_millis(2)).await;
        }
    }

    pub(crate) async fn is_notified_of(&self, key: &str) {
        let of_key = |notice: &Notice| matches!(notice, Notice::Key { key: changed, .. } if *changed == key);
        self.until("the change must be notified", |record| record.notices.iter().any(of_key)).await;
    }

    fn was_lost(&self) -> bool {
        self.0.lock().notices.contains(&Notice::Lost)
    }

    pub(crate) async fn is_lost(&self) {
        self.until("the log must be lost", |record| record.notices.contains(&Notice::Lost)).await;
    }
}

/// All keys of a server with their values.
pub(crate) async fn dump(connection: &mut MultiplexedConnection) -> Vec<(Vec<u8>, Vec<u8>)> {
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(connection).await.unwrap();
    let mut dump = Vec::new();
    for key in keys {
        dump.push((key.clone(), redis::cmd("DUMP").arg(&key).query_async(connection).await.unwrap()));
    }
    dump
}

/// Replaces all data of the server by `dump`, in one transaction.
pub(crate) async fn roll_back(connection: &mut MultiplexedConnection, dump: &[(Vec<u8>, Vec<u8>)]) {
    let mut commands = redis::pipe();
    commands.atomic().cmd("FLUSHALL").ignore();
    for (key, bytes) in dump {
        commands.cmd("RESTORE").arg(key).arg(0).arg(bytes).ignore();
    }
    commands.exec_async(connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_server_is_a_lost_log_and_the_next_log_is_followed() {
    let server = Redis::start().await.unwrap();
    let (bench, mut raw) = (Bench::new(&server.url()), raw(&server.url()).await);
    let follower = RecordingFollower::on(&bench).await;
    redis::cmd("FLUSHALL").exec_async(&mut raw).await.unwrap();
    follower.is_lost().await;
    follower.gets_heartbeat().await;
    bench.other_process().put("k", "after").await.unwrap();
    follower.is_notified_of("k").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_keeps_the_log_loses_no_notice() {
    let server = Redis::options().durable().start().await.unwrap();
    let bench = Bench::new(&server.url());
    bench.put("before", "value").await.unwrap();
    let follower = RecordingFollower::on(&bench).await;
    server.restart().await.unwrap();
    follower.gets_heartbeat().await;
    bench.other_process().put("k", "after").await.unwrap();
    follower.is_notified_of("k").await;
    assert!(!follower.was_lost(), "the follower missed nothing");
    bench.recovers_within(Duration::from_secs(5)).await;
    bench.reads("before", "value").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_rollback_of_the_server_the_log_is_lost_and_its_cells_are_dead() {
    let server = Redis::start().await.unwrap();
    let (bench, mut raw) = (Bench::new(&server.url()), raw(&server.url()).await);
    let follower = RecordingFollower::on(&bench).await;
    bench.put("k", "old").await.unwrap();
    let past = dump(&mut raw).await;
    bench.put("k", "new").await.unwrap();
    follower.gets_heartbeat().await;
    roll_back(&mut raw, &past).await;
    follower.is_lost().await;
    follower.gets_heartbeat().await;
    sleep(Duration::from_millis(120)).await;
    bench.misses("k").await;
    bench.other_process().misses("k").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_rollback_cells_of_unused_tenants_are_dead_too() {
    let server = Redis::start().await.unwrap();
    let (bench, mut raw) = (Bench::new(&server.url()), raw(&server.url()).await);
    let followed = bench.tenant("follows");
    let follower = RecordingFollower::on(&followed).await;
    let unknown = |bench: &Bench| bench.other_process().tenant("unknown");
    let other = unknown(&bench);
    other.put("k", "old").await.unwrap();
    follower.gets_heartbeat().await;
    let past = dump(&mut raw).await;
    other.put("k", "new").await.unwrap();
    follower.gets_heartbeat().await;
    roll_back(&mut raw, &past).await;
    follower.is_lost().await;
    unknown(&bench).misses("k").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollback_is_detected_even_after_new_entries() {
    let server = Redis::start().await.unwrap();
    let mut raw = raw(&server.url()).await;
    let proxy = Proxy::start(server.port()).unwrap();
    let bench = Bench::new(&format!("redis://127.0.0.1:{}", proxy.port()));
    let direct = Bench::new(&server.url());
    let follower = RecordingFollower::on(&bench).await;
    direct.put("first", "value").await.unwrap();
    bench.put("k", "old").await.unwrap();
    let past = dump(&mut raw).await;
    bench.put("k", "new").await.unwrap();
    follower.gets_heartbeat().await;
    proxy.refuse().await;
    proxy.cut().await;
    roll_back(&mut raw, &past).await;
    for _ in 0..5 {
        direct.put("another", "value").await.unwrap();
    }
    proxy.accept().await;
    follower.is_lost().await;
    follower.gets_heartbeat().await;
    bench.recovers_within(Duration::from_secs(5)).await;
    bench.misses("k").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_misses_trimmed_entries_has_lost_the_log() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let bench = Bench::new(&format!("redis://127.0.0.1:{}", proxy.port()));
    let direct = Bench::new(&server.url());
    let follower = RecordingFollower::on(&bench).await;
    bench.put("k", "value").await.unwrap();
    follower.gets_heartbeat().await;
    proxy.refuse().await;
    proxy.cut().await;
    direct.append_entries(18_000).await;
    let length: usize =
        redis::cmd("XLEN").arg("terrace:$log").query_async(&mut direct.raw().await).await.unwrap();
    assert!(length < 17_000, "the log is bounded: {length}");
    proxy.accept().await;
    follower.is_lost().await;
    follower.gets_heartbeat().await;
    bench.recovers_within(Duration::from_secs(5)).await;
    bench.reads("k", "value").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_continues_at_its_last_entry() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let bench = Bench::new(&format!("redis://127.0.0.1:{}", proxy.port()));
    let direct = Bench::open_like(&bench, &server.url());
    let follower = RecordingFollower::on(&bench).await;
    proxy.refuse().await;
    proxy.cut().await;
    direct.put("k", "while cut off").await.unwrap();
    direct.tier.apply(&direct.key("k"), Op::Remove { tombstone_ttl: Duration::from_secs(60) }).await.unwrap();
    proxy.accept().await;
    follower.is_notified_of("k").await;
    follower.gets_heartbeat().await;
    assert_eq!(follower.0.lock().notices.len(), 2, "both changes and no loss");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_sends_no_heartbeat_and_then_continues() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let follower = RecordingFollower::on(&bench).await;
    server.pause().unwrap();
    sleep(Duration::from_millis(150)).await;
    let stopped = Instant::now();
    sleep(Duration::from_millis(400)).await;
    assert!(follower.0.lock().last_heartbeat < Some(stopped), "a stopped server sends no heartbeat");
    server.resume().unwrap();
    follower.gets_heartbeat().await;
    bench.other_process().put("k", "after").await.unwrap();
    follower.is_notified_of("k").await;
    assert!(!follower.was_lost());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_followers_the_log_is_not_read() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let mut raw = bench.raw().await;
    let follower = RecordingFollower::on(&bench).await;
    assert_eq!(readers(&mut raw).await, 1);
    drop(follower);
    let end = Instant::now() + Duration::from_secs(20);
    while readers(&mut raw).await > 0 {
        assert!(Instant::now() < end, "the connection must close after its last follower is dropped");
        sleep(Duration::from_millis(10)).await;
    }
    RecordingFollower::on(&bench).await;
}

/// The number of connections that wait for log entries.
async fn readers(raw: &mut MultiplexedConnection) -> usize {
    let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(raw).await.unwrap();
    clients.lines().filter(|client| client.contains("cmd=xread")).count()
}
