//! The invalidation log when server, network or data go wrong.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use terrace_testbed::{Proxy, Redis};
use terrace_tier::{Follower, Notice, Op};
use tokio::time::{Instant, sleep};

use crate::bench::{Bench, put, raw};

#[derive(Default)]
struct Ears(Mutex<Said>);

#[derive(Default)]
struct Said {
    notices: Vec<Notice>,
    heard: Option<Instant>,
}

impl Follower for Ears {
    fn notice(&self, notice: &Notice) {
        self.0.lock().notices.push(notice.clone());
    }

    fn heartbeat(&self, at: Instant) {
        self.0.lock().heard = Some(at);
    }
}

impl Ears {
    /// Follows the log of a tier, and hears it by now.
    async fn on(bench: &Bench) -> Arc<Self> {
        let ears = Arc::new(Self::default());
        let follower: Arc<dyn Follower> = Arc::clone(&ears) as _;
        let follower: Weak<dyn Follower> = Arc::downgrade(&follower);
        bench.tier.log().unwrap().follow(&bench.space.name, follower);
        ears.hears().await;
        ears.0.lock().notices.clear();
        ears
    }

    async fn hears(&self) {
        let since = Instant::now();
        self.until("the log must be heard", |said| said.heard >= Some(since)).await;
    }

    async fn until(&self, what: &str, is_so: impl Fn(&Said) -> bool) {
        let end = Instant::now() + Duration::from_secs(20);
        while !is_so(&self.0.lock()) {
            assert!(Instant::now() < end, "{what}: {:?}", self.0.lock().notices);
            sleep(Duration::from_millis(2)).await;
        }
    }

    async fn is_told_of(&self, key: &str) {
        let of_key = |notice: &Notice| matches!(notice, Notice::Key { key: told, .. } if *told == key);
        self.until("a change must be told", |said| said.notices.iter().any(of_key)).await;
    }

    fn was_lost(&self) -> bool {
        self.0.lock().notices.contains(&Notice::Lost)
    }

    async fn is_lost(&self) {
        self.until("the log must be lost", |said| said.notices.contains(&Notice::Lost)).await;
    }
}

/// All that a server keeps.
pub(crate) async fn dump(connection: &mut MultiplexedConnection) -> Vec<(Vec<u8>, Vec<u8>)> {
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query_async(connection).await.unwrap();
    let mut dump = Vec::new();
    for key in keys {
        dump.push((key.clone(), redis::cmd("DUMP").arg(&key).query_async(connection).await.unwrap()));
    }
    dump
}

