//! The background task that keeps a handle connected, and the state that it publishes.

use std::{
    pin::pin,
    sync::{Arc, Weak},
    time::Duration,
};

use terrace_tier::{Error, ErrorKind, Result};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{
    Connection,
    connect::{connect, connect_timeout},
    dialer::{Dialer, another_master},
    facts::silent,
    greeting::DIAGNOSIS,
    shared::{SharedConnection, State},
};
use crate::error::{Effect, NAME, REACH, error};

/// The time in which a connection must answer after a caller gave up waiting.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// The time in which it must answer while nobody complains: the server may be busy, or this process.
const QUIET_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a late answer is waited for: where this process was held up, it has arrived and is not read yet.
const GRACE: Duration = Duration::from_millis(100);
/// The shortest time between two probes, so that many cancelled calls cost little.
const PROBE_PAUSE: Duration = Duration::from_millis(100);
/// How often the server is asked for its role. A demoted server answers reads, so that nothing else shows that
/// another one has taken its place.
const ROLE_CHECK: Duration = Duration::from_millis(500);
/// How often the sentinels are asked whether they name another server.
const SENTINEL_CHECK: Duration = Duration::from_secs(5);
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_LONGEST: Duration = Duration::from_millis(500);
/// A refused login or certificate rarely succeeds a second later, and the server logs each attempt.
const BACKOFF_REFUSED: Duration = Duration::from_secs(5);
/// A connection that ends sooner counts as a failed attempt.
const SHORT_LIFE: Duration = Duration::from_secs(2);

impl SharedConnection {
    /// Waits for a connection, at most as long as one attempt may take.
    pub(super) async fn wait_connected(self: &Arc<Self>) -> Result<()> {
        self.start_supervisor();
        let mut changes = self.state.subscribe();
        let is_settled = |state: &State| match state {
            State::Starting => false,
            State::Connected(_) => true,
            State::Disconnected(why) => !why.is_transient(),
        };
        // The end of an attempt may wait until it is known why the server cannot be used.
        let limit = self.dialer.connect_timeout + DIAGNOSIS;
        let _settled = timeout(limit, changes.wait_for(is_settled)).await;
        self.current().unwrap_or_else(|| Err(connect_timeout(self.dialer.connect_timeout))).map(drop)
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
        self.current().unwrap_or_else(|| Err(connect_timeout(self.dialer.connect_timeout)))
    }

