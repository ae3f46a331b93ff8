//! Two commands of Redis that no cache sends, for private servers: they have no login and no TLS.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// How long one command may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// The memory that the server uses, in bytes.
pub(super) fn used_memory(port: u16) -> std::io::Result<u64> {
    let info = command(port, "INFO memory")?;
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.and_then(|number| number.trim().parse().ok())
        .ok_or_else(|| std::io::Error::other("INFO has no `used_memory`"))
}

/// Drops all keys.
pub(super) fn flush(port: u16) -> std::io::Result<()> {
    command(port, "FLUSHALL").map(drop)
}

fn command(port: u16, line: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&([127, 0, 0, 1], port).into(), PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "{line}\r\n")?;
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    reader.read_line(&mut head)?;
    match head.strip_prefix('$').and_then(|length| length.trim().parse::<u64>().ok()) {
        Some(length) => {
            let mut body = String::new();
            reader.take(length).read_to_string(&mut body)?;
            Ok(body)
        }
        None if head.starts_with('+') => Ok(head),
        None => Err(std::io::Error::other(format!("{line}: {}", head.trim()))),
    }
}
