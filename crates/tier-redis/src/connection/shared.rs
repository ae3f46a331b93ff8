//! The connection that the calls of one runtime share.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use redis::{Cmd, Pipeline, RedisError, Value};
use terrace_tier::{Error, NamespaceRegistry, Result};
use tokio::{sync::watch, task::JoinHandle};

use super::{Connection, Dialer, connect::Signals, idle::IdleClones};
use crate::{
    error::{Effect, unexpected_reply},
    findings::Watchers,
};

/// The connection that the calls of one runtime share.
///
/// A call uses the current connection. Without one it fails at once, with the error of the last
/// attempt; only a call before the end of the first attempt waits for it. A background task connects
/// again, with a capped and jittered backoff, until this value is dropped.
pub(super) struct SharedConnection {
    pub(super) dialer: Arc<Dialer>,
    pub(super) watchers: Arc<Watchers>,
    /// The namespaces of the handle's tiers.
    pub(super) namespaces: NamespaceRegistry,
    pub(super) state: watch::Sender<State>,
    pub(super) idle: IdleClones,
    pub(super) supervisor: Mutex<Option<JoinHandle<()>>>,
}

pub(super) enum State {
    /// The first attempt has not ended yet.
    Starting,
    Connected(Connection),
    Disconnected(Error),
}

impl SharedConnection {
    pub(super) fn new(dialer: Arc<Dialer>, watchers: Arc<Watchers>, namespaces: NamespaceRegistry) -> Self {
        let (state, _) = watch::channel(State::Starting);
        let (idle, supervisor) = (IdleClones::default(), Mutex::new(None));
        Self { dialer, watchers, namespaces, state, idle, supervisor }
    }

    /// Sends one command and returns its reply, which may be [`Value::ServerError`].
    ///
    /// No timer runs here. If a call is dropped before its reply, the supervisor probes the connection.
    pub(super) async fn send(self: &Arc<Self>, command: &Cmd, effect: Effect) -> Result<Value> {
        let mut connection = self.acquire().await?;
        let Connection { socket, link, .. } = &mut connection;
        let probe = ProbeOnDrop(Some(&link.signals));
        let reply = socket.send_packed_command(command).await;
        probe.disarm();
        let reply = reply.map(|reply| link.inspect(reply));
        self.release(connection, reply, effect)
    }

    /// Sends many commands in one round trip and returns their replies in the same order.
    pub(super) async fn send_many(
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

    /// The run id of the server behind the current connection, if the user may ask for it.
    pub(super) fn run_id(&self) -> Option<Arc<str>> {
        match &*self.state.borrow() {
            State::Connected(connection) => connection.link.facts.run_id.clone(),
            _ => None,
        }
    }

    /// Whether `other`, a connection of its own, leads to the server of the shared connection. `None` while that
    /// is not known: the shared connection is away, or was never used.
    pub(super) fn is_same_server(&self, other: &Connection) -> Option<bool> {
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
    pub(super) fn connection_number(&self) -> Option<u64> {
        match &*self.state.borrow() {
            State::Connected(connection) => Some(connection.number),
            _ => None,
        }
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

impl Drop for SharedConnection {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.get_mut() {
            supervisor.abort();
        }
    }
}

impl fmt::Debug for SharedConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.state.borrow() {
            State::Starting => "starting",
            State::Connected(_) => "connected",
            State::Disconnected(_) => "disconnected",
        };
        f.debug_tuple("SharedConnection").field(&state).finish()
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