    /// The current connection, or the error of the last attempt; `None` before the first has ended.
    pub(super) fn current(&self) -> Option<Result<Connection>> {
        match &*self.state.borrow() {
            State::Starting => None,
            State::Connected(connection) => Some(Ok(connection.clone())),
            State::Disconnected(why) => {
                let error = error(why.kind(), "not connected").with_cure(REACH).with_source(why.clone());
                Some(Err(match why.finding() {
                    Some(finding) => error.with_finding(finding.clone()),
                    None => error,
                }))
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
        lost.link.signals.broken.notify_one();
    }

    /// Starts the supervisor if none runs: at first use, or after the end of its runtime.
    pub(super) fn start_supervisor(self: &Arc<Self>) {
        let mut supervisor = self.supervisor.lock();
        if supervisor.as_ref().is_none_or(JoinHandle::is_finished) {
            *supervisor = Some(tokio::spawn(supervise(Arc::downgrade(self))));
        }
    }
}

/// Keeps the connection of a runtime until it is dropped.
async fn supervise(weak: Weak<SharedConnection>) {
    let mut failures = 0;
    loop {
        let Some(shared) = weak.upgrade() else { return };
        let attempt = connect(Arc::clone(&shared.dialer));
        drop(shared);
        let outcome = attempt.await;
        let Some(shared) = weak.upgrade() else { return };
        let why = match outcome {
            Ok(connection) => {
                let connected_at = Instant::now();
                let (cache, run_id) = (shared.namespaces.names(), connection.link.facts.run_id.as_deref());
                tracing::debug!(%cache, tier = NAME, run_id, "connected to redis");
                connection.link.facts.findings().iter().for_each(|finding| shared.watchers.tell(finding));
                shared.set_connected(connection.clone());
                let dialer = Arc::clone(&shared.dialer);
                drop(shared);
                let why = watch(&connection, &dialer).await;
                let Some(shared) = weak.upgrade() else { return };
                let cache = shared.namespaces.names();
                tracing::debug!(%cache, tier = NAME, error = %why, "lost the connection to redis");
                shared.set_disconnected(&connection, why.clone());
                if connected_at.elapsed() >= SHORT_LIFE {
                    failures = 0;
                    shared.watchers.tell_error(&why);
                    continue;
                }
                why
            }
            Err(why) => {
                shared.state.send_replace(State::Disconnected(why.clone()));
                drop(shared);
                why
            }
        };
        if let Some(shared) = weak.upgrade() {
            shared.watchers.tell_error(&why);
        }
        let pause = backoff(failures, why.kind());
        failures = failures.saturating_add(1);
        sleep(pause).await;
    }
}

/// Returns the reason when the connection is to end.
async fn watch(connection: &Connection, dialer: &Dialer) -> Error {
    tokio::select! {
        why = watch_server(connection) => why,
        why = watch_sentinels(connection, dialer) => why,
    }
}

/// Returns the reason when the connection breaks, a probe of it fails, or the server is not the primary.
async fn watch_server(connection: &Connection) -> Error {
    let signals = &connection.link.signals;
    loop {
        let quiet = async {
            sleep(ROLE_CHECK).await;
            check_role(connection, QUIET_TIMEOUT).await
        };
        let checked = tokio::select! {
            () = signals.broken.notified() => {
                let why = signals.why.lock().clone();
                return why.unwrap_or_else(|| error(ErrorKind::Unavailable, "the connection broke"));
            }
            () = signals.suspect.notified() => {
                let checked = check_role(connection, PROBE_TIMEOUT).await;
                if checked.is_ok() {
                    sleep(PROBE_PAUSE).await;
                }
                checked
            }
            checked = quiet => checked,
        };
        if let Err(why) = checked {
            return why;
        }
    }
}

/// Returns when the sentinels name another server; never, if there are none.
async fn watch_sentinels(connection: &Connection, dialer: &Dialer) -> Error {
    let Some(master) = &connection.link.master else { return std::future::pending().await };
    loop {
        sleep(SENTINEL_CHECK).await;
        // Sentinels that do not answer are no reason to leave a server that does.
        let named = dialer.master(Instant::now() + dialer.connect_timeout).await;
        if let Ok(Some(named)) = named
            && named != *master
        {
            return another_master();
        }
    }
}

/// Asks for the role, which also shows whether the server answers.
async fn check_role(connection: &Connection, patience: Duration) -> Result<()> {
    let check = connection.link.facts.role_check;
    let (mut clone, command) = (connection.clone(), check.command());
    let mut sent = pin!(clone.send(&command));
    let reply = match timeout(patience, &mut sent).await {
        Ok(reply) => reply,
        Err(_) => timeout(GRACE, sent).await.map_err(|_| silent())?,
    };
    let reply = reply.map_err(|cause| connection.error(&cause, Effect::Read))?;
    let refusal = connection.link.refusal().or_else(|| check.refusal(&reply));
    refusal.map_or(Ok(()), Err)
}

/// The pause after `failures` failed attempts, the last of which failed with `kind`.
pub(crate) fn backoff(failures: u32, kind: ErrorKind) -> Duration {
    if matches!(kind, ErrorKind::Denied | ErrorKind::Config | ErrorKind::Unsupported) {
        return BACKOFF_REFUSED;
    }
    let longest = BACKOFF_FIRST.saturating_mul(2u32.saturating_pow(failures)).min(BACKOFF_LONGEST);
    // Half of the pause is random, so that many processes do not connect at the same time.
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}
