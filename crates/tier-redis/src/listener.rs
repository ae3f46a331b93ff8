//! A connection of its own on which a process hears of the ends of the leases that it waits for.
//! Looks find what it misses.

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

/// A connection, or a word on it, may take so long.
const PATIENCE: Duration = Duration::from_secs(1);
/// Between two attempts; leases are looked at meanwhile.
const RETRY: Duration = Duration::from_secs(1);
/// How often it is tried whether the connection still stands, and whether anybody waits.
const PROBE: Duration = Duration::from_secs(5);

/// Listens while anybody waits, and a little longer.
pub(crate) struct Listener<L: LeaseBackend> {
    client: Client,
    channel: String,
    herald: LeaseNotifier<L>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl<L: LeaseBackend> Listener<L> {
    pub(crate) fn new(client: Client, channel: String, herald: LeaseNotifier<L>) -> Self {
        Self { client, channel, herald, task: Mutex::new(None) }
    }

    /// The channel that announcements are published to.
    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// Starts to listen, if nobody does.
    pub(crate) fn start(&self) {
        let mut task = self.task.lock();
        if task.as_ref().is_none_or(JoinHandle::is_finished) {
            let (client, channel) = (self.client.clone(), self.channel.clone());
            *task = Some(tokio::spawn(listen(client, channel, self.herald.clone())));
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

async fn listen<L: LeaseBackend>(client: Client, channel: String, herald: LeaseNotifier<L>) {
    while herald.has_waiters() {
        if let Err(error) = hear(&client, &channel, &herald).await {
            tracing::debug!(%error, "announcements are not heard; leases are looked at");
            sleep(RETRY).await;
        }
    }
}

/// Hears until nobody waits any more.
async fn hear<L: LeaseBackend>(
    client: &Client,
    channel: &str,
    herald: &LeaseNotifier<L>,
) -> Result<(), redis::RedisError> {
    let (mut sink, mut messages) = in_time(client.get_async_pubsub()).await?.split();
    in_time(sink.subscribe(channel)).await?;
    // What ended before was announced to nobody.
    herald.poll_all();
    loop {
        match timeout(PROBE, messages.next()).await {
            Ok(Some(message)) => {
                if let Some((token, ended)) = announced(message.get_payload_bytes()) {
                    herald.notify(token, ended);
                }
            }
            Ok(None) => return Err(gone()),
            Err(_) if herald.has_waiters() => in_time(sink.subscribe(channel)).await?,
            Err(_) => return Ok(()),
        }
    }
}

/// What an inbox is told: the letter of a sight and a token.
fn announced(message: &[u8]) -> Option<(Token, LeaseEnd)> {
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
    timeout(PATIENCE, work).await.unwrap_or_else(|_| Err(gone()))
}

fn gone() -> redis::RedisError {
    (redis::ErrorKind::Io, "the connection is gone").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_a_letter_and_a_token() {
        assert_eq!(announced(b"C\0\0\0\0\0\0\0\x07"), Some((Token::from_u64(7), LeaseEnd::Changed)));
        assert_eq!(announced(b"F\0\0\0\0\0\0\0\x07"), Some((Token::from_u64(7), LeaseEnd::Free)));
        for foreign in [&b""[..], b"C", b"C1234567", b"X\0\0\0\0\0\0\0\x07", b"C123456789"] {
            assert_eq!(announced(foreign), None);
        }
    }
}
