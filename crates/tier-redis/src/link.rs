//! The one connection of a handle: made at first use, watched, and made again when it is lost.

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use redis::{AsyncConnectionConfig, Client, Cmd, Pipeline, PushInfo, PushKind, RedisError, Value};
use terrace_tier::{Error, ErrorKind, Result};
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use crate::{
    fault::{self, Effect, error, of_client},
    idle::Idle,
    live::{Live, Signals},
};

/// How long a connection that owes an answer has to answer a PING before it is given up.
const PROBE_TIMEOUT: Duration = Duration::from_millis(500);
/// Between two probes, so that callers that give up often cost little.
const PROBE_PAUSE: Duration = Duration::from_millis(100);
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_LONGEST: Duration = Duration::from_millis(500);
/// A refused login does not get better by the second, and the server logs each.
const BACKOFF_DENIED: Duration = Duration::from_secs(5);
/// Commands that may wait for the socket's task before senders are made to wait.
const SEND_BUFFER: usize = 1_024;

/// Of the next connection.
static NUMBER: AtomicU64 = AtomicU64::new(1);

/// The connection to one server, shared by all tiers of a handle.
///
/// A call uses the connection that stands now. While none does, it fails at once with what the
/// last attempt met; only before the first attempt has ended does it wait for that. A background
/// task connects again, with a capped and jittered backoff, until the link is dropped.
pub(crate) struct Link {
    client: Client,
    connect_timeout: Duration,
    state: watch::Sender<State>,
    idle: Idle,
    supervisor: Mutex<Option<JoinHandle<()>>>,
}

enum State {
    /// No attempt has ended yet.
    New,
    Up(Live),
    Down(Error),
}

impl Link {
    pub(crate) fn new(client: Client, connect_timeout: Duration) -> Arc<Self> {
        let (state, _) = watch::channel(State::New);
        let (idle, supervisor) = (Idle::new(), Mutex::new(None));
        Arc::new(Self { client, connect_timeout, state, idle, supervisor })
    }

    /// One command and its reply, which may be [`Value::ServerError`]. No timer: dropped before the
    /// reply has come, it asks for a look at the connection.
    pub(crate) async fn send(self: &Arc<Self>, command: &Cmd, effect: Effect) -> Result<Value> {
        let mut live = self.live().await?;
        let suspicion = Suspicion(Some(&live.signals));
        let reply = live.connection.send_packed_command(command).await;
        suspicion.answered();
        self.settle(live, reply, effect)
    }

    /// Many commands in one round trip: one reply a command, in order.
    pub(crate) async fn send_many(
        self: &Arc<Self>,
        commands: &Pipeline,
        effect: Effect,
    ) -> Result<Vec<Value>> {
        let mut live = self.live().await?;
        let suspicion = Suspicion(Some(&live.signals));
        let replies = live.connection.send_packed_commands(commands, 0, commands.len()).await;
        suspicion.answered();
        let replies = self.settle(live, replies, effect)?;
        if replies.len() == commands.len() { Ok(replies) } else { Err(fault::unreadable()) }
    }

    /// Waits until a connection stands, for as long as an attempt may take.
    pub(crate) async fn wait(self: &Arc<Self>) -> Result<()> {
        self.start();
        let mut changes = self.state.subscribe();
        let up = changes.wait_for(|state| matches!(state, State::Up(_)));
        match timeout(self.connect_timeout, up).await {
            Ok(_) => Ok(()),
            Err(_) => self.now().unwrap_or_else(|| Err(unreachable(self.connect_timeout))).map(drop),
        }
    }

    /// The run id of the server that the standing connection leads to, where it may be asked.
    pub(crate) fn run_id(&self) -> Option<Arc<str>> {
        match &*self.state.borrow() {
            State::Up(live) => live.run_id.clone(),
            _ => None,
        }
    }

    /// A connection of the caller's own, for what blocks.
    pub(crate) fn dial(&self) -> impl Future<Output = Result<Live>> + Send + use<> {
        connect(self.client.clone(), self.connect_timeout)
    }

    async fn live(self: &Arc<Self>) -> Result<Live> {
        match self.idle.take() {
            Some(live) => Ok(live),
            None => Box::pin(self.standing()).await,
        }
    }

    /// The connection that stands, once the first attempt has ended.
    async fn standing(self: &Arc<Self>) -> Result<Live> {
        if let Some(answer) = self.now() {
            if answer.is_err() {
                self.start();
            }
            return answer;
        }
        self.start();
        let mut changes = self.state.subscribe();
        let _attempted = changes.wait_for(|state| !matches!(state, State::New)).await;
        self.now().unwrap_or_else(|| Err(unreachable(self.connect_timeout)))
    }

    /// What stands now; `None` before the first attempt has ended.
    fn now(&self) -> Option<Result<Live>> {
        match &*self.state.borrow() {
            State::New => None,
            State::Up(live) => Some(Ok(live.clone())),
            State::Down(why) => Some(Err(error(why.kind(), "not connected").with_source(why.clone()))),
        }
    }

    /// The handle goes back; a connection that broke is taken down before the next call.
    fn settle<T>(self: &Arc<Self>, live: Live, reply: Result<T, RedisError>, effect: Effect) -> Result<T> {
        match reply {
            Ok(reply) => {
                self.idle.give(live);
                Ok(reply)
            }
            Err(cause) => {
                if cause.is_io_error() || cause.is_unrecoverable_error() {
                    self.take_down(&live, of_client(cause.clone(), Effect::Read));
                    self.start();
                }
                Err(of_client(cause, effect))
            }
        }
    }

    fn put_up(&self, live: Live) {
        self.idle.open(live.number);
        self.state.send_replace(State::Up(live));
    }

