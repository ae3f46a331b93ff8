//! The connection of a handle. All tiers of the handle send their commands through it.
//!
//! - `address`: the URL.
//! - `dialer`: what each attempt asks anew: the server, by its name or the sentinels, and the login.
//! - `sentinel`, `stream`, `tls`, `greeting`: the steps of an attempt until something has answered that speaks
//!   Redis.
//! - `connect`: one attempt to connect, and the connection that it makes.
//! - `facts`: what the server says about itself, and what is wrong with it.
//! - `shared`: the connection that the calls of one runtime share.
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
mod shared;
mod stream;
mod supervisor;
mod tls;

use std::{fmt, sync::Arc};

use redis::{Cmd, Pipeline, Value};
use terrace_tier::{
    Error, ErrorKind, NamespaceRegistry, Result,
    runtime::{self, PerRuntime, clock_hint},
};
use tokio::time::Instant;

pub(crate) use address::Address;
pub(crate) use connect::Connection;
use connect::connect;
pub(crate) use dialer::Dialer;
pub(crate) use listener::{Listener, hears, unheard};
use shared::SharedConnection;
pub(crate) use supervisor::backoff;
pub(crate) use tls::{Certificates, Tls};

use crate::{
    error::{Effect, error},
    findings::Watchers,
};

/// Keeps one connection to a server for each runtime that uses it, and shares it among all tiers of a handle.
///
/// A connection belongs to the runtime in which it was made, and ends with it. So no call uses the connection
/// of another runtime.
pub(crate) struct ConnectionManager {
    pub(crate) dialer: Arc<Dialer>,
    pub(crate) watchers: Arc<Watchers>,
    /// The namespaces of the handle's tiers.
    pub(crate) namespaces: NamespaceRegistry,
    connections: PerRuntime<SharedConnection>,
}

impl ConnectionManager {
    pub(crate) fn new(dialer: Dialer) -> Arc<Self> {
        let (dialer, watchers) = (Arc::new(dialer), Arc::default());
        let (namespaces, connections) = (NamespaceRegistry::default(), PerRuntime::default());
        Arc::new(Self { dialer, watchers, namespaces, connections })
    }

    /// Sends one command and returns its reply, which may be [`Value::ServerError`].
    ///
    /// No timer runs here. If a call is dropped before its reply, the supervisor probes the connection.
    pub(crate) async fn send(&self, command: &Cmd, effect: Effect) -> Result<Value> {
        self.shared()?.send(command, effect).await
    }

    /// Sends many commands in one round trip and returns their replies in the same order.
    pub(crate) async fn send_many(&self, commands: &Pipeline, effect: Effect) -> Result<Vec<Value>> {
        self.shared()?.send_many(commands, effect).await
    }

    /// Opens a connection for the caller alone, for commands that block.
    pub(crate) fn connect(&self) -> impl Future<Output = Result<Connection>> + Send + use<> {
        connect(Arc::clone(&self.dialer))
    }

    /// Waits for a connection, at most as long as one attempt may take.
    pub(crate) async fn wait_connected(&self) -> Result<()> {
        self.shared()?.wait_connected().await
    }

    /// The shared connection, for what needs to know what the server says about itself.
    pub(crate) async fn connection(&self) -> Result<Connection> {
        Box::pin(self.shared()?.current_after_first_attempt()).await
    }

    /// The run id of the server behind a current connection, if the user may ask for it.
    pub(crate) fn run_id(&self) -> Option<Arc<str>> {
        self.connections.all().iter().find_map(|shared| shared.run_id())
    }

    /// Whether `other`, a connection of its own, leads to the server of the shared connections of all runtimes.
    /// `None` while that is not known: a shared connection is away.
    pub(crate) fn is_same_server(&self, other: &Connection) -> Option<bool> {
        let mut is_same = Some(true);
        for shared in self.connections.all() {
            match shared.is_same_server(other) {
                Some(false) => return Some(false),
                None => is_same = None,
                Some(true) => {}
            }
        }
        is_same
    }

    /// The number of the shared connection of this runtime; `None` without one.
    pub(crate) fn connection_number(&self) -> Option<u64> {
        self.shared().ok().and_then(|shared| shared.connection_number())
    }

    fn shared(&self) -> Result<Arc<SharedConnection>> {
        let new = || {
            let (dialer, watchers) = (Arc::clone(&self.dialer), Arc::clone(&self.watchers));
            SharedConnection::new(dialer, watchers, self.namespaces.clone())
        };
        self.connections.get(new)
    }
}

impl fmt::Debug for ConnectionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ConnectionManager").field(&self.connections.all()).finish()
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
    runtime::within(deadline, call).await?.unwrap_or_else(|| Err(no_reply(effect)))
}

/// The error of a call that got no reply within its budget.
pub(crate) fn no_reply(effect: Effect) -> Error {
    let hint = clock_hint();
    match effect {
        Effect::Read => error(ErrorKind::Timeout, format!("no reply within the budget{hint}")),
        Effect::Write => {
            let message = format!("no reply within the budget, and the write may have been sent{hint}");
            error(ErrorKind::Unknown, message)
        }
    }
}
