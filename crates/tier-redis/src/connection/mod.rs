//! The connection of a handle. All tiers of the handle send their commands through it.
//!
//! - `address`: the URL.
//! - `dialer`: what each attempt asks anew: the server, by its name or the sentinels, and the login.
//! - `sentinel`, `stream`, `tls`, `greeting`: the steps of an attempt until something has answered that speaks
//!   Redis.
//! - `connect`: one attempt to connect, and the connection that it makes.
//! - `facts`: what the server says about itself, and what is wrong with it.
//! - `supervisor`: the task that connects, watches the connection and connects again.
//! - `idle`: clones of the connection for the next calls.
//! - `listener`: a connection of its own for the notifications about leases.

mod address;
mod connect;
mod dialer;
mod facts;
mod greeting;
mod idle;
mod listener;
mod sentinel;
mod stream;
mod supervisor;
mod tls;

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use redis::{Cmd, Pipeline, RedisError, Value};
use terrace_tier::{Error, ErrorKind, NamespaceRegistry, Result};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

pub(crate) use address::Address;
pub(crate) use connect::Connection;
use connect::{Signals, connect};
pub(crate) use dialer::Dialer;
use idle::IdleClones;
pub(crate) use listener::{Listener, hears, unheard};
pub(crate) use supervisor::backoff;
pub(crate) use tls::{Certificates, Tls};

use crate::{
    error::{Effect, error, unexpected_reply},
    findings::Watchers,
};

/// Keeps one connection to a server and shares it among all tiers of a handle.
///
/// A call uses the current connection. Without one it fails at once, with the error of the last
/// attempt; only a call before the end of the first attempt waits for it. A background task connects
/// again, with a capped and jittered backoff, until the manager is dropped.
pub(crate) struct ConnectionManager {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) watchers: Watchers,
    /// The namespaces of the handle's tiers.
    pub(crate) namespaces: NamespaceRegistry,
    state: watch::Sender<State>,
    idle: IdleClones,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

enum State {
    /// The first attempt has not ended yet.
    Starting,
    Connected(Connection),
    Disconnected(Error),
}

impl ConnectionManager {
    pub(crate) fn new(dialer: Dialer) -> Arc<Self> {
        let (state, _) = watch::channel(State::Starting);
        let (idle, supervisor) = (IdleClones::default(), Mutex::new(None));
        let (watchers, namespaces) = (Watchers::default(), NamespaceRegistry::default());
        Arc::new(Self { dialer: Arc::new(dialer), watchers, namespaces, state, idle, supervisor })
    }

    /// Sends one command and returns its reply, which may be [`Value::ServerError`].
    ///
    /// No timer runs here. If a call is dropped before its reply, the supervisor probes the connection.
    pub(crate) async fn send(self: &Arc<Self>, command: &Cmd, effect: Effect) -> Result<Value> {
        let mut connection = self.acquire().await?;
        let Connection { socket, link, .. } = &mut connection;
        let probe = ProbeOnDrop(Some(&link.signals));
        let reply = socket.send_packed_command(command).await;
        probe.disarm();
        let reply = reply.map(|reply| link.inspect(reply));
        self.release(connection, reply, effect)
    }

    /// Sends many commands in one round trip and returns their replies in the same order.
    pub(crate) async fn send_many(
        self: &Arc<Self>,
        commands: &Pipeline,
        effect: Effect,
    ) -> Result<Vec<Value>> {
        let mut connection = self.acquire().await?;
        let Connection { socket, link, .. } = &mut connection;
        let probe = ProbeOnDrop(Some(&link.signals));
        let replies = socket.send_packed_commands(commands, 0, commands.len()).await;
        probe.disarm();
        let replies = replies.map(|replies| link.inspect_all(replies));
        let replies = self.release(connection, replies, effect)?;
        if replies.len() == commands.len() { Ok(replies) } else { Err(unexpected_reply()) }
    }

