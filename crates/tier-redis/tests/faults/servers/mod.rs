//! Servers as they are run: moved, demoted, watched by sentinels, behind TLS, with few permissions, or full.

mod acl;
mod failover;
mod full;
mod login;
mod protocol;
mod ready;
mod secrets;
mod sentinel;

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use terrace_testbed::Redis;
use terrace_tier::{Error, Finding, FindingTopic, FindingWatcher};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

use crate::bench::Bench;

/// A watcher that records what it is told.
#[derive(Default)]
struct Recording(Mutex<Vec<Finding>>);

impl FindingWatcher for Recording {
    fn found(&self, finding: &Finding) {
        self.0.lock().push(finding.clone());
    }
}

impl Recording {
    fn on(bench: &Bench) -> Arc<Self> {
        let recording = Arc::new(Self::default());
        let watcher: Arc<dyn FindingWatcher> = Arc::clone(&recording) as _;
        let watcher: Weak<dyn FindingWatcher> = Arc::downgrade(&watcher);
        bench.tier.watch_findings(watcher);
        recording
    }

    async fn is_told(&self, topic: FindingTopic) -> Finding {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(finding) = self.0.lock().iter().find(|finding| finding.topic() == topic) {
                return finding.clone();
            }
            assert!(Instant::now() < end, "{topic:?} must be told: {:?}", self.0.lock());
            sleep(Duration::from_millis(2)).await;
        }
    }
}

async fn command(raw: &mut MultiplexedConnection, words: &[&str]) {
    let mut command = redis::Cmd::new();
    command.arg(words).exec_async(raw).await.unwrap();
}

/// Makes a server the replica of a port at which nothing listens.
async fn demote(server: &Redis) {
    command(&mut crate::bench::raw(&server.url()).await, &["REPLICAOF", "127.0.0.1", "1"]).await;
}

/// Writes until the tier takes a write, and returns the time that it took. Panics after `limit`.
async fn takes_writes_within(bench: &Bench, limit: Duration) -> Duration {
    let start = Instant::now();
    loop {
        match bench.put_in_budget("is it back?", "yes").await {
            Ok(_) => return start.elapsed(),
            Err(error) => assert!(start.elapsed() < limit, "still refused after {limit:?}: {error}"),
        }
        sleep(Duration::from_millis(5)).await;
    }
}

/// A server on loopback that answers each piece of bytes that it reads by `answer`. Returns its port.
async fn fake_server(answer: impl Fn(&[u8]) -> Vec<u8> + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(length @ 1..) = socket.read(&mut bytes).await {
                    if socket.write_all(&answer(&bytes[..length])).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// What a meddling proxy does with a request.
enum Meddle {
    Forward(Vec<u8>),
    Answer(Vec<u8>),
}

/// A proxy before `target` that answers requests by itself, or forwards other ones. A request must arrive in one
/// piece, as the first ones of a connection do.
async fn meddling_proxy(target: u16, meddle: impl Fn(&[u8]) -> Meddle + Clone + Send + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let meddle = meddle.clone();
            tokio::spawn(async move {
                let server = TcpStream::connect(("127.0.0.1", target)).await?;
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let (mut requests, mut replies) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
                loop {
                    tokio::select! {
                        length = from_client.read(&mut requests) => match length? {
                            0 => return Ok::<_, std::io::Error>(()),
                            length => match meddle(&requests[..length]) {
                                Meddle::Answer(reply) => to_client.write_all(&reply).await?,
                                Meddle::Forward(request) => to_server.write_all(&request).await?,
                            },
                        },
                        length = from_server.read(&mut replies) => match length? {
                            0 => return Ok(()),
                            length => to_client.write_all(&replies[..length]).await?,
                        },
                    }
                }
            });
        }
    });
    port
}

/// Whether `word` stands in a request.
fn has(request: &[u8], word: &str) -> bool {
    request.windows(word.len()).any(|part| part.eq_ignore_ascii_case(word.as_bytes()))
}

/// The finding of an error that waiting does not resolve.
fn lasting(error: &Error, topic: FindingTopic) -> Finding {
    assert!(!error.is_transient(), "{error:?}");
    let finding = error.finding().unwrap_or_else(|| panic!("{error} has no finding"));
    assert_eq!(finding.topic(), topic, "{error}");
    finding.clone()
}