/// The server goes back to what it was, in one step.
pub(crate) async fn go_back(connection: &mut MultiplexedConnection, dump: &[(Vec<u8>, Vec<u8>)]) {
    let mut commands = redis::pipe();
    commands.atomic().cmd("FLUSHALL").ignore();
    for (key, bytes) in dump {
        commands.cmd("RESTORE").arg(key).arg(0).arg(bytes).ignore();
    }
    commands.exec_async(connection).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_server_is_a_lost_log_and_the_next_one_is_heard() {
    let server = Redis::start().await.unwrap();
    let (bench, mut raw) = (Bench::new(&server.url()), raw(&server.url()).await);
    let ears = Ears::on(&bench).await;
    redis::cmd("FLUSHALL").exec_async(&mut raw).await.unwrap();
    ears.is_lost().await;
    ears.hears().await;
    bench.other_process().put("k", "after").await.unwrap();
    ears.is_told_of("k").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_that_kept_the_log_is_no_loss() {
    let server = Redis::options().durable().start().await.unwrap();
    let bench = Bench::new(&server.url());
    bench.put("before", "value").await.unwrap();
    let ears = Ears::on(&bench).await;
    server.restart().await.unwrap();
    ears.hears().await;
    bench.other_process().put("k", "after").await.unwrap();
    ears.is_told_of("k").await;
    assert!(!ears.was_lost(), "nothing was missed");
    bench.recovers_within(Duration::from_secs(5)).await;
    bench.reads("before", "value").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_went_back_in_time_is_a_lost_log_and_its_cells_are_dead() {
    let server = Redis::start().await.unwrap();
    let (bench, mut raw) = (Bench::new(&server.url()), raw(&server.url()).await);
    let ears = Ears::on(&bench).await;
    bench.put("k", "old").await.unwrap();
    let past = dump(&mut raw).await;
    bench.put("k", "new").await.unwrap();
    ears.hears().await;
    go_back(&mut raw, &past).await;
    ears.is_lost().await;
    ears.hears().await;
    sleep(Duration::from_millis(120)).await;
    bench.misses("k").await;
    bench.other_process().misses("k").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_went_back_keeps_no_cells_of_tenants_that_nobody_uses() {
    let server = Redis::start().await.unwrap();
    let (bench, mut raw) = (Bench::new(&server.url()), raw(&server.url()).await);
    let follower = bench.tenant("follows");
    let ears = Ears::on(&follower).await;
    let unknown = |bench: &Bench| bench.other_process().tenant("unknown");
    let other = unknown(&bench);
    other.put("k", "old").await.unwrap();
    ears.hears().await;
    let past = dump(&mut raw).await;
    other.put("k", "new").await.unwrap();
    ears.hears().await;
    go_back(&mut raw, &past).await;
    ears.is_lost().await;
    unknown(&bench).misses("k").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_went_back_and_came_as_far_again_is_found_out() {
    let server = Redis::start().await.unwrap();
    let mut raw = raw(&server.url()).await;
    let proxy = Proxy::start(server.port()).unwrap();
    let bench = Bench::new(&format!("redis://127.0.0.1:{}", proxy.port()));
    let direct = Bench::new(&server.url());
    let ears = Ears::on(&bench).await;
    direct.put("first", "value").await.unwrap();
    bench.put("k", "old").await.unwrap();
    let past = dump(&mut raw).await;
    bench.put("k", "new").await.unwrap();
    ears.hears().await;
    proxy.refuse().await;
    proxy.cut().await;
    go_back(&mut raw, &past).await;
    for _ in 0..5 {
        direct.put("another", "value").await.unwrap();
    }
    proxy.accept().await;
    ears.is_lost().await;
    ears.hears().await;
    bench.recovers_within(Duration::from_secs(5)).await;
    bench.misses("k").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_that_was_away_for_longer_than_the_log_is_has_lost_it() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let bench = Bench::new(&format!("redis://127.0.0.1:{}", proxy.port()));
    let direct = Bench::new(&server.url());
    let ears = Ears::on(&bench).await;
    bench.put("k", "value").await.unwrap();
    ears.hears().await;
    proxy.refuse().await;
    proxy.cut().await;
    for _ in 0..40 {
        let batch: Vec<_> = (0..500).map(|number| (direct.key(&number.to_string()), put("value"))).collect();
        assert!(direct.tier.apply_many(batch).await.iter().all(Result::is_ok));
    }
    let length: usize =
        redis::cmd("XLEN").arg("terrace:$log").query_async(&mut direct.raw().await).await.unwrap();
    assert!(length < 17_000, "the log is bounded: {length}");
    proxy.accept().await;
    ears.is_lost().await;
    ears.hears().await;
    bench.recovers_within(Duration::from_secs(5)).await;
    bench.reads("k", "value").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_goes_on_where_it_was() {
    let server = Redis::start().await.unwrap();
    let proxy = Proxy::start(server.port()).unwrap();
    let bench = Bench::new(&format!("redis://127.0.0.1:{}", proxy.port()));
    let direct = Bench::open_like(&bench, &server.url());
    let ears = Ears::on(&bench).await;
    proxy.refuse().await;
    proxy.cut().await;
    direct.put("k", "while away").await.unwrap();
    direct.tier.apply(&direct.key("k"), Op::Remove { tombstone_ttl: Duration::from_secs(60) }).await.unwrap();
    proxy.accept().await;
    ears.is_told_of("k").await;
    ears.hears().await;
    assert_eq!(ears.0.lock().notices.len(), 2, "both changes, and no loss");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_server_is_not_heard_and_then_goes_on() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let ears = Ears::on(&bench).await;
    server.pause().unwrap();
    sleep(Duration::from_millis(150)).await;
    let stopped = Instant::now();
    sleep(Duration::from_millis(400)).await;
    assert!(ears.0.lock().heard < Some(stopped), "nothing is heard from a server that is stopped");
    server.resume().unwrap();
    ears.hears().await;
    bench.other_process().put("k", "after").await.unwrap();
    ears.is_told_of("k").await;
    assert!(!ears.was_lost());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_followers_the_log_is_not_read() {
    let server = Redis::start().await.unwrap();
    let bench = Bench::new(&server.url());
    let mut raw = bench.raw().await;
    let ears = Ears::on(&bench).await;
    assert_eq!(readers(&mut raw).await, 1);
    drop(ears);
    let end = Instant::now() + Duration::from_secs(20);
    while readers(&mut raw).await > 0 {
        assert!(Instant::now() < end, "the connection must go with its last follower");
        sleep(Duration::from_millis(10)).await;
    }
    Ears::on(&bench).await;
}

/// Connections that wait for the log.
async fn readers(raw: &mut MultiplexedConnection) -> usize {
    let clients: String = redis::cmd("CLIENT").arg("LIST").query_async(raw).await.unwrap();
    clients.lines().filter(|client| client.contains("cmd=xread")).count()
}
