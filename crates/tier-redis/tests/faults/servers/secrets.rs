//! No output shows a password, whatever a server answers.

use std::{error::Error as _, fmt::Write as _, sync::Arc};

use parking_lot::Mutex;
use terrace_testbed::Redis as Server;
use terrace_tier::{BoxError, Credentials, Error};
use terrace_tier_redis::Redis;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{Meddle, Recording, fake_server, has, meddling_proxy};
use crate::bench::Bench;

const SECRETS: [&str; 3] = ["S3cret-of-the-url", "S3cret-of-the-sentinels", "S3cret-of-the-provider"];

/// Collects the text of all events, at all levels.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl Subscriber for Log {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _span: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _span: &span::Id, _values: &span::Record<'_>) {}

    fn record_follows_from(&self, _span: &span::Id, _follows: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text<'a>(&'a mut String);
        impl Visit for Text<'_> {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                let _infallible = writeln!(self.0, "{field}={value:?}");
            }
        }
        event.record(&mut Text(&mut self.0.lock()));
    }

    fn enter(&self, _span: &span::Id) {}

    fn exit(&self, _span: &span::Id) {}
}

/// All that a user may print of an error.
fn all_of(error: &Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?} {:?}", error.finding());
    let mut source = error.source();
    while let Some(cause) = source {
        let _infallible = write!(text, " {cause} {cause:?}");
        source = cause.source();
    }
    text
}

/// Uses a tier in every way, and returns all that it said.
async fn all_said_by(bench: &Bench) -> String {
    let told = Recording::on(bench);
    let mut said = format!("{:?} {:?}", bench.handle, bench.tier);
    for _ in 0..2 {
        said += &bench.tier.ready().await.err().map_or_else(String::new, |error| all_of(&error));
        let outcomes = [bench.get("k").await.err(), bench.put("k", "value").await.err()];
        let others = [bench.tier.clear().await.err(), bench.tier.ping().await.err()];
        for error in outcomes.iter().chain(&others).flatten() {
            said += &all_of(error);
        }
    }
    said + &format!("{:?}", told.0.lock())
}

/// Each secret stands in the login of one of the connections.
fn bench_with_secrets(port: u16, way: usize) -> Bench {
    let [url, sentinels, provider] = SECRETS;
    let builder = match way {
        0 => Redis::builder(format!("redis://:{url}@127.0.0.1:{port}")),
        1 => Redis::builder(format!("redis+sentinel://:{url}@127.0.0.1:{port}/main"))
            .sentinel_password(sentinels),
        _ => Redis::builder(format!("redis://:{url}@127.0.0.1:{port}"))
            .credentials(move || async move { Ok::<_, BoxError>(Credentials::password(provider)) }),
    };
    Bench::through(builder.build().unwrap(), "redis://localhost")
}

fn shows_none(said: &str) {
    for secret in SECRETS {
        assert!(!said.contains(secret), "{said}");
    }
}

#[tokio::test]
async fn a_password_that_a_server_repeats_is_in_no_output() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    // A server that repeats what it is sent, as Redis does for a command that it does not know.
    let echo = fake_server(|request| {
        let request = String::from_utf8_lossy(request).replace("\r\n", " ");
        match request.contains("PING") {
            true => b"+PONG\r\n".to_vec(),
            false => format!("-ERR cannot do: {request}\r\n").repeat(8).into_bytes(),
        }
    })
    .await;
    for way in 0..3 {
        let said = all_said_by(&bench_with_secrets(echo, way)).await;
        // The client library keeps the words of a refused AUTH to itself.
        assert!(said.contains(if way == 1 { "refused the login" } else { "cannot do" }), "{said}");
        shows_none(&said);
    }
    shows_none(&log.0.lock());
}

#[tokio::test]
async fn a_password_that_a_proxy_repeats_later_is_in_no_output() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let server = Server::options().password(SECRETS[0]).start().await.unwrap();
    // A proxy that logs in at the server for each command, and repeats the login where that fails.
    let port = meddling_proxy(server.port(), |request| match has(request, "EVAL") {
        true => {
            Meddle::Answer(format!("-ERR cannot log in by AUTH {}\r\n", SECRETS[0]).repeat(4).into_bytes())
        }
        false => Meddle::Forward(request.to_vec()),
    });
    let bench = bench_with_secrets(port.await, 0);
    let error = bench.put("k", "value").await.unwrap_err();
    let said = all_of(&error) + &all_said_by(&bench).await;
    assert!(said.contains("cannot log in by AUTH ***"), "{said}");
    assert!(log.0.lock().contains("connected to redis"), "events are collected");
    shows_none(&said);
    shows_none(&log.0.lock());
}

#[tokio::test]
async fn a_wrong_password_is_in_no_output() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let plain = Server::options().password("right").start().await.unwrap();
    let old =
        Server::options().password("right").config("rename-command", "HELLO \"\"").start().await.unwrap();
    for server in [&plain, &old] {
        for way in [0, 2] {
            shows_none(&all_said_by(&bench_with_secrets(server.port(), way)).await);
        }
    }
    shows_none(&log.0.lock());
}
