//! Write-behind: a page view costs a write to memory and one sync of the disk, and the store gets the newest
//! count of each page. SIGTERM ends the program within a bound, and loses nothing.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin visit_counter
//! cargo run --release -p terrace-cookbook --bin visit_counter -- serve   # until SIGTERM or Ctrl-C
//! ```

use std::{path::Path, time::Duration};

use terrace::{
    Cache, ErrorKind, Memory, Result, Sqlite, WriteBehind,
    write_behind::{Backlog, WhenFull},
};

/// A platform that sends SIGTERM sends SIGKILL some 30 s later.
const GRACE: Duration = Duration::from_secs(25);

fn open(folder: &Path, database: &Sqlite) -> Result<Cache<String, u64>> {
    let cap = Backlog::bytes(16 << 20).when_full(WhenFull::Reject);
    Cache::builder("visits")
        .near(Memory::entries(10_000))
        .store(database.clone())
        .write(WriteBehind::file(folder.join("journal")).delay(Duration::from_millis(200)).cap(cap))
        .build()
}

/// Counts one visit, and tries again if another visit of the page came in between.
async fn visit(visits: &Cache<String, u64>, page: &str) -> Result<u64> {
    for _ in 0..100 {
        match visits.get(page).await? {
            Some(seen) if visits.replace(page, seen.served().version, *seen + 1).await? => {
                return Ok(*seen + 1);
            }
            None if visits.put_if_absent(page, 1).await? => return Ok(1),
            _ => tokio::task::yield_now().await,
        }
    }
    Err(terrace::Error::new(ErrorKind::Busy, "other visits were faster a hundred times"))
}

/// Ends with SIGTERM, and with Ctrl-C where there is no SIGTERM.
async fn told_to_end() {
    #[cfg(unix)]
    if let Ok(mut terminated) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = tokio::signal::ctrl_c() => {}
        }
        return;
    }
    let _ = tokio::signal::ctrl_c().await;
}

#[tokio::main]
async fn main() -> Result<()> {
    let folder = std::env::temp_dir().join(format!("terrace-visits-{}", std::process::id()));
    std::fs::create_dir_all(&folder).map_err(terrace::Error::load)?;
    let database = Sqlite::file(folder.join("visits.db"))?;
    let visits = open(&folder, &database)?;
    visits.ready().await?;
    for number in 0..300 {
        visit(&visits, if number % 3 == 0 { "/" } else { "/docs" }).await?;
    }
    println!("counted at once: {:?} and {:?}", count(&visits, "/").await?, count(&visits, "/docs").await?);
    if std::env::args().nth(1).as_deref() == Some("serve") {
        println!("counting until SIGTERM");
        told_to_end().await;
    }
    let left = visits.close_within(GRACE).await;
    println!("at the end {} writes are not in the store", left.keys);
    if left.keys > 0 {
        println!("the journal in {} has them for the next start", folder.display());
        return Ok(());
    }
    let again = open(&folder, &database)?;
    println!("after a restart: {:?} and {:?}", count(&again, "/").await?, count(&again, "/docs").await?);
    again.close().await;
    let _absent = std::fs::remove_dir_all(folder);
    Ok(())
}

async fn count(visits: &Cache<String, u64>, page: &str) -> Result<u64> {
    Ok(visits.get(page).await?.map_or(0, |count| *count))
}
