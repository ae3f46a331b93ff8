//! The thread of a proxy, which accepts connections.

use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};

use super::{
    connection::{Open, serve},
    faults::{Faults, Status},
};
use crate::port::HeldPort;

/// Runs on the proxy's thread: accepts connections and starts a task for each.
pub(super) struct Acceptor {
    pub(super) port: u16,
    pub(super) faults: watch::Receiver<Faults>,
    pub(super) status: watch::Sender<Status>,
}

impl Acceptor {
    pub(super) async fn run(self, listener: TcpListener) {
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
                    let open = Open::new(self.status.clone());
                    connections.spawn(serve(client, self.faults.clone(), open));
                }
            }
        }
    }

    /// Closes the listener, or listens again. If the port cannot be bound again, it stays closed and
    /// [`Proxy::accept`](super::Proxy::accept) waits on: the test's own timeout reports it.
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
