//! `postgres-put` and `postgres-get`: single records in a Postgres.

use terrace_testbed::{Postgres, unique_name};

use super::filled;
use crate::{
    Result,
    measure::{
        callers::{Callers, medians, throughputs},
        effort::Effort,
    },
    peers::{sqlx, terrace, tokio_postgres},
    report::table::Table,
    work::remote::RemoteOp,
};

/// How many puts of one writer a turn has.
const TURN: usize = 100;

/// Measures `postgres-put`.
pub(super) async fn put(effort: Effort) -> Result<Table> {
    let server = Postgres::start().await?;
    let mut sides = sides(&server.create_database().await?, RemoteOp::Put).await?;
    let title = "Writes of one of 10,000 records, eight connections for each side, without a near tier. The server \
                 does not wait for its disk. Of one writer the median in microseconds, less is better; of 64 writers \
                 thousands a second, more is better.";
    let mut table = Table::new("postgres-put", title, &sides);
    table.servers.push(server.version().await?);
    let figures = medians(&mut sides, TURN, effort).await;
    table.paired("1 writer, us", &sides, &figures);
    let figures = throughputs(&mut sides, 64, effort).await;
    table.paired("64 writers, k/s", &sides, &figures);
    Ok(table)
}

/// Measures `postgres-get`.
pub(super) async fn get(effort: Effort) -> Result<Table> {
    let server = Postgres::start().await?;
    let mut sides = sides(&server.create_database().await?, RemoteOp::Get).await?;
    let title = "Reads of one of 10,000 records, eight connections for each side, without a near tier. Thousands a \
                 second, more is better.";
    let mut table = Table::new("postgres-get", title, &sides);
    table.servers.push(server.version().await?);
    for count in [64, 256] {
        let figures = throughputs(&mut sides, count, effort).await;
        table.paired(format!("{count} at once, k/s"), &sides, &figures);
    }
    Ok(table)
}

async fn sides(url: &str, op: RemoteOp) -> Result<Vec<Callers>> {
    let pool = sqlx::pool(url).await?;
    sqlx::make_table(&pool).await?;
    let store = terrace::store(sqlx::pool(url).await?, unique_name("peers")).await;
    Ok(vec![
        filled(&sqlx::PEER, "one prepared statement a key", op, sqlx::Raw::connect(url).await).await,
        filled(&tokio_postgres::PEER, "pipelined", op, tokio_postgres::Pipelined::connect(url).await).await,
        filled(&terrace::PEER, "a store", op, store).await,
    ])
}
