//! Failovers of Postgres: behind an endpoint that moves, and by two hosts in the URL.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sqlx::{Connection, PgConnection};
use terrace::{Cache, NoNear, Postgres};
use terrace_testbed::{Postgres as Server, Proxy, unique_name};
use tokio::time::sleep;

use super::traffic::{Measured, Target, Traffic};
use crate::Result;

/// How long the callers go on after the promotion.
const AFTER: Duration = Duration::from_secs(4);
const POLL: Duration = Duration::from_millis(20);

/// The old primary refuses writes and goes on answering, the standby is promoted, and the endpoint leads to it.
pub(super) async fn endpoint() -> Result<Measured> {
    let (primary, standby) = pair().await?;
    let endpoint = Proxy::start(primary.port())?;
    let traffic = Traffic::start(target(&[endpoint.port()], &primary)?).await?;
    let mut operator = PgConnection::connect(&primary.superuser_url()).await?;
    primary.read_only(true).await?;
    primary.wait_for(&standby).await?;
    standby.promote().await?;
    traffic.promoted();
    let promoted = SystemTime::now().duration_since(UNIX_EPOCH)?;
    endpoint.lead_to(standby.port());
    let start = Instant::now();
    while start.elapsed() < AFTER {
        if let Some(answered) = last_statement(&mut operator).await?.and_then(|at| at.checked_sub(promoted)) {
            traffic.old_answered(answered);
        }
        sleep(POLL).await;
    }
    traffic.end(Duration::ZERO).await
}

/// The primary is killed and the standby promoted; the URL names both.
pub(super) async fn hosts() -> Result<Measured> {
    let (primary, standby) = pair().await?;
    let traffic = Traffic::start(target(&[primary.port(), standby.port()], &primary)?).await?;
    primary.kill9()?;
    standby.promote().await?;
    traffic.promoted();
    traffic.end(AFTER).await
}

/// A primary and a streaming standby.
async fn pair() -> Result<(Server, Server)> {
    let primary = Server::start().await?;
    let standby = primary.start_standby().await?;
    primary.wait_for(&standby).await?;
    Ok((primary, standby))
}

/// The records of the ordinary role's database, on the servers of these ports.
fn target(ports: &[u16], primary: &Server) -> Result<Target> {
    let hosts: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
    let url = primary.url().replace(&format!("127.0.0.1:{}", primary.port()), &hosts.join(","));
    let postgres = Postgres::new(&url)?;
    let cache = Cache::builder(unique_name("failover")).near(NoNear).store(postgres);
    Ok(Target::Records { cache: cache.build()? })
}

/// When the server began the last statement of the cache's sessions, since 1970. The statements take some 100 us.
async fn last_statement(operator: &mut PgConnection) -> Result<Option<Duration>> {
    let question = "select extract(epoch from max(query_start))::float8 from pg_stat_activity \
                    where usename not in ('postgres') and backend_type = 'client backend'";
    let seconds: Option<f64> = sqlx::query_scalar(question).fetch_one(operator).await?;
    Ok(seconds.map(Duration::from_secs_f64))
}