    fn take_down(&self, lost: &Live, why: Error) {
        let taken = self.state.send_if_modified(|state| match state {
            State::Up(live) if live.number == lost.number => {
                *state = State::Down(why);
                true
            }
            _ => false,
        });
        if taken {
            self.idle.close();
        }
        lost.signals.gone.notify_one();
    }

    /// Starts the supervisor, if none runs: at first use, or where its runtime has ended.
    fn start(self: &Arc<Self>) {
        let mut supervisor = self.supervisor.lock();
        if supervisor.as_ref().is_none_or(JoinHandle::is_finished) {
            *supervisor = Some(tokio::spawn(supervise(Arc::downgrade(self))));
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(supervisor) = self.supervisor.get_mut() {
            supervisor.abort();
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.state.borrow() {
            State::New => "new",
            State::Up(_) => "up",
            State::Down(_) => "down",
        };
        f.debug_tuple("Link").field(&state).finish()
    }
}

/// A call that is dropped while it waits makes its connection suspect: the server may be stopped
/// or the network gone, and no error tells so.
struct Suspicion<'a>(Option<&'a Signals>);

impl Suspicion<'_> {
    fn answered(mut self) {
        self.0 = None;
    }
}

impl Drop for Suspicion<'_> {
    fn drop(&mut self) {
        if let Some(signals) = self.0 {
            signals.suspect.notify_one();
        }
    }
}

/// Runs `call` until `deadline`.
///
/// # Errors
/// After it [`ErrorKind::Timeout`], or [`ErrorKind::Unknown`] for a write, which may be under way.
pub(crate) async fn within<T>(
    deadline: Instant,
    effect: Effect,
    call: impl Future<Output = Result<T>>,
) -> Result<T> {
    match timeout_at(deadline, call).await {
        Ok(answer) => answer,
        Err(_) => Err(match effect {
            Effect::Read => error(ErrorKind::Timeout, "no answer within the budget"),
            Effect::Write => {
                error(ErrorKind::Unknown, "no answer within the budget to a write that was sent")
            }
        }),
    }
}

/// Keeps the link connected for as long as anyone holds it.
async fn supervise(link: Weak<Link>) {
    let mut failures = 0;
    loop {
        let Some(held) = link.upgrade() else { return };
        let attempt = connect(held.client.clone(), held.connect_timeout);
        drop(held);
        let outcome = attempt.await;
        let Some(held) = link.upgrade() else { return };
        match outcome {
            Ok(live) => {
                failures = 0;
                tracing::debug!(run_id = live.run_id.as_deref(), "connected to redis");
                held.put_up(live.clone());
                drop(held);
                let why = watch_over(&live).await;
                tracing::debug!(error = %why, "lost the connection to redis");
                let Some(held) = link.upgrade() else { return };
                held.take_down(&live, why);
            }
            Err(why) => {
                let pause = backoff(failures, why.kind());
                failures = failures.saturating_add(1);
                held.state.send_replace(State::Down(why));
                drop(held);
                sleep(pause).await;
            }
        }
    }
}

/// One attempt: connects, logs in and asks who is there.
async fn connect(client: Client, limit: Duration) -> Result<Live> {
    let signals = Arc::new(Signals::default());
    let heard = Arc::clone(&signals);
    let on_push = move |push: PushInfo| {
        if push.kind == PushKind::Disconnection {
            heard.gone.notify_one();
        }
        Ok::<_, redis::aio::SendError>(())
    };
    // Calls have our own timers, one each or one a batch; a second one is measurably slower.
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None)
        .set_pipeline_buffer_size(SEND_BUFFER)
        .set_push_sender(on_push);
    let attempt = async {
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await?;
        let about = connection.send_packed_command(redis::cmd("INFO").arg("server")).await?;
        Ok((connection, run_id_in(&about)))
    };
    match timeout(limit, attempt).await {
        Ok(Ok((connection, run_id))) => {
            Ok(Live { number: NUMBER.fetch_add(1, Ordering::Relaxed), connection, run_id, signals })
        }
        Ok(Err(cause)) => Err(of_client(cause, Effect::Read)),
        Err(_) => Err(unreachable(limit)),
    }
}

/// Returns when the connection is gone, and why: it said so, or owes an answer for too long.
async fn watch_over(live: &Live) -> Error {
    loop {
        tokio::select! {
            () = live.signals.gone.notified() => {
                return error(ErrorKind::Unavailable, "the connection broke");
            }
            () = live.signals.suspect.notified() => {
                let mut connection = live.connection.clone();
                match timeout(PROBE_TIMEOUT, connection.send_packed_command(&redis::cmd("PING"))).await {
                    Ok(Ok(_)) => sleep(PROBE_PAUSE).await,
                    Ok(Err(cause)) => return of_client(cause, Effect::Read),
                    Err(_) => return error(ErrorKind::Unavailable, "the server stopped answering"),
                }
            }
        }
    }
}

/// What a user without the right to ask does not learn is `None`.
fn run_id_in(about: &Value) -> Option<Arc<str>> {
    let text: String = redis::from_redis_value_ref(about).ok()?;
    text.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().into())
}

pub(crate) fn backoff(failures: u32, kind: ErrorKind) -> Duration {
    if kind == ErrorKind::Denied {
        return BACKOFF_DENIED;
    }
    let longest = BACKOFF_FIRST.saturating_mul(2u32.saturating_pow(failures)).min(BACKOFF_LONGEST);
    // Half of it at random, so that many processes do not come back in step.
    longest.mul_f64(0.5 + fastrand::f64() / 2.0)
}

fn unreachable(limit: Duration) -> Error {
    error(ErrorKind::Unavailable, format!("no connection within {limit:?}"))
}
