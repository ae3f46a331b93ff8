//! Asks a server over a plain socket whether it is ready for clients.

use std::{
    io::{self, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

/// A ready server answers within this time.
const TIMEOUT: Duration = Duration::from_secs(1);

/// Whether Redis answers a PING; a demand for a password counts as an answer.
pub(crate) fn redis(port: u16) -> io::Result<bool> {
    let mut socket = connect(port)?;
    socket.write_all(b"PING\r\n")?;
    let mut reply = [0_u8; 7];
    socket.read_exact(&mut reply)?;
    Ok(reply.starts_with(b"+PONG") || reply.starts_with(b"-NOAUTH"))
}

/// Whether Postgres accepts sessions: it answers the first message with an error while it starts or
/// recovers, and with an authentication request afterwards.
pub(crate) fn postgres(port: u16) -> io::Result<bool> {
    const PROTOCOL_3_0: u32 = 196_608;
    let parameters = b"user\0postgres\0database\0postgres\0\0";
    let mut message = Vec::with_capacity(8 + parameters.len());
    let length = u32::try_from(8 + parameters.len()).unwrap_or(u32::MAX);
    message.extend_from_slice(&length.to_be_bytes());
    message.extend_from_slice(&PROTOCOL_3_0.to_be_bytes());
    message.extend_from_slice(parameters);

    let mut socket = connect(port)?;
    socket.write_all(&message)?;
    let mut kind = [0_u8; 1];
    socket.read_exact(&mut kind)?;
    Ok(kind == *b"R")
}

pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let socket = TcpStream::connect_timeout(&address, TIMEOUT)?;
    socket.set_read_timeout(Some(TIMEOUT))?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    Ok(socket)
}
