//! A worker: a process of its own with a whole cache, whose callers make random calls until the driver
//! tells them to stop. Each line of what they saw is sent to the driver at once.

mod caches;
mod client;
mod writes;

use std::{
    io::{self, BufRead, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde::{Deserialize, Serialize};
use tokio::runtime::{Builder, Runtime};

use super::{
    plan::{LeftOut, Plan},
    record::Line,
};
use client::Client;

/// The argument that makes this program a worker; its [`Place`] follows.
pub(crate) const ARGUMENT: &str = "worker-of-a-round";

/// What the driver says once the faults are over.
pub(super) const QUIET: &str = "quiet";
/// What the driver says once the servers had time to recover: read every key, and end.
pub(super) const FINISH: &str = "finish";

/// Which worker of the round this is, and what it is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Place {
    pub(crate) plan: Plan,
    /// The number of the process; no two processes of a round have the same.
    pub(crate) process: u32,
    /// The URLs, by way of the proxies.
    pub(crate) redis: Option<String>,
    pub(crate) postgres: String,
}

/// Runs a worker to its end.
pub(crate) fn run(place: &str) -> Result<(), String> {
    end_with_the_driver()?;
    let place: Place = serde_json::from_str(place).map_err(|error| error.to_string())?;
    let runtime = runtime(&place).map_err(|error| error.to_string())?;
    let work = || runtime.block_on(work(place.clone()));
    match place.plan.left_out {
        Some(LeftOut::WriteOrder) => without_write_order(work),
        Some(LeftOut::Fences | LeftOut::Lives) | None => work(),
    }
}

#[cfg(terrace_simulation)]
fn without_write_order(work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    terrace_tier::defence::without(terrace_tier::defence::Defence::WriteOrder, work)
}

#[cfg(not(terrace_simulation))]
fn without_write_order(_work: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    Err("a build without `--cfg terrace_simulation` cannot leave a defence of the cache out".to_owned())
}

/// A stopped worker must not outlive its driver either.
fn end_with_the_driver() -> Result<(), String> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Signal, set_parent_process_death_signal};
        set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

fn runtime(place: &Place) -> io::Result<Runtime> {
    match place.plan.threads {
        true => Builder::new_multi_thread().worker_threads(2).enable_all().build(),
        false => Builder::new_current_thread().enable_all().build(),
    }
}

async fn work(place: Place) -> Result<(), String> {
    let process = place.process;
    let client = Arc::new(Client::new(&place).map_err(|error| error.to_string())?);
    let quiet = Arc::new(AtomicBool::new(false));
    let (finish, mut finished) = tokio::sync::mpsc::channel(1);
    hear_the_driver(Arc::clone(&quiet), finish);
    // The first workers begin together; a worker that begins later may find its servers away.
    let _away = client.ready().await;
    say(&Line::Ready { process });
    let callers = (0..place.plan.callers as u64).map(|caller| {
        let seed = place.plan.seed.wrapping_mul(1_000).wrapping_add(u64::from(process) * 100 + caller);
        tokio::spawn(Arc::clone(&client).call(caller, fastrand::Rng::with_seed(seed), Arc::clone(&quiet)))
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.map_err(|error| error.to_string())?;
    }
    finished.recv().await;
    client.read_all().await;
    say(&Line::Done { process });
    Ok(())
}

/// Listens on a thread of its own, and ends the process where the driver has gone.
fn hear_the_driver(quiet: Arc<AtomicBool>, finish: tokio::sync::mpsc::Sender<()>) {
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines() {
            match line.as_deref() {
                Ok(QUIET) => quiet.store(true, Ordering::Relaxed),
                Ok(FINISH) => _ = finish.blocking_send(()),
                _ => break,
            }
        }
        std::process::exit(0);
    });
}

/// Sends a line to the driver in one write, so that a kill leaves whole lines.
fn say(line: &Line) {
    let mut text = serde_json::to_string(line).unwrap_or_default();
    text.push('\n');
    // Where the driver has gone, this process ends with it.
    let _gone = io::stdout().lock().write_all(text.as_bytes());
}
