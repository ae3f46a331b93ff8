//! The background task that keeps a handle connected, and the state that it publishes.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use terrace_tier::{Error, ErrorKind, Result};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

use super::{
    Connection, ConnectionManager, State,
    connect::{connect, connect_timeout},
};
use crate::error::{Effect, client_error, error};

/// The time in which a suspect connection must answer a PING.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// The shortest time between two probes, so that many cancelled calls cost little.
const PROBE_PAUSE: Duration = Duration::from_millis(100);
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_LONGEST: Duration = Duration::from_millis(500);
/// A refused login rarely succeeds a second later, and the server logs each attempt.
const BACKOFF_DENIED: Duration = Duration::from_secs(5);

impl ConnectionManager {
    /// Waits for a connection, at most as long as one attempt may take.
    pub(crate) async fn wait_connected(self: &Arc<Self>) -> Result<()> {
        self.start_supervisor();
        let mut changes = self.state.subscribe();
        let connected = changes.wait_for(|state| matches!(state, State::Connected(_)));
        match timeout(self.connect_timeout, connected).await {
            Ok(_) => Ok(()),
            Err(_) => self.current().unwrap_or_else(|| Err(connect_timeout(self.connect_timeout))).map(drop),
        }
    }

    /// The current connection. Waits for the end of the first attempt, but not for later ones.
    pub(super) async fn current_after_first_attempt(self: &Arc<Self>) -> Result<Connection> {
        if let Some(current) = self.current() {
            if current.is_err() {
                self.start_supervisor();
            }
            return current;
        }
        self.start_supervisor();
        let mut changes = self.state.subscribe();
        let _attempted = changes.wait_for(|state| !matches!(state, State::Starting)).await;
        self.current().unwrap_or_else(|| Err(connect_timeout(self.connect_timeout)))
    }

    /// The current connection, or the error of the last attempt; `None` before the first has ended.
    fn current(&self) -> Option<Result<Connection>> {
        match &*self.state.borrow() {
            State::Starting => None,
            State::Connected(connection) => Some(Ok(connection.clone())),
            State::Disconnected(why) => {
                Some(Err(error(why.kind(), "not connected").with_source(why.clone())))
            }
        }
    }

    fn set_connected(&self, connection: Connection) {
        self.idle.open(connection.number);
        self.state.send_replace(State::Connected(connection));
    }

    /// Ends the use of `lost`, unless another connection has replaced it.
    pub(super) fn set_disconnected(&self, lost: &Connection, why: Error) {
        let was_current = self.state.send_if_modified(|state| match state {
            State::Connected(connection) if connection.number == lost.number => {
                *state = State::Disconnected(why);
                true
            }
            _ => false,
        });
        if was_current {
            self.idle.close();
        }
        lost.signals.broken.notify_one();
    }

    /// Starts the supervisor if none runs: at first use, or after the end of its runtime.
    pub(super) fn start_supervisor(self: &Arc<Self>) {
        let mut supervisor = self.supervisor.lock();
        if supervisor.as_ref().is_none_or(JoinHandle::is_finished) {
            *supervisor = Some(tokio::spawn(supervise(Arc::downgrade(self))));
        }
    }
}

/// Keeps the manager connected until it is dropped.
async fn supervise(weak: Weak<ConnectionManager>) {
    let mut failures = 0;
    loop {
        let Some(manager) = weak.upgrade() else { return };
        let attempt = connect(manager.client.clone(), manager.connect_timeout);
        drop(manager);
        let outcome = attempt.await;
        let Some(manager) = weak.upgrade() else { return };
        match outcome {
            Ok(connection) => {
                failures = 0;
                tracing::debug!(run_id = connection.run_id.as_deref(), "connected to redis");
                manager.set_connected(connection.clone());
                drop(manager);
                let why = watch(&connection).await;
                tracing::debug!(error = %why, "lost the connection to redis");
                let Some(manager) = weak.upgrade() else { return };
                manager.set_disconnected(&connection, why);
            }
            Err(why) => {
                let pause = backoff(failures, why.kind());
                failures = failures.saturating_add(1);
                manager.state.send_replace(State::Disconnected(why));
                drop(manager);
                sleep(pause).await;
            }
        }
    }
}

/// Returns the reason when the connection breaks or a probe of it fails.
async fn watch(connection: &Connection) -> Error {
    loop {
        tokio::select! {
            () = connection.signals.broken.notified() => {
                return error(ErrorKind::Unavailable, "the connection broke");
            }
            () = connection.signals.suspect.notified() => {
                let mut socket = connection.socket.clone();
                match timeout(PROBE_TIMEOUT, socket.send_packed_command(&redis::cmd("PING"))).await {
                    Ok(Ok(_)) => sleep(PROBE_PAUSE).await,
                    Ok(Err(cause)) => return client_error(cause, Effect::Read),
                    Err(_) => return error(ErrorKind::Unavailable, "the server stopped answering"),
                }
            }
        }
    }
}

/// The pause after `failures` failed attempts, the last of which failed with `kind`.
pub(crate) fn backoff(failures: u32, kind: ErrorKind) -> Duration {
    if kind == ErrorKind::Denied {
        return BACKOFF_DENIED;
    }
    let longest = BACKOFF_FIRST.saturating_mul(2u32.saturating_pow(failures)).min(BACKOFF_LONGEST);
    // Half of the pause is random, so that many processes do not connect at the same time.
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}
