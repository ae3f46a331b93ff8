//! A TCP proxy that makes faults between a client and a server.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::{oneshot, watch},
};

use crate::{Error, Result, port::HeldPort};

/// A proxy on a free loopback port that forwards to another loopback port.
///
/// At first it forwards bytes unchanged. Every method applies to the open connections and to later
/// ones. The proxy runs on a thread of its own with the machine's clock. A drop of the handle ends it
/// and cuts its connections.
///
/// ```no_run
/// # async fn example() -> terrace_testbed::Result<()> {
/// let redis = terrace_testbed::Redis::start().await?;
/// let proxy = terrace_testbed::Proxy::start(redis.port())?;
/// let url = format!("redis://127.0.0.1:{}", proxy.port());
/// proxy.stall(terrace_testbed::Stall::Replies); // requests arrive, answers do not
/// proxy.cut().await; // every connection ends now
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    faults: watch::Sender<Faults>,
    status: watch::Receiver<Status>,
    /// Ends the thread when it is dropped.
    _running: oneshot::Sender<()>,
}

/// Which bytes a [`Proxy`] holds back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stall {
    /// No bytes.
    #[default]
    Nothing,
    /// The replies of the server: requests arrive and take effect.
    Replies,
    /// The bytes of both directions.
    Both,
}

impl Stall {
    /// The former name of [`Stall::Both`].
    #[doc(hidden)]
    #[allow(non_upper_case_globals, reason = "it is used like the variant that it was")]
    pub const AdmitAll: Self = Self::Both;
}

#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    stall: Stall,
    refuse: bool,
    segment_bytes: Option<usize>,
    delay: Duration,
    /// Connections that were opened in a lower generation end.
    generation: u64,
}

/// What the thread reports.
#[derive(Clone, Copy, Debug, Default)]
struct Status {
    listening: bool,
    accepted: u64,
    open: u64,
    /// All connections of lower generations have ended.
    generation: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Request,
    Reply,
}

impl Proxy {
    /// Starts a proxy that forwards to `127.0.0.1:target`. The target need not answer yet.
    ///
    /// # Errors
    /// [`Error::Io`] if the system gives no port or no thread.
    pub fn start(target: u16) -> Result<Self> {
        let held = HeldPort::any()?;
        let port = held.number();
        let (faults, faults_receiver) = watch::channel(Faults::default());
        let (status_sender, status) = watch::channel(Status { listening: true, ..Status::default() });
        let (running, stopped) = oneshot::channel::<()>();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io("making a proxy's runtime"))?;
        let listener = {
            let _inside = runtime.enter();
            held.into_socket().listen(1024).map_err(Error::io("listening for a proxy"))?
        };
        let acceptor = Acceptor { port, target, faults: faults_receiver, status: status_sender };
        std::thread::Builder::new()
            .name("terrace-testbed-proxy".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        () = acceptor.run(listener) => {}
                        _dropped = stopped => {}
                    }
                });
            })
            .map_err(Error::io("starting a proxy's thread"))?;
        Ok(Self { port, faults, status, _running: running })
    }

    /// The loopback port for clients.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections the proxy has accepted so far.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.status.borrow().accepted
    }

    /// How many connections are open.
    #[must_use]
    pub fn open(&self) -> u64 {
        self.status.borrow().open
    }

    /// Ends every open connection on both sides and returns when they have ended. New connections are
    /// accepted.
    pub async fn cut(&self) {
        let mut generation = 0;
        self.faults.send_modify(|faults| {
            faults.generation += 1;
            generation = faults.generation;
        });
        self.until(|status| status.generation >= generation).await;
    }

    /// Refuses new connections, as a port without a server does, and cuts the open connections.
    pub async fn refuse(&self) {
        self.faults.send_modify(|faults| faults.refuse = true);
        self.until(|status| !status.listening).await;
        self.cut().await;
    }

    /// Accepts connections again after [`refuse`](Self::refuse).
    pub async fn accept(&self) {
        self.faults.send_modify(|faults| faults.refuse = false);
        self.until(|status| status.listening).await;
    }

    /// Holds bytes back from now on. Connections stay open and new ones are accepted.
    /// [`Stall::Nothing`] releases all bytes that were held back.
    pub fn stall(&self, stall: Stall) {
        self.faults.send_modify(|faults| faults.stall = stall);
    }

    /// Releases all bytes that were held back.
    pub fn resume(&self) {
        self.stall(Stall::Nothing);
    }

    /// Splits the traffic into segments of at most `segment_bytes`, each sent by a write of its own.
    /// `None` forwards the traffic as it comes.
    pub fn split(&self, segment_bytes: Option<usize>) {
        self.faults.send_modify(|faults| faults.segment_bytes = segment_bytes.map(|size| size.max(1)));
    }

    /// Delays each piece of traffic by `delay`, in each direction.
    pub fn delay(&self, delay: Duration) {
        self.faults.send_modify(|faults| faults.delay = delay);
    }

    async fn until(&self, reached: impl FnMut(&Status) -> bool) {
        // An error means that the thread has ended, and its connections with it.
        let mut status = self.status.clone();
        let _reached = status.wait_for(reached).await;
    }
}

