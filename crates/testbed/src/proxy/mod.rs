//! A TCP proxy that makes faults between a client and a server.

mod acceptor;
mod connection;
mod faults;

use std::time::Duration;

use tokio::sync::{oneshot, watch};

use acceptor::Acceptor;
pub use faults::Stall;
use faults::{Faults, Status};

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

impl Proxy {
    /// Starts a proxy that forwards to `127.0.0.1:target`. The target need not answer yet.
    ///
    /// # Errors
    /// [`Error::Io`] if the system gives no port or no thread.
    pub fn start(target: u16) -> Result<Self> {
        let held = HeldPort::any()?;
        let port = held.number();
        let (faults, faults_receiver) = watch::channel(Faults { target, ..Faults::default() });
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
        let acceptor = Acceptor { port, faults: faults_receiver, status: status_sender };
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

    /// Leads new connections to `127.0.0.1:target`, as a moved endpoint does. Open connections stay where they are.
    pub fn lead_to(&self, target: u16) {
        self.faults.send_modify(|faults| faults.target = target);
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
