//! One connection through a proxy.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
};

use super::faults::{Direction, Faults, Status};

/// Counts one accepted connection, which is open while this value lives.
pub(super) struct Open(watch::Sender<Status>);

impl Open {
    pub(super) fn new(status: watch::Sender<Status>) -> Self {
        status.send_modify(|status| {
            status.accepted += 1;
            status.open += 1;
        });
        Self(status)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|status| status.open -= 1);
    }
}

/// Serves one connection until both sides have ended or one fails.
pub(super) async fn serve(client: TcpStream, faults: watch::Receiver<Faults>, _open: Open) {
    let target = faults.borrow().target;
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
        let faults = faults.wait_for(|faults| !faults.stall.holds(direction)).await;
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
