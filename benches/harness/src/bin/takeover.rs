//! How soon another process takes the place of a dead relay while Redis refuses connections now and then:
//! `cargo run --release -p terrace-bench-harness --bin takeover -- 20`, runs last.
//!
//! Three processes read a record through Redis, and a fourth one writes it in Postgres alone, so that only
//! a relay drops the copy in Redis. Redis refuses connections for 0.6 s of every 2.7 s. The process whose
//! relay leads is killed. Each run prints the time until the watermark is another relay's, and the longest
//! time for which the two other processes read a value that was no longer the newest.

use std::{
    env,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use terrace::{
    Backend, Cache, NoNear, Postgres, Redis, Ttl,
    tier::{Namespace, Op, Reply, Role, Tier, Watermark},
};
use terrace_bench_harness::Result;
use terrace_testbed::{Postgres as PostgresServer, Proxy, Redis as RedisServer, unique_name};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::{Mutex, mpsc},
    time::{sleep, timeout},
};

type Records = Cache<u64, u64, NoNear>;

/// Set in a child process: the name of the cache and the URLs of Redis and Postgres.
const MEMBER: &str = "TERRACE_BENCH_TAKEOVER";
const KEY: u64 = 1;
const PERIOD: Duration = Duration::from_millis(2_700);
const REFUSED: Duration = Duration::from_millis(600);
const WRITES_EVERY: Duration = Duration::from_millis(100);
const READS_EVERY: Duration = Duration::from_millis(10);
/// The longest time until another relay leads.
const TAKEOVER: Duration = Duration::from_secs(4);
/// The longest time until something happens that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<()> {
    if let Ok(member) = env::var(MEMBER) {
        return read(&member).await;
    }
    let runs: u32 = env::args().nth(1).as_deref().unwrap_or("20").parse()?;
    let postgres = PostgresServer::start().await?;
    let mut late = 0;
    for run in 0..runs {
        // The phases of the refusals at which the process is killed are spread over the whole period.
        let (takeover, oldest) = measure(&postgres, PERIOD * (2 * runs + run) / runs).await?;
        println!("run {run:2}: taken over after {takeover:.2?}, the oldest read was {oldest:.2?} old");
        late += u32::from(takeover > TAKEOVER || oldest > TAKEOVER);
    }
    println!("{} of {runs} runs within {TAKEOVER:?}", runs - late);
    if late == 0 { Ok(()) } else { Err("a relay took over too late".into()) }
}

/// One run, in which the leader is killed this long after Redis began to refuse connections.
async fn measure(postgres: &PostgresServer, killed_after: Duration) -> Result<(Duration, Duration)> {
    let (redis, database) = (RedisServer::start().await?, postgres.create_database().await?);
    let proxy = Proxy::start(redis.port())?;
    let name = unique_name("takeover");
    let member = format!("{name} redis://127.0.0.1:{} {database}", proxy.port());
    let watermark = WatermarkReader::new(&name, &redis.url())?;
    let (sender, seen) = mpsc::unbounded_channel();
    let mut leader = start(&member, sender.clone(), None).await?;
    let first = watermark.relay().await?;
    let _others = [start(&member, sender.clone(), Some(0)).await?, start(&member, sender, Some(1)).await?];
    let commits = Arc::new(Mutex::new(Vec::new()));
    let writer = tokio::spawn(write(name, database, Arc::clone(&commits)));
    let flaps = tokio::spawn(flap(proxy));
    sleep(killed_after).await;
    if watermark.relay().await? != first {
        return Err("another relay took over from a living leader".into());
    }
    leader.kill().await?;
    let killed = Instant::now();
    while watermark.relay().await? == first {
        if killed.elapsed() > PATIENCE {
            return Err("no relay took over".into());
        }
        sleep(READS_EVERY).await;
    }
    let takeover = killed.elapsed();
    sleep(PERIOD).await;
    writer.abort();
    flaps.abort();
    Ok((takeover, oldest_read(&commits.lock().await, seen)))
}

