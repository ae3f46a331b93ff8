//! The child process, which writes growing values at a steady pace.

use std::time::Duration;

use sqlx::PgPool;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep_until},
};

use super::{
    KEYS, micros,
    stack::{Address, Origin, Stack},
};
use crate::{Error, Result};

/// What the child writes with.
#[derive(Clone)]
enum Writer {
    Cache(Stack),
    Table(PgPool),
}

impl Writer {
    async fn write(&self, key: u64, value: u64) -> Result<()> {
        let (key, value) = (key.cast_signed(), value.cast_signed());
        match self {
            Self::Cache(cache) => cache.put(&key, value).await.map(drop)?,
            Self::Table(pool) => {
                let update = sqlx::query("UPDATE watched SET value = $2 WHERE id = $1");
                update.bind(key).bind(value).execute(pool).await.map(drop)?;
            }
        }
        Ok(())
    }
}

/// Runs the child process. The task of each key writes at moments of its own, so that the writes are
/// spread evenly.
///
/// # Errors
/// Errors of the servers, and arguments that no parent passes.
pub async fn write(arguments: &[String]) -> Result<()> {
    let (address, writes) = arguments.split_at_checked(4).ok_or("the address is missing")?;
    let address = Address::parse(address).ok_or("the address is unknown")?;
    let each = writes.first().ok_or("the number of writes is missing")?.parse::<u64>()? / KEYS;
    let writer = match address.scenario.origin {
        Origin::Table => Writer::Table(address.pool().await?),
        _ => Writer::Cache(address.stack().await?),
    };
    // The first write makes connections and statements, which must not be measured.
    writer.write(0, 0).await?;
    let apart = Duration::from_secs(KEYS) / address.scenario.per_second as u32;
    let start = Instant::now() + Duration::from_millis(100);
    let mut tasks = JoinSet::new();
    for key in 0..KEYS {
        let writer = writer.clone();
        tasks.spawn(async move {
            let mut written = Vec::new();
            for value in 1..=each {
                sleep_until(start + apart * (value as u32 - 1) + apart * key as u32 / KEYS as u32).await;
                writer.write(key, value).await?;
                written.push((key, value, micros()));
            }
            Ok::<_, Error>(written)
        });
    }
    // Printed at the end: printing between writes would be measured too.
    while let Some(task) = tasks.join_next().await {
        for (key, value, at) in task?? {
            println!("{key} {value} {at}");
        }
    }
    println!("done");
    Ok(())
}
