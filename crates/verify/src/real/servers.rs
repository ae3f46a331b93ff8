//! The servers of a round, and what is done to them.

use std::{path::PathBuf, time::Duration};

use redis::aio::MultiplexedConnection;
use terrace::BoxError;
use terrace_testbed::{Postgres, Proxy, Redis, Stall};
use tokio::time::sleep;

use super::{
    plan::{Fault, Plan},
    record::{Line, now},
    workers::{Addresses, Lines},
};

/// The round's own Redis, its own database in a Postgres, and a proxy before each.
pub(crate) struct Servers<'a> {
    redis: Option<(Redis, Proxy)>,
    postgres: (&'a Postgres, Proxy),
    database: String,
}

impl<'a> Servers<'a> {
    pub(crate) async fn start(plan: &Plan, postgres: &'a Postgres) -> Result<Self, BoxError> {
        let redis = match plan.stack.has_redis() {
            true => {
                let options = if plan.durable { Redis::options().durable() } else { Redis::options() };
                let redis = options.start().await?;
                let proxy = Proxy::start(redis.port())?;
                Some((redis, proxy))
            }
            false => None,
        };
        let database = postgres.create_database().await?;
        Ok(Self { redis, postgres: (postgres, Proxy::start(postgres.port())?), database })
    }

    /// The database, without a proxy.
    pub(crate) fn database(&self) -> &str {
        &self.database
    }

    pub(crate) fn addresses(&self) -> Addresses {
        let (postgres, proxy) = &self.postgres;
        let by_proxy = format!(":{}/", proxy.port());
        Addresses {
            redis: self.redis.as_ref().map(|(_, proxy)| format!("redis://127.0.0.1:{}", proxy.port())),
            postgres: self.database.replace(&format!(":{}/", postgres.port()), &by_proxy),
        }
    }

    /// Injects the fault, and undoes it after this time.
    pub(crate) async fn strike(&self, fault: Fault, hold: Duration, lines: &Lines) -> Result<(), BoxError> {
        let pieces = (hold.as_millis() as usize % 7) + 1;
        let stall = if pieces.is_multiple_of(2) { Stall::Replies } else { Stall::Both };
        let (postgres, postgres_proxy) = (self.postgres.0, &self.postgres.1);
        match fault {
            Fault::PostgresKilled => {
                postgres.kill9()?;
                sleep(hold).await;
                postgres.restart().await?;
            }
            Fault::PostgresStopped => {
                postgres.pause()?;
                sleep(hold).await;
                postgres.resume()?;
            }
            Fault::PostgresCut => postgres_proxy.cut().await,
            Fault::PostgresStalled => stalled(postgres_proxy, stall, hold).await,
            Fault::PostgresSplit => split(postgres_proxy, pieces, hold).await,
            _ => match &self.redis {
                Some((redis, proxy)) => match fault {
                    Fault::RedisCut => proxy.cut().await,
                    Fault::RedisRefused => {
                        proxy.refuse().await;
                        sleep(hold).await;
                        proxy.accept().await;
                    }
                    Fault::RedisStalled => stalled(proxy, stall, hold).await,
                    Fault::RedisSplit => split(proxy, pieces, hold).await,
                    fault => strike_redis(redis, fault, hold, lines).await?,
                },
                None => return Err(format!("{fault:?} without a Redis").into()),
            },
        }
        Ok(())
    }
}

async fn stalled(proxy: &Proxy, stall: Stall, hold: Duration) {
    proxy.stall(stall);
    sleep(hold).await;
    proxy.resume();
}

/// The traffic comes in small pieces, each some milliseconds late.
async fn split(proxy: &Proxy, pieces: usize, hold: Duration) {
    proxy.split(Some(pieces));
    proxy.delay(Duration::from_millis(pieces as u64));
    sleep(hold).await;
    proxy.delay(Duration::ZERO);
    proxy.split(None);
}

async fn strike_redis(redis: &Redis, fault: Fault, hold: Duration, lines: &Lines) -> Result<(), BoxError> {
    match fault {
        Fault::RedisStopped => {
            redis.pause()?;
            sleep(hold).await;
            redis.resume()?;
            return Ok(());
        }
        Fault::RedisEmptied | Fault::RedisRestarted => {
            redis.kill9()?;
            sleep(hold).await;
            redis.restart().await?;
            return Ok(());
        }
        _ => {}
    }
    let mut session = redis::Client::open(redis.url())?.get_multiplexed_async_connection().await?;
    match fault {
        Fault::Flushed => command(&mut session, "FLUSHALL").await?,
        Fault::ScriptsFlushed => command(&mut session, "SCRIPT FLUSH").await?,
        Fault::ClientsKilled => command(&mut session, "CLIENT KILL TYPE normal").await?,
        Fault::Evicted => evict(&mut session, hold).await?,
        _ => {
            let dump = save(&mut session).await?;
            sleep(hold).await;
            redis.kill9()?;
            std::fs::write(&dump.0, &dump.1)?;
            // From here on it may show the data that it had at the save.
            lines.push(Line::WentBack { at: now() });
            redis.restart().await?;
            std::fs::remove_file(&dump.0)?;
        }
    }
    Ok(())
}

/// Takes the memory away, so that every key is evicted that can be, and adds keys of another program,
/// which push out the keys that come back.
async fn evict(session: &mut MultiplexedConnection, hold: Duration) -> Result<(), BoxError> {
    let evicted = of_info(session, "stats", "evicted_keys").await?;
    let used = of_info(session, "memory", "used_memory").await?;
    let data = of_info(session, "memory", "used_memory_dataset").await?;
    command(session, "CONFIG SET maxmemory-policy allkeys-lru").await?;
    for tight in [used - data, used + 50_000] {
        command(session, &format!("CONFIG SET maxmemory {tight}")).await?;
        let filler = "x".repeat(1_000);
        for key in 0..200 {
            // Redis refuses this where nothing is left to evict.
            let _full = command(session, &format!("SET filler:{key} {filler}")).await;
        }
        sleep(hold / 2).await;
    }
    command(session, "CONFIG SET maxmemory 0").await?;
    match of_info(session, "stats", "evicted_keys").await? > evicted {
        true => Ok(()),
        false => Err("no key was evicted".into()),
    }
}

/// Saves the data, and returns the path of the dump and its content. The file is removed.
async fn save(session: &mut MultiplexedConnection) -> Result<(PathBuf, Vec<u8>), BoxError> {
    command(session, "SAVE").await?;
    let mut asked = redis::cmd("CONFIG");
    let (_, folder): (String, String) = asked.arg("GET").arg("dir").query_async(session).await?;
    let dump = PathBuf::from(folder).join("dump.rdb");
    let bytes = std::fs::read(&dump)?;
    std::fs::remove_file(&dump)?;
    Ok((dump, bytes))
}

async fn command(session: &mut MultiplexedConnection, words: &str) -> Result<(), BoxError> {
    let mut command = redis::Cmd::new();
    words.split(' ').for_each(|word| _ = command.arg(word));
    Ok(command.query_async(session).await?)
}

async fn of_info(session: &mut MultiplexedConnection, section: &str, name: &str) -> Result<u64, BoxError> {
    let info: String = redis::cmd("INFO").arg(section).query_async(session).await?;
    let line = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    Ok(line.ok_or("INFO lacks a number")?.trim().parse()?)
}
