//! What ends a run early: the user, or the end of its time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::failure::{Failure, Result};

/// Shared by all parts of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Control(Arc<State>);

#[derive(Debug, Default)]
struct State {
    interrupted: AtomicBool,
    /// The requests that were answered in the present row.
    done: AtomicU64,
    /// The slowest answer since it was last asked for, in nanoseconds.
    slowest: AtomicU64,
}

impl Control {
    /// Begins to listen for Ctrl-C and for SIGTERM, on a thread of its own: callers that never wait keep all
    /// threads of the runtime busy. A second signal ends the program at once.
    ///
    /// # Errors
    /// No thread, or no handler of signals.
    pub(crate) fn listen(&self) -> Result<()> {
        let control = self.clone();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Failure::new)?;
        let listen = move || {
            runtime.block_on(async {
                wait_for_signal().await;
                eprintln!("\ninterrupted: what was measured so far is written. Ctrl-C again ends at once.");
                control.0.interrupted.store(true, Ordering::Release);
                wait_for_signal().await;
                std::process::exit(130);
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen).map_err(Failure::new)?;
        Ok(())
    }

    /// Whether the user has ended the run.
    pub(crate) fn is_interrupted(&self) -> bool {
        self.0.interrupted.load(Ordering::Acquire)
    }

    /// Notes answered requests.
    pub(crate) fn answered(&self, requests: u64) {
        self.0.done.fetch_add(requests, Ordering::Relaxed);
    }

    /// The requests that were answered in the present row.
    pub(crate) fn done(&self) -> u64 {
        self.0.done.load(Ordering::Relaxed)
    }

    /// Begins a row.
    pub(crate) fn begin_row(&self) {
        self.0.done.store(0, Ordering::Relaxed);
        self.0.slowest.store(0, Ordering::Relaxed);
    }

    /// Notes how long an answer took.
    pub(crate) fn took(&self, latency: Duration) {
        let nanos = latency.as_nanos() as u64;
        if nanos > self.0.slowest.load(Ordering::Relaxed) {
            self.0.slowest.fetch_max(nanos, Ordering::Relaxed);
        }
    }

    /// The slowest answer since the last call.
    pub(crate) fn take_slowest(&self) -> Duration {
        Duration::from_nanos(self.0.slowest.swap(0, Ordering::Relaxed))
    }
}

async fn wait_for_signal() {
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signal) => drop(signal.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminated => {}
    }
}

/// When a row ends although requests are left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Option<Instant>);

impl Deadline {
    /// The end of this time from now.
    pub(crate) fn after(time: Option<Duration>) -> Self {
        Self(time.and_then(|time| Instant::now().checked_add(time)))
    }

    /// Whether it is over.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_some_and(|end| Instant::now() >= end)
    }
}
