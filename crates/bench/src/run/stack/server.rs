//! The servers that a run starts for itself. They end with the run.

use std::{fs, path::PathBuf, time::Duration};

use terrace_testbed::{Postgres, Proxy, Redis, Stall};

use super::{StackSpec, redis_admin};
use crate::failure::{Failure, Result, refuse};

/// A server of one tier.
pub(crate) enum RunningServer {
    /// A Redis, behind a proxy if a fault makes it slow.
    Redis(Redis, Option<Proxy>),
    /// A Postgres, behind a proxy if a fault makes it slow.
    Postgres(Postgres, Option<Proxy>),
    /// A SQLite file in a folder of its own.
    Sqlite(tempfile::TempDir),
}

/// The servers of one stack, by tier.
#[derive(Default)]
pub(crate) struct Servers(Vec<(&'static str, RunningServer)>);

impl Servers {
    /// Starts what the stack wants for itself. The tiers in `slowed` are reached through a proxy.
    pub(crate) async fn start(spec: &StackSpec, slowed: &[&str]) -> Result<Self> {
        let mut servers = Vec::new();
        for tier in spec.private_tiers() {
            let started = RunningServer::start(tier, slowed.contains(&tier)).await;
            servers.push((tier, started.map_err(|error| error.during(format_args!("stack {}", spec.name)))?));
        }
        Ok(Self(servers))
    }

    /// The server of a tier, if the run has started it.
    pub(crate) fn of(&self, tier: &str) -> Option<&RunningServer> {
        self.0.iter().find(|(name, _)| *name == tier).map(|(_, server)| server)
    }

    /// The URL or path of a tier.
    pub(crate) fn address(&self, tier: &str) -> Result<String> {
        let missing = || Failure::new(format_args!("no server was started for {tier}"));
        self.of(tier).map(RunningServer::address).ok_or_else(missing)
    }

    /// Empties what is left of the last row.
    pub(crate) fn empty(&self) -> Result<()> {
        for (_, server) in &self.0 {
            if let RunningServer::Redis(redis, _) = server {
                redis_admin::flush(redis.port()).map_err(|error| Failure::new(error).during("redis"))?;
            }
        }
        Ok(())
    }

    /// The bytes that each tier's data take, where that can be known.
    pub(crate) fn bytes(&self) -> Vec<(&'static str, u64)> {
        let bytes = |server: &RunningServer| match server {
            RunningServer::Redis(redis, _) => redis_admin::used_memory(redis.port()).ok(),
            RunningServer::Postgres(..) => None,
            RunningServer::Sqlite(folder) => {
                let files = fs::read_dir(folder.path()).ok()?;
                Some(files.filter_map(|file| Some(file.ok()?.metadata().ok()?.len())).sum())
            }
        };
        self.0.iter().filter_map(|(tier, server)| Some((*tier, bytes(server)?))).collect()
    }
}

impl RunningServer {
    async fn start(tier: &str, slowed: bool) -> Result<Self> {
        let proxy = |port| if slowed { Proxy::start(port).map(Some) } else { Ok(None) };
        Ok(match tier {
            "redis" => {
                let redis = Redis::start().await?;
                let proxy = proxy(redis.port())?;
                Self::Redis(redis, proxy)
            }
            "postgres" => {
                let postgres = Postgres::start().await?;
                let proxy = proxy(postgres.port())?;
                Self::Postgres(postgres, proxy)
            }
            _ => Self::Sqlite(tempfile::tempdir().map_err(Failure::new)?),
        })
    }

    fn address(&self) -> String {
        let through = |url: String, port: u16, proxy: &Option<Proxy>| match proxy {
            Some(proxy) => url.replace(&format!(":{port}"), &format!(":{}", proxy.port())),
            None => url,
        };
        match self {
            Self::Redis(redis, proxy) => through(redis.url(), redis.port(), proxy),
            Self::Postgres(postgres, proxy) => through(postgres.url(), postgres.port(), proxy),
            Self::Sqlite(folder) => {
                let path: PathBuf = folder.path().join("bench.sqlite");
                path.to_string_lossy().into_owned()
            }
        }
    }

    /// Kills the server, and starts it again after a while.
    pub(crate) async fn kill(&self, down: Duration) -> Result<()> {
        match self {
            Self::Redis(redis, _) => {
                redis.kill9()?;
                tokio::time::sleep(down).await;
                redis.restart().await?;
            }
            Self::Postgres(postgres, _) => {
                postgres.kill9()?;
                tokio::time::sleep(down).await;
                postgres.restart().await?;
            }
            Self::Sqlite(_) => refuse!("a SQLite file has no server to kill"),
        }
        Ok(())
    }

    /// Stops the server by SIGSTOP, and lets it go on after a while.
    pub(crate) async fn stop(&self, paused: Duration) -> Result<()> {
        match self {
            Self::Redis(redis, _) => {
                redis.pause()?;
                tokio::time::sleep(paused).await;
                redis.resume()?;
            }
            Self::Postgres(postgres, _) => {
                postgres.pause()?;
                tokio::time::sleep(paused).await;
                postgres.resume()?;
            }
            Self::Sqlite(_) => refuse!("a SQLite file has no server to stop"),
        }
        Ok(())
    }

    /// Delays all traffic for a while, in both directions.
    pub(crate) async fn slow(&self, slowed: Duration, by: Duration) -> Result<()> {
        let (Self::Redis(_, Some(proxy)) | Self::Postgres(_, Some(proxy))) = self else {
            refuse!("this tier is reached through no proxy, so that nothing can slow it");
        };
        proxy.delay(by);
        tokio::time::sleep(slowed).await;
        proxy.delay(Duration::ZERO);
        proxy.stall(Stall::Nothing);
        Ok(())
    }

    /// Drops all that the tier holds.
    pub(crate) fn clear(&self) -> Result<()> {
        match self {
            Self::Redis(redis, _) => redis_admin::flush(redis.port()).map_err(Failure::new),
            Self::Postgres(..) | Self::Sqlite(_) => refuse!("only a private Redis can be emptied"),
        }
    }
}
