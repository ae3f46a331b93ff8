//! One attempt to connect, and the connection that it makes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use redis::{AsyncConnectionConfig, Client, PushInfo, PushKind, Value, aio::MultiplexedConnection};
use terrace_tier::{Error, ErrorKind, Result};
use tokio::{sync::Notify, time::timeout};

use crate::error::{Effect, client_error, error};

/// Commands that may queue for the socket's task before their senders have to wait.
const SEND_BUFFER: usize = 1_024;

/// The number of the next connection.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// An open connection. Clones share the same socket.
#[derive(Clone)]
pub(crate) struct Connection {
    /// Distinguishes connections; never zero.
    pub(crate) number: u64,
    pub(crate) socket: MultiplexedConnection,
    /// The run id of the server, if the user may run `INFO`.
    pub(crate) run_id: Option<Arc<str>>,
    pub(crate) signals: Arc<Signals>,
}

/// The messages of a connection to its supervisor.
#[derive(Default)]
pub(crate) struct Signals {
    /// The connection has failed.
    pub(crate) broken: Notify,
    /// A caller gave up before its reply arrived, so the supervisor should probe the connection.
    pub(crate) suspect: Notify,
}

/// Connects, logs in and asks for the run id of the server, all within `limit`.
pub(super) async fn connect(client: Client, limit: Duration) -> Result<Connection> {
    let signals = Arc::new(Signals::default());
    let push_signals = Arc::clone(&signals);
    let on_push = move |push: PushInfo| {
        if push.kind == PushKind::Disconnection {
            push_signals.broken.notify_one();
        }
        Ok::<_, redis::aio::SendError>(())
    };
    // The callers set timers, one for each call or batch. A second timer here is measurably slower.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(SEND_BUFFER)
        .set_push_sender(on_push);
    let attempt = async {
        let mut socket = client.get_multiplexed_async_connection_with_config(&config).await?;
        let info = socket.send_packed_command(redis::cmd("INFO").arg("server")).await?;
        Ok((socket, run_id_in(&info)))
    };
    match timeout(limit, attempt).await {
        Ok(Ok((socket, run_id))) => {
            Ok(Connection { number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed), socket, run_id, signals })
        }
        Ok(Err(cause)) => Err(client_error(cause, Effect::Read)),
        Err(_) => Err(connect_timeout(limit)),
    }
}

/// The error for an attempt that took longer than `limit`.
pub(super) fn connect_timeout(limit: Duration) -> Error {
    error(ErrorKind::Unavailable, format!("no connection within {limit:?}"))
}

/// `None` where the user may not run `INFO`.
fn run_id_in(info: &Value) -> Option<Arc<str>> {
    let text: String = redis::from_redis_value_ref(info).ok()?;
    text.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().into())
}