/// Refuses connections for a part of each period.
async fn flap(proxy: Proxy) {
    loop {
        proxy.refuse().await;
        sleep(REFUSED).await;
        proxy.accept().await;
        sleep(PERIOD - REFUSED).await;
    }
}

/// Writes 1, 2, 3, .. to the record, and notes when each was committed.
async fn write(name: String, database: String, commits: Arc<Mutex<Vec<Instant>>>) -> Result<()> {
    let records: Records = Cache::builder(name).near(NoNear).store(Postgres::new(&database)?).build()?;
    for value in 1.. {
        records.put(&KEY, value).await?;
        commits.lock().await.push(Instant::now());
        sleep(WRITES_EVERY).await;
    }
    Ok(())
}

/// The longest time for which a process read another value than the newest one.
fn oldest_read(commits: &[Instant], mut seen: mpsc::UnboundedReceiver<(usize, u64, Instant)>) -> Duration {
    let (mut newest, mut oldest) = ([0; 2], Duration::ZERO);
    while let Ok((process, value, at)) = seen.try_recv() {
        // `commits[n]` is when the value n + 1 was committed, the first one that is newer than n.
        if let Some(superseded) = commits.get(newest[process] as usize).filter(|_| newest[process] > 0) {
            oldest = oldest.max(at.saturating_duration_since(*superseded));
        }
        newest[process] = value;
    }
    oldest
}

/// Reads the relay of the watermark in Redis, without the proxy.
struct WatermarkReader {
    name: String,
    tier: Arc<dyn Tier>,
}

impl WatermarkReader {
    fn new(name: &str, url: &str) -> Result<Self> {
        let cache = Namespace::new(name, Role::Cache);
        let tier = Redis::new(url)?.open(&Watermark::namespace(&cache))?;
        Ok(Self { name: name.to_owned(), tier })
    }

    async fn relay(&self) -> Result<u64> {
        let ended = timeout(PATIENCE, async {
            loop {
                if let Ok(Reply::Hit(stored)) = self.tier.apply(&Watermark::key(&self.name), Op::Get).await
                    && let Some(watermark) = stored.body.as_ref().and_then(Watermark::decode)
                {
                    return watermark.relay;
                }
                sleep(READS_EVERY).await;
            }
        });
        Ok(ended.await?)
    }
}

/// Starts a process that reads, and returns once it has read. Its values go to `sender` under this number.
async fn start(
    member: &str,
    sender: mpsc::UnboundedSender<(usize, u64, Instant)>,
    number: Option<usize>,
) -> Result<Child> {
    let mut program = Command::new(env::current_exe()?);
    let mut child = program.env(MEMBER, member).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
    let mut lines = BufReader::new(child.stdout.take().ok_or("no output")?).lines();
    timeout(PATIENCE, lines.next_line()).await??.ok_or("a process ended")?;
    tokio::spawn(async move {
        while let Ok(Some(line)) = lines.next_line().await {
            if let (Some(number), Ok(value)) = (number, line.parse()) {
                _ = sender.send((number, value, Instant::now()));
            }
        }
    });
    Ok(child)
}

/// A child process: prints each new value of the record.
async fn read(member: &str) -> Result<()> {
    let [name, redis, database] = member.split(' ').collect::<Vec<_>>()[..] else {
        return Err("the variable names no cache and servers".into());
    };
    let builder = Cache::builder(name).near(NoNear).tier(Redis::new(redis)?).store(Postgres::new(database)?);
    let records: Records = builder.expire(Ttl::secs(60)).build()?;
    records.ready().await?;
    println!("ready");
    let mut last = None;
    loop {
        if let Ok(Some(value)) = records.get(&KEY).await
            && last != Some(*value)
        {
            println!("{}", *value);
            last = Some(*value);
        }
        sleep(READS_EVERY).await;
    }
}
