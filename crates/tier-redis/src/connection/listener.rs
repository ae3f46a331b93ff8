//! The connection on which a process receives the notifications about the leases that it waits for.
//! Polling finds the changes whose notifications it misses.

use std::time::Duration;

use futures_util::StreamExt;
use parking_lot::Mutex;
use redis::Client;
use terrace_tier::{
    Token,
    lease::{LeaseBackend, LeaseEnd, LeaseNotifier},
};
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

/// The longest time for one attempt to connect, and for one command on the connection.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The pause between two attempts. Polling goes on meanwhile.
const RETRY: Duration = Duration::from_secs(1);
/// The silence after which the connection is probed, and closed if the process waits for no lease.
const PROBE: Duration = Duration::from_secs(5);

/// Subscribes to the channel of a process while the process waits for leases, and a little longer.
pub(crate) struct Listener<L: LeaseBackend> {
    client: Client,
    channel: String,
    notifier: LeaseNotifier<L>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl<L: LeaseBackend> Listener<L> {
    pub(crate) fn new(client: Client, channel: String, notifier: LeaseNotifier<L>) -> Self {
        Self { client, channel, notifier, task: Mutex::new(None) }
    }

    /// The channel of this process.
    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// Starts the task, unless it runs.
    pub(crate) fn start(&self) {
        let mut task = self.task.lock();
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            let (client, channel) = (self.client.clone(), self.channel.clone());
            *task = Some(tokio::spawn(listen(client, channel, self.notifier.clone())));
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

async fn listen<L: LeaseBackend>(client: Client, channel: String, notifier: LeaseNotifier<L>) {
    while notifier.has_waiters() {
        if let Err(error) = receive(&client, &channel, &notifier).await {
            tracing::debug!(%error, "no lease notifications are received; leases are polled");
            sleep(RETRY).await;
        }
    }
}

/// Receives notifications until the process waits for no lease.
async fn receive<L: LeaseBackend>(
    client: &Client,
    channel: &str,
    notifier: &LeaseNotifier<L>,
) -> Result<(), redis::RedisError> {
    let (mut sink, mut messages) = in_time(client.get_async_pubsub()).await?.split();
    in_time(sink.subscribe(channel)).await?;
    // This process missed the notifications that were sent before it subscribed.
    notifier.poll_all();
    loop {
        match timeout(PROBE, messages.next()).await {
            Ok(Some(message)) => {
                if let Some((token, end)) = parse(message.get_payload_bytes()) {
                    notifier.notify(token, end);
                }
            }
            Ok(None) => return Err(disconnected()),
            Err(_) if notifier.has_waiters() => in_time(sink.subscribe(channel)).await?,
            Err(_) => return Ok(()),
        }
    }
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

async fn in_time<T>(
    work: impl Future<Output = Result<T, redis::RedisError>>,
) -> Result<T, redis::RedisError> {
    timeout(TIMEOUT, work).await.unwrap_or_else(|_| Err(disconnected()))
}

fn disconnected() -> redis::RedisError {
    (redis::ErrorKind::Io, "the connection is closed or does not answer").into()
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
