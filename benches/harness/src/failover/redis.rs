//! Failovers of Redis: behind an endpoint that moves, and by sentinels.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use terrace::{Cache, NoNear, Redis, Ttl};
use terrace_testbed::{Proxy, Redis as Server, Sentinel, unique_name};
use tokio::time::{sleep, timeout};

use super::traffic::{Measured, Target, Traffic};
use crate::Result;

const MASTER: &str = "main";
/// How long the callers go on after the promotion.
const AFTER: Duration = Duration::from_secs(4);
/// How long a stopped primary is stopped.
const STOPPED: Duration = Duration::from_secs(10);
/// The longest time until servers know each other, and until sentinels have promoted a replica.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(5);

/// The replica is promoted, the endpoint leads to it, and the old primary follows it.
pub(super) async fn endpoint() -> Result<Measured> {
    let (primary, replica) = pair().await?;
    let endpoint = Proxy::start(primary.port())?;
    let traffic = Traffic::start(target(&format!("redis://127.0.0.1:{}", endpoint.port()))?).await?;
    let (mut old, mut new) = (raw(&primary.url()).await?, raw(&replica.url()).await?);
    let to_primary = replica.port().to_string();
    ask::<String>(&mut new, &["REPLICAOF", "NO", "ONE"]).await?;
    traffic.promoted();
    endpoint.lead_to(replica.port());
    ask::<String>(&mut old, &["REPLICAOF", "127.0.0.1", &to_primary]).await?;
    traffic.end(AFTER).await
}

/// The primary is killed, and the sentinels promote the replica.
pub(super) async fn sentinel_kill() -> Result<Measured> {
    let watched = Watched::new().await?;
    let traffic = Traffic::start(target(&watched.url())?).await?;
    watched.primary.kill9()?;
    watched.is_promoted().await?;
    traffic.promoted();
    traffic.end(AFTER).await
}

/// The primary is stopped for ten seconds. When it goes on, the sentinels make it a replica.
pub(super) async fn sentinel_stop() -> Result<Measured> {
    let watched = Watched::new().await?;
    let traffic = Traffic::start(target(&watched.url())?).await?;
    watched.primary.pause()?;
    let stopped = tokio::time::Instant::now();
    watched.is_promoted().await?;
    traffic.promoted();
    tokio::time::sleep_until(stopped + STOPPED).await;
    watched.primary.resume()?;
    traffic.end(AFTER).await
}

fn target(url: &str) -> Result<Target> {
    let redis = Redis::builder(url).build()?;
    let cache = Cache::builder(unique_name("failover")).near(NoNear).tier(redis.clone());
    Ok(Target::Copies { cache: cache.expire(Ttl::of(Duration::from_secs(60))).build()?, redis })
}

/// A primary and a replica that has its data.
async fn pair() -> Result<(Server, Server)> {
    let primary = Server::start().await?;
    let replica = Server::options().replica_of(&primary).start().await?;
    let mut connection = raw(&replica.url()).await?;
    until("the replica follows", async || {
        let info: String = ask(&mut connection, &["INFO", "replication"]).await?;
        Ok(info.contains("master_link_status:up"))
    })
    .await?;
    Ok((primary, replica))
}

/// A pair with three sentinels that know each other and both servers.
struct Watched {
    primary: Server,
    replica: Server,
    sentinels: Vec<Sentinel>,
}

impl Watched {
    async fn new() -> Result<Self> {
        let (primary, replica) = pair().await?;
        let sentinels = Sentinel::watch(&primary, MASTER, 3).await?;
        for sentinel in &sentinels {
            let mut connection = raw(&sentinel.url()).await?;
            until("the sentinels know each other", async || {
                let info: String = ask(&mut connection, &["INFO", "sentinel"]).await?;
                Ok(info.contains("slaves=1,sentinels=3"))
            })
            .await?;
        }
        Ok(Self { primary, replica, sentinels })
    }

    fn url(&self) -> String {
        let hosts = self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port()));
        format!("redis+sentinel://{}/{MASTER}", hosts.collect::<Vec<_>>().join(","))
    }

    /// Waits until most sentinels name the replica.
    async fn is_promoted(&self) -> Result<()> {
        let mut connections = Vec::new();
        for sentinel in &self.sentinels {
            connections.push(raw(&sentinel.url()).await?);
        }
        until("the replica is promoted", async || {
            let mut votes = 0;
            for connection in &mut connections {
                let question = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER];
                let (_, port): (String, u16) = ask(connection, &question).await?;
                votes += usize::from(port == self.replica.port());
            }
            Ok(votes > connections.len() / 2)
        })
        .await
    }
}

async fn raw(url: &str) -> Result<MultiplexedConnection> {
    Ok(redis::Client::open(url)?.get_multiplexed_async_connection().await?)
}

async fn ask<T: redis::FromRedisValue>(connection: &mut MultiplexedConnection, words: &[&str]) -> Result<T> {
    Ok(redis::cmd(words[0]).arg(&words[1..]).query_async(connection).await?)
}

async fn until(what: &str, mut is_so: impl AsyncFnMut() -> Result<bool>) -> Result<()> {
    let reached = timeout(PATIENCE, async {
        while !is_so().await? {
            sleep(POLL).await;
        }
        Ok(())
    });
    reached.await.map_err(|_| format!("not within {PATIENCE:?}: {what}"))?
}
