//! The connection of a handle. All tiers of the handle send their commands through it.
//!
//! - `address`: the URL, and the settings of the client that follow from it.
//! - `connect`: one attempt to connect.
//! - `supervisor`: the task that connects, watches the connection and connects again.
//! - `listener`: a connection of its own for the notifications about leases.

mod address;
mod connect;
mod listener;
mod supervisor;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redis::{Client, Cmd, Pipeline, RedisError, Value};
use terrace_tier::{Error, ErrorKind, Result};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout_at},
};

pub(crate) use address::Address;
pub(crate) use connect::Connection;
use connect::{Signals, connect};
pub(crate) use listener::Listener;
pub(crate) use supervisor::backoff;

use crate::error::{Effect, client_error, error, unexpected_reply};

/// Keeps one connection to a server and shares it among all tiers of a handle.
///
/// A call uses the current connection. Without one it fails at once, with the error of the last
/// attempt; only a call before the end of the first attempt waits for it. A background task connects
/// again, with a capped and jittered backoff, until the manager is dropped.
pub(crate) struct ConnectionManager {
    client: Client,
    connect_timeout: Duration,
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
    pub(crate) fn new(client: Client, connect_timeout: Duration) -> Arc<Self> {
        let (state, _) = watch::channel(State::Starting);
        let (idle, supervisor) = (IdleClones::default(), Mutex::new(None));
        Arc::new(Self { client, connect_timeout, state, idle, supervisor })
    }

    /// Sends one command and returns its reply, which may be [`Value::ServerError`].
    ///
    /// No timer runs here. If a call is dropped before its reply, the supervisor probes the connection.
    pub(crate) async fn send(self: &Arc<Self>, command: &Cmd, effect: Effect) -> Result<Value> {
        let mut connection = self.acquire().await?;
        let probe = ProbeOnDrop(Some(&connection.signals));
        let reply = connection.socket.send_packed_command(command).await;
        probe.disarm();
        self.release(connection, reply, effect)
    }

    /// Sends many commands in one round trip and returns their replies in the same order.
    pub(crate) async fn send_many(
        self: &Arc<Self>,
        commands: &Pipeline,
        effect: Effect,
    ) -> Result<Vec<Value>> {
        let mut connection = self.acquire().await?;
        let probe = ProbeOnDrop(Some(&connection.signals));
        let replies = connection.socket.send_packed_commands(commands, 0, commands.len()).await;
        probe.disarm();
        let replies = self.release(connection, replies, effect)?;
        if replies.len() == commands.len() { Ok(replies) } else { Err(unexpected_reply()) }
    }

    /// Opens a connection for the caller alone, for commands that block.
    pub(crate) fn connect(&self) -> impl Future<Output = Result<Connection>> + Send + use<> {
        connect(self.client.clone(), self.connect_timeout)
    }

    /// The run id of the server behind the current connection, if the user may ask for it.
    pub(crate) fn run_id(&self) -> Option<Arc<str>> {
        match &*self.state.borrow() {
            State::Connected(connection) => connection.run_id.clone(),
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
                self.idle.put_back(connection);
                Ok(reply)
            }
            Err(cause) => {
                if cause.is_io_error() || cause.is_unrecoverable_error() {
                    self.set_disconnected(&connection, client_error(cause.clone(), Effect::Read));
                    self.start_supervisor();
                }
                Err(client_error(cause, effect))
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

const LANES: usize = 8;
/// Clones that one lane keeps. Calls beyond that clone the current connection.
const LANE_DEPTH: usize = 64;

/// Clones of the current connection, kept for the next calls. To clone a connection and to drop the
/// clone would move six counters between the cores for each call, so the threads of a lane reuse them.
#[derive(Default)]
struct IdleClones {
    /// The number of the current connection; zero for none.
    current: AtomicU64,
    lanes: [Lane; LANES],
}

/// The clones for the threads of one lane. The alignment gives each lane its own cache lines.
#[repr(align(128))]
#[derive(Default)]
struct Lane(Mutex<Vec<Connection>>);

static NEXT_LANE: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static LANE: usize = NEXT_LANE.fetch_add(1, Ordering::Relaxed) % LANES;
}

impl IdleClones {
    /// Accepts clones of the connection with this number from now on.
    fn open(&self, number: u64) {
        self.current.store(number, Ordering::Release);
    }

    /// Drops all clones and accepts none.
    fn close(&self) {
        self.current.store(0, Ordering::Release);
        for lane in &self.lanes {
            let dropped = std::mem::take(&mut *lane.0.lock());
            drop(dropped);
        }
    }

    fn take(&self) -> Option<Connection> {
        self.lane().0.lock().pop()
    }

    /// Compares the numbers under the lane's lock. So a clone is stored before `close` empties the
    /// lane, or not at all.
    fn put_back(&self, connection: Connection) {
        let mut lane = self.lane().0.lock();
        if connection.number == self.current.load(Ordering::Acquire) && lane.len() < LANE_DEPTH {
            lane.push(connection);
        }
    }

    fn lane(&self) -> &Lane {
        &self.lanes[LANE.with(|lane| *lane)]
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