/// Runs on the proxy's thread: accepts connections and starts a task for each.
struct Acceptor {
    port: u16,
    target: u16,
    faults: watch::Receiver<Faults>,
    status: watch::Sender<Status>,
}

impl Acceptor {
    async fn run(self, listener: TcpListener) {
        let mut connections = tokio::task::JoinSet::new();
        let mut listener = Some(listener);
        let mut faults = self.faults.clone();
        loop {
            tokio::select! {
                changed = faults.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = *faults.borrow_and_update();
                    if now.refuse == listener.is_some() {
                        listener = self.toggle(listener);
                    }
                    if now.generation > self.status.borrow().generation {
                        connections.shutdown().await;
                        self.status.send_modify(|status| status.generation = now.generation);
                    }
                }
                Some(_ended) = connections.join_next() => {}
                Some(client) = next(listener.as_ref()) => {
                    self.status.send_modify(|status| { status.accepted += 1; status.open += 1; });
                    let open = Open(self.status.clone());
                    connections.spawn(serve(client, self.target, self.faults.clone(), open));
                }
            }
        }
    }

    /// Closes the listener, or listens again. If the port cannot be bound again, it stays closed and
    /// [`Proxy::accept`] waits on: the test's own timeout reports it.
    fn toggle(&self, listener: Option<TcpListener>) -> Option<TcpListener> {
        let next = match listener {
            Some(_closed) => None,
            None => HeldPort::again(self.port).ok().and_then(|held| held.into_socket().listen(1024).ok()),
        };
        self.status.send_modify(|status| status.listening = next.is_some());
        next
    }
}

/// The next client; pending for ever while there is no listener.
async fn next(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

/// Counts one connection as open while it lives.
struct Open(watch::Sender<Status>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|status| status.open -= 1);
    }
}

/// Serves one connection until both sides have ended or one fails.
async fn serve(client: TcpStream, target: u16, faults: watch::Receiver<Faults>, _open: Open) {
    let Ok(server) = TcpStream::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, target))).await else {
        return;
    };
    // Each segment must leave at once. Without this option the proxy still works.
    let _ignored = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let requests = pump(from_client, to_server, faults.clone(), Direction::Request);
    let replies = pump(from_server, to_client, faults, Direction::Reply);
    let _ended = tokio::try_join!(requests, replies);
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut faults: watch::Receiver<Faults>,
    direction: Direction,
) -> std::io::Result<()> {
    let mut buffer = vec![0_u8; 64 * 1024];
    loop {
        let length = from.read(&mut buffer).await?;
        let delay = faults.borrow().delay;
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        let faults = faults.wait_for(|faults| !holds(faults.stall, direction)).await;
        let segment_bytes = faults.map_err(std::io::Error::other)?.segment_bytes;
        if length == 0 {
            return to.shutdown().await;
        }
        for segment in buffer[..length].chunks(segment_bytes.unwrap_or(length)) {
            to.write_all(segment).await?;
            // Lets the other side read this segment before the next one arrives.
            if segment_bytes.is_some() {
                tokio::task::yield_now().await;
            }
        }
    }
}

fn holds(stall: Stall, direction: Direction) -> bool {
    match stall {
        Stall::Nothing => false,
        Stall::Replies => direction == Direction::Reply,
        Stall::Both => true,
    }
}
