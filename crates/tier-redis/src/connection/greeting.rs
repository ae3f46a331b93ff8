//! The first words on a new stream: a PING that shows what listens there, before any password is sent to it.

use std::{io, time::Duration};

use terrace_tier::{Error, FindingTopic, Secrets};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    address::Host,
    stream::{Stream, tcp},
    tls::{Certificates, Tls, tls_error},
};
use crate::{
    error::{Effect, client_error},
    findings::config_error,
};

/// The longest time for finding out why a server does not answer as it should.
pub(super) const DIAGNOSIS: Duration = Duration::from_millis(500);

/// The most bytes of the first answer.
const ANSWER_BYTES: usize = 512;
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";

/// The answer to the greeting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeting {
    /// A Redis server, which may want a login first.
    Redis,
    /// A Redis server that refuses to serve, with the words of its answer.
    Refused(String),
    Tls,
    Http,
    /// Something else.
    Foreign,
}

/// Sends a PING and reads the first line.
pub(super) async fn greet(stream: &mut Stream) -> io::Result<Greeting> {
    // A server that refuses the client's certificate closes the stream, perhaps before the write; its reason is
    // still to be read.
    let written = async {
        stream.write_all(PING).await?;
        stream.flush().await
    };
    let written = written.await;
    let mut answer = Vec::with_capacity(64);
    while answer.len() < ANSWER_BYTES && !answer.ends_with(b"\n") {
        let mut chunk = [0; ANSWER_BYTES];
        match stream.read(&mut chunk).await {
            Ok(0) if answer.is_empty() => {
                written?;
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&chunk[..length]),
            Err(cause) if answer.is_empty() => return Err(cause),
            Err(_) => break,
        }
        if !matches!(answer[0], b'+' | b'-' | b'H') {
            break;
        }
    }
    Ok(meaning(&answer))
}

fn meaning(answer: &[u8]) -> Greeting {
    match answer {
        [b'+', ..] => Greeting::Redis,
        [b'-', text @ ..] => {
            let text = String::from_utf8_lossy(text).trim_end().to_owned();
            let refuses = ["LOADING", "MASTERDOWN", "CLUSTERDOWN", "DENIED", "ERR max number of clients"];
            match refuses.iter().any(|code| text.starts_with(code)) {
                true => Greeting::Refused(text),
                false => Greeting::Redis,
            }
        }
        // A TLS alert, of any version of TLS.
        [0x15, 0x03, ..] => Greeting::Tls,
        [b'H', b'T', b'T', b'P', ..] => Greeting::Http,
        _ => Greeting::Foreign,
    }
}

/// The error of a greeting that says that the server cannot be used.
pub(super) fn refusal(greeting: Greeting, secrets: &Secrets) -> Option<Error> {
    match greeting {
        Greeting::Redis => None,
        Greeting::Refused(text) => {
            let answer = redis::parse_redis_value(format!("-{text}\r\n").as_bytes());
            let cause = answer.and_then(redis::Value::extract_error).err();
            cause.map(|cause| client_error(&cause, Effect::Read, secrets))
        }
        Greeting::Tls => Some(speaks_tls()),
        Greeting::Http => Some(protocol(
            "an HTTP server listens at this host and port",
            "give the host and the port of a Redis server",
        )),
        Greeting::Foreign => Some(protocol(
            "what listens at this host and port is no Redis server",
            "give the host and the port of a Redis server",
        )),
    }
}

/// Finds out whether the server at which a TLS handshake failed speaks Redis, or something else, without TLS.
pub(super) async fn why_no_tls(host: &Host) -> Option<Error> {
    let attempt = async {
        let mut stream: Stream = Box::new(tcp(host).await.ok()?);
        greet(&mut stream).await.ok()
    };
    match timeout(DIAGNOSIS, attempt).await.ok().flatten()? {
        Greeting::Redis | Greeting::Refused(_) => {
            Some(protocol("the server speaks no TLS at this port", "use redis://, or the port of its TLS"))
        }
        Greeting::Tls => None,
        other => refusal(other, &Secrets::default()),
    }
}

/// Finds out whether the server that closed a stream without an answer speaks TLS.
pub(super) async fn why_no_answer(host: &Host) -> Option<Error> {
    let tls = Tls::new(&Certificates::default()).ok()?;
    let attempt = async {
        let stream = tcp(host).await.ok()?;
        match tls.connect(&host.name, stream).await {
            Ok(_) => Some(()),
            Err(cause) => match tls_error(&cause)? {
                rustls::Error::InvalidCertificate(_) | rustls::Error::AlertReceived(_) => Some(()),
                _ => None,
            },
        }
    };
    timeout(DIAGNOSIS, attempt).await.ok().flatten().map(|()| speaks_tls())
}

fn speaks_tls() -> Error {
    protocol("the server speaks TLS at this port", "use rediss://")
}

fn protocol(cause: &str, cure: &str) -> Error {
    config_error(FindingTopic::Protocol, cause, cure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_shows_what_listens() {
        for (answer, expected) in [
            (&b"+PONG\r\n"[..], Greeting::Redis),
            (b"-NOAUTH Authentication required.\r\n", Greeting::Redis),
            (b"-LOADING Redis is loading\r\n", Greeting::Refused("LOADING Redis is loading".into())),
            (
                b"-MASTERDOWN Link with MASTER is down\r\n",
                Greeting::Refused("MASTERDOWN Link with MASTER is down".into()),
            ),
            (b"\x15\x03\x01\x00\x02\x02\x46", Greeting::Tls),
            (b"HTTP/1.1 400 Bad Request\r\n", Greeting::Http),
            (b"220 mail.example ESMTP\r\n", Greeting::Foreign),
            (b"", Greeting::Foreign),
        ] {
            assert_eq!(meaning(answer), expected);
        }
    }
}
