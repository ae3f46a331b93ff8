//! The connection on which a process receives the notifications about the leases that it waits for.
//! Polling finds the changes whose notifications it misses.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use redis::RedisError;
use terrace_tier::{
    Error, ErrorKind, Finding, FindingTopic, Result, Token,
    lease::{LeaseBackend, LeaseEnd, LeaseNotifier},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};

use super::{ConnectionManager, connect::connect_pubsub};
use crate::{
    error::{Effect, NAME, client_error, error, server_error},
    findings::slows,
};

/// The longest time for one command on the connection.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The pause between two attempts. Polling goes on meanwhile.
const RETRY: Duration = Duration::from_secs(1);
/// The longest pause between two attempts, after many have failed.
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// How often the listener looks whether the process still uses the server that it listens to.
const CHECK: Duration = Duration::from_millis(500);
/// The silence after which the connection is probed, and closed if the process waits for no lease.
const PROBE: Duration = Duration::from_secs(5);

/// Subscribes to the channel of a process while the process waits for leases, and a little longer.
pub(crate) struct Listener<L: LeaseBackend> {
    manager: Weak<ConnectionManager>,
    channel: String,
    notifier: LeaseNotifier<L>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl<L: LeaseBackend> Listener<L> {
    pub(crate) fn new(manager: &Arc<ConnectionManager>, channel: String, notifier: LeaseNotifier<L>) -> Self {
        Self { manager: Arc::downgrade(manager), channel, notifier, task: Mutex::new(None) }
    }

    /// The channel of this process.
    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// Starts the task, unless it runs.
    pub(crate) fn start(&self) {
        let mut task = self.task.lock();
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            let (manager, channel) = (self.manager.clone(), self.channel.clone());
            *task = Some(tokio::spawn(listen(manager, channel, self.notifier.clone())));
        }
    }
}

impl<L: LeaseBackend> Drop for Listener<L> {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut() {
            task.abort();
        }
    }
}

async fn listen<L: LeaseBackend>(
    manager: Weak<ConnectionManager>,
    channel: String,
    notifier: LeaseNotifier<L>,
) {
    let mut failures = 0;
    while notifier.has_waiters() {
        let started = Instant::now();
        let Err(error) = receive(&manager, &channel, &notifier).await else { continue };
        if let Some(manager) = manager.upgrade() {
            let cache = manager.namespaces.names();
            tracing::debug!(%cache, tier = NAME, %error, "no lease notifications are received; leases are polled");
            if !error.is_transient() {
                manager.watchers.tell(&unheard(&error));
            }
        }
        failures = if started.elapsed() > PROBE { 0 } else { failures + 1 };
        sleep(retry(failures, error.kind())).await;
    }
}

/// The pause after `failures` failed attempts. What the server refuses, it refuses again.
fn retry(failures: u32, kind: ErrorKind) -> Duration {
    let first = if kind == ErrorKind::Unavailable { RETRY } else { 5 * RETRY };
    first.saturating_mul(2u32.saturating_pow(failures.saturating_sub(1))).min(RETRY_LONGEST)
}

/// Receives notifications until the process waits for no lease.
async fn receive<L: LeaseBackend>(
    weak: &Weak<ConnectionManager>,
    channel: &str,
    notifier: &LeaseNotifier<L>,
) -> Result<()> {
    let Some(manager) = weak.upgrade() else { return Ok(()) };
    let (number, secrets) = (manager.connection_number(), manager.dialer.secrets.clone());
    let failed = |cause: &RedisError| client_error(cause, Effect::Read, &secrets);
    let dialer = Arc::clone(&manager.dialer);
    drop(manager);
    let (mut sink, mut messages) = connect_pubsub(&dialer).await?.split();
    in_time(sink.subscribe(channel)).await?.map_err(|cause| failed(&cause))?;
    // This process missed the notifications that were sent before it subscribed.
    notifier.poll_all();
    let mut heard_at = Instant::now();
    loop {
        match timeout(CHECK, messages.next()).await {
            Ok(Some(message)) => {
                heard_at = Instant::now();
                if let Some((token, end)) = parse(message.get_payload_bytes()) {
                    notifier.notify(token, end);
                }
            }
            Ok(None) => return Err(disconnected()),
            Err(_) => {
                // A process that has connected again may use another server now.
                let Some(manager) = weak.upgrade() else { return Ok(()) };
                if manager.connection_number() != number {
                    return Err(disconnected());
                }
            }
        }
        if heard_at.elapsed() >= PROBE {
            if !notifier.has_waiters() {
                return Ok(());
            }
            heard_at = Instant::now();
            in_time(sink.subscribe(channel)).await?.map_err(|cause| failed(&cause))?;
        }
    }
}

/// Tries whether this process hears what is published to `channel`.
///
/// # Errors
/// Why it hears nothing.
pub(crate) async fn hears(manager: &Arc<ConnectionManager>, channel: &str) -> Result<()> {
    let failed = |cause: &RedisError| client_error(cause, Effect::Read, &manager.dialer.secrets);
    let (mut sink, mut messages) = connect_pubsub(&manager.dialer).await?.split();
    in_time(sink.subscribe(channel)).await?.map_err(|cause| failed(&cause))?;
    let mut publish = redis::cmd("PUBLISH");
    publish.arg(channel).arg("");
    if let redis::Value::ServerError(answer) = in_time(manager.send(&publish, Effect::Read)).await?? {
        return Err(server_error(&answer));
    }
    match in_time(messages.next()).await? {
        Some(_) => Ok(()),
        None => Err(disconnected()),
    }
}

/// The finding of a process that hears no notifications about leases.
pub(crate) fn unheard(why: &Error) -> Finding {
    slows(FindingTopic::Leases, "the ends of other processes' loads are not heard, and are polled", why)
}

/// Reads a notification: one letter for the end of the lease, then the token.
fn parse(message: &[u8]) -> Option<(Token, LeaseEnd)> {
    let (letter, token) = message.split_first()?;
    let token = Token::from_u64(u64::from_be_bytes(token.try_into().ok()?));
    match letter {
        b'C' => Some((token, LeaseEnd::Changed)),
        b'F' => Some((token, LeaseEnd::Free)),
        _ => None,
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> Result<T> {
    timeout(TIMEOUT, work).await.map_err(|_| disconnected())
}

fn disconnected() -> Error {
    error(ErrorKind::Unavailable, "the connection is closed or does not answer")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_letter_and_a_token() {
        assert_eq!(parse(b"C\0\0\0\0\0\0\0\x07"), Some((Token::from_u64(7), LeaseEnd::Changed)));
        assert_eq!(parse(b"F\0\0\0\0\0\0\0\x07"), Some((Token::from_u64(7), LeaseEnd::Free)));
        for foreign in [&b""[..], b"C", b"C1234567", b"X\0\0\0\0\0\0\0\x07", b"C123456789"] {
            assert_eq!(parse(foreign), None);
        }
    }
}