    /// Opens a connection for the caller alone, for commands that block.
    pub(crate) fn connect(&self) -> impl Future<Output = Result<Connection>> + Send + use<> {
        connect(Arc::clone(&self.dialer))
    }

    /// The run id of the server behind the current connection, if the user may ask for it.
    pub(crate) fn run_id(&self) -> Option<Arc<str>> {
        match &*self.state.borrow() {
            State::Connected(connection) => connection.link.facts.run_id.clone(),
            _ => None,
        }
    }

    /// Whether `other`, a connection of its own, leads to the server of the shared connection. `None` while that
    /// is not known: the shared connection is away, or was never used.
    pub(crate) fn is_same_server(&self, other: &Connection) -> Option<bool> {
        match &*self.state.borrow() {
            State::Starting => Some(true),
            State::Disconnected(_) => None,
            State::Connected(current) => match (&current.link.facts.run_id, &other.link.facts.run_id) {
                (Some(current), Some(other)) => Some(current == other),
                // Without run ids, a connection that is older than the shared one may lead elsewhere.
                _ => Some(other.number > current.number),
            },
        }
    }

    /// The number of the shared connection; `None` without one.
    pub(crate) fn connection_number(&self) -> Option<u64> {
        match &*self.state.borrow() {
            State::Connected(connection) => Some(connection.number),
            _ => None,
        }
    }

    /// The shared connection, for what needs to know what the server says about itself.
    pub(crate) async fn connection(self: &Arc<Self>) -> Result<Connection> {
        Box::pin(self.current_after_first_attempt()).await
    }

    async fn acquire(self: &Arc<Self>) -> Result<Connection> {
        match self.idle.take() {
            Some(connection) => Ok(connection),
            None => Box::pin(self.current_after_first_attempt()).await,
        }
    }

    /// Keeps the clone for the next call. A broken connection is removed before the next call.
    fn release<T>(
        self: &Arc<Self>,
        connection: Connection,
        reply: Result<T, RedisError>,
        effect: Effect,
    ) -> Result<T> {
        match reply {
            Ok(reply) => {
                match connection.link.refusal() {
                    None => self.idle.put_back(connection),
                    Some(why) => {
                        self.set_disconnected(&connection, why);
                        self.start_supervisor();
                    }
                }
                Ok(reply)
            }
            Err(cause) => {
                if cause.is_io_error() || cause.is_unrecoverable_error() {
                    self.set_disconnected(&connection, connection.error(&cause, Effect::Read));
                    self.start_supervisor();
                }
                Err(connection.error(&cause, effect))
            }
        }
    }
}

impl Drop for ConnectionManager {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.get_mut() {
            supervisor.abort();
        }
    }
}

impl fmt::Debug for ConnectionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.state.borrow() {
            State::Starting => "starting",
            State::Connected(_) => "connected",
            State::Disconnected(_) => "disconnected",
        };
        f.debug_tuple("ConnectionManager").field(&state).finish()
    }
}

/// Asks for a probe when a call is dropped before its reply arrived. The server may be stopped or the
/// network down, and neither shows as an error.
struct ProbeOnDrop<'a>(Option<&'a Signals>);

impl ProbeOnDrop<'_> {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for ProbeOnDrop<'_> {
    fn drop(&mut self) {
        if let Some(signals) = self.0 {
            signals.suspect.notify_one();
        }
    }
}

/// Runs `call` until `deadline`.
///
/// # Errors
/// [`ErrorKind::Timeout`] after the deadline; [`ErrorKind::Unknown`] for a write, which may have run.
pub(crate) async fn within<T>(
    deadline: Instant,
    effect: Effect,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    match timeout_at(deadline, call).await {
        Ok(reply) => reply,
        Err(_) => Err(match effect {
            Effect::Read => error(ErrorKind::Timeout, "no reply within the budget"),
            Effect::Write => {
                error(ErrorKind::Unknown, "no reply within the budget, after the write was sent")
            }
        }),
    }
}
