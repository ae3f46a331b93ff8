//! One attempt to connect, and the connection that it makes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, PushInfo, PushKind, RedisError, RedisResult, ServerError, Value,
    aio::{MultiplexedConnection, PubSub},
};
use terrace_tier::{Error, ErrorKind, Result, Secrets};
use tokio::{
    sync::Notify,
    task::AbortHandle,
    time::{Instant, timeout_at},
};

use super::{
    address::Host,
    dialer::{Dialed, Dialer},
    facts::{Facts, questions},
};
use crate::{
    error::{Effect, Foreign, client_error, code_of, error, means_another_server},
    findings::finding_error,
};

/// Commands that may queue for the socket's task before their senders have to wait.
const SEND_BUFFER: usize = 1_024;

/// The number of the next connection.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// An open connection. Clones share the same socket.
#[derive(Clone)]
pub(crate) struct Connection {
    /// Distinguishes connections; never zero.
    pub(crate) number: u64,
    pub(super) socket: MultiplexedConnection,
    pub(crate) link: Arc<Link>,
}

/// What the clones of a connection share.
pub(crate) struct Link {
    pub(crate) facts: Facts,
    pub(super) signals: Arc<Signals>,
    pub(crate) secrets: Secrets,
    /// The server that the sentinels named.
    pub(super) master: Option<Host>,
    /// Set once an answer has said that this is not the server for the cache.
    is_refused: AtomicBool,
    _driver: Driver,
}

/// The messages of a connection to its supervisor.
#[derive(Default)]
pub(crate) struct Signals {
    /// The connection has failed.
    pub(super) broken: Notify,
    /// A caller gave up before its reply arrived, so the supervisor should probe the connection.
    pub(super) suspect: Notify,
    /// Why the connection is to end, if the server said so.
    pub(super) why: Mutex<Option<Error>>,
}

/// The task that moves the bytes of a connection. It ends with the last clone of the connection.
pub(super) struct Driver(AbortHandle);

impl Driver {
    pub(super) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work).abort_handle())
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    /// Sends one command and returns its reply, which may be [`Value::ServerError`].
    pub(crate) async fn send(&mut self, command: &Cmd) -> RedisResult<Value> {
        let reply = self.socket.send_packed_command(command).await?;
        Ok(self.link.inspect(reply))
    }

    /// Sends many commands in one round trip and returns their replies in the same order.
    pub(crate) async fn send_many(&mut self, commands: &Pipeline) -> RedisResult<Vec<Value>> {
        let replies = self.socket.send_packed_commands(commands, 0, commands.len()).await?;
        Ok(self.link.inspect_all(replies))
    }

    /// The error for a connection that failed.
    pub(crate) fn error(&self, cause: &RedisError, effect: Effect) -> Error {
        client_error(cause, effect, &self.link.secrets)
    }
}

impl Link {
    /// Looks at a reply: an error of the server may end the connection, and may repeat a password.
    pub(super) fn inspect(&self, reply: Value) -> Value {
        match reply {
            Value::ServerError(answer) => self.inspect_error(answer),
            reply => reply,
        }
    }

    pub(super) fn inspect_all(&self, mut replies: Vec<Value>) -> Vec<Value> {
        for reply in &mut replies {
            if let Value::ServerError(answer) = reply {
                *reply = self.inspect_error(answer.clone());
            }
        }
        replies
    }

    fn inspect_error(&self, answer: ServerError) -> Value {
        if means_another_server(code_of(&answer)) {
            let why = client_error(&answer.clone().into(), Effect::Read, &self.secrets);
            // The calls after this one are not sent at all.
            let why =
                why.finding().cloned().map_or(why, |finding| finding_error(ErrorKind::Unavailable, finding));
            self.signals.why.lock().get_or_insert(why);
            self.is_refused.store(true, Ordering::Release);
            self.signals.broken.notify_one();
        }
        let details = answer.details().unwrap_or_default();
        let clean = Foreign::new(details, &self.secrets).to_string();
        if clean == details {
            return Value::ServerError(answer);
        }
        // The parser takes any line that begins so for an error of the server.
        redis::parse_redis_value(format!("-{} {clean}\r\n", answer.code()).as_bytes()).unwrap_or(Value::Nil)
    }

