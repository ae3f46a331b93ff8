//! Loopback ports that no other process gets.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

use crate::{Error, Result};

/// A port held by a socket that is bound and does not listen: connections are refused, and the
/// operating system gives the port to no other process.
#[derive(Debug)]
pub(crate) struct HeldPort {
    socket: TcpSocket,
    number: u16,
}

impl HeldPort {
    /// Holds any free port.
    pub(crate) fn any() -> Result<Self> {
        Self::bind(0)
    }

    /// Holds this port again after its server has ended.
    pub(crate) fn again(number: u16) -> Result<Self> {
        Self::bind(number)
    }

    pub(crate) fn number(&self) -> u16 {
        self.number
    }

    /// The socket, to listen on.
    pub(crate) fn into_socket(self) -> TcpSocket {
        self.socket
    }

    fn bind(number: u16) -> Result<Self> {
        let what = || format!("holding loopback port {number}");
        let socket = TcpSocket::new_v4().map_err(Error::io(what()))?;
        // Without this, a port whose last connections linger cannot be bound.
        socket.set_reuseaddr(true).map_err(Error::io(what()))?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, number))).map_err(Error::io(what()))?;
        let number = socket.local_addr().map_err(Error::io(what()))?.port();
        Ok(Self { socket, number })
    }
}

/// A loopback port that nothing listens on now, for a second port of a server. Another process may take it before
/// the server does.
///
/// # Errors
/// [`Error::Io`] if the system gives no port.
pub fn free_port() -> Result<u16> {
    HeldPort::any().map(|held| held.number())
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_held_port_refuses_connections() {
        let port = HeldPort::any().unwrap();
        let error = TcpStream::connect((Ipv4Addr::LOCALHOST, port.number())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    }

    #[test]
    fn held_ports_differ() {
        let (one, two) = (HeldPort::any().unwrap(), HeldPort::any().unwrap());
        assert_ne!(one.number(), two.number());
    }
}