    /// Why the server is not the one to use, if an answer has said so.
    pub(super) fn refusal(&self) -> Option<Error> {
        let is_refused = self.is_refused.load(Ordering::Acquire);
        is_refused.then(|| self.signals.why.lock().clone()).flatten()
    }
}

/// Connects, logs in, and asks what the server is, all within the dialer's timeout.
///
/// # Errors
/// Where the server cannot be used: [`ErrorKind::Unavailable`] where waiting may help.
pub(super) async fn connect(dialer: Arc<Dialer>) -> Result<Connection> {
    let secrets = dialer.secrets.clone();
    log_in(&dialer, |dialed| open(dialed, secrets.clone())).await?
}

/// Opens a connection that receives the messages of channels.
pub(super) async fn connect_pubsub(dialer: &Dialer) -> Result<PubSub> {
    log_in(dialer, |Dialed { stream, login, .. }| async move { PubSub::new(&login, stream).await }).await
}

/// Dials and logs in by `attempt`: in RESP3, and if the server does not know that, once more in RESP2.
async fn log_in<T, F: Future<Output = RedisResult<T>>>(
    dialer: &Dialer,
    attempt: impl Fn(Dialed) -> F,
) -> Result<T> {
    let deadline = Instant::now() + dialer.connect_timeout;
    let mut is_second = false;
    loop {
        let dialed = dialer.dial(deadline).await?;
        let has_password = dialed.login.password().is_some();
        let outcome = timeout_at(deadline, attempt(dialed)).await;
        match outcome {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(cause)) if dialer.falls_back(&cause, has_password) => is_second = true,
            refused => {
                if is_second {
                    // That was not the reason.
                    dialer.is_resp2.store(false, Ordering::Relaxed);
                }
                return Err(match refused {
                    Ok(Err(cause)) => client_error(&cause, Effect::Read, &dialer.secrets),
                    _ => connect_timeout(dialer.connect_timeout),
                });
            }
        }
    }
}

async fn open(dialed: Dialed, secrets: Secrets) -> RedisResult<Result<Connection>> {
    let Dialed { stream, login, master } = dialed;
    let is_resp3 = login.protocol() == redis::ProtocolVersion::RESP3;
    let signals = Arc::new(Signals::default());
    // The callers set timers, one for each call or batch. A second timer here is measurably slower.
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(SEND_BUFFER);
    if is_resp3 {
        let push_signals = Arc::clone(&signals);
        config = config.set_push_sender(move |push: PushInfo| {
            if push.kind == PushKind::Disconnection {
                push_signals.broken.notify_one();
            }
            Ok::<_, redis::aio::SendError>(())
        });
    }
    let (mut socket, driver) = MultiplexedConnection::new_with_config(&login, stream, config).await?;
    let driver = Driver::spawn(driver);
    let (questions, asked_at) = (questions(), Instant::now());
    let replies = socket.send_packed_commands(&questions, 0, questions.len()).await?;
    let facts = match Facts::read(&replies, asked_at.elapsed(), !is_resp3, &secrets) {
        Ok(facts) => facts,
        Err(refusal) => return Ok(Err(refusal)),
    };
    if let Some(refusal) = facts.refusal() {
        return Ok(Err(refusal));
    }
    let is_refused = AtomicBool::new(false);
    let link = Link { facts, signals, secrets, master, is_refused, _driver: driver };
    let number = NEXT_NUMBER.fetch_add(1, Ordering::Relaxed);
    Ok(Ok(Connection { number, socket, link: Arc::new(link) }))
}

/// The error for an attempt that took longer than `limit`.
pub(super) fn connect_timeout(limit: Duration) -> Error {
    error(ErrorKind::Unavailable, format!("no connection within {limit:?}"))
}
