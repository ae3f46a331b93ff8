//! `ready` names what is wrong with a server, and finds nothing wrong with a right one.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use std::sync::Arc;

use parking_lot::Mutex;
use support::{connect, follower::RecordingFollower, key, namespace, open, put, run};
use terrace_testbed::{Postgres as Server, Proxy, shared_postgres};
use terrace_tier::{
    Backend, BoxError, Credentials, Error, ErrorKind, Finding, FindingTopic, FindingWatcher, Op, Reply, Role,
};
use terrace_tier_postgres::Postgres;
use tokio::{io::AsyncWriteExt, net::TcpListener};

fn topics(findings: &[Finding]) -> Vec<FindingTopic> {
    findings.iter().map(Finding::topic).collect()
}

fn topic(error: &Error) -> FindingTopic {
    error.finding().unwrap_or_else(|| panic!("no finding: {error}")).topic()
}

#[tokio::test]
async fn a_right_server_has_nothing_wrong() {
    let server = Server::options().durable().start().await.expect("a server");
    for (role, name) in [(Role::Store, "records"), (Role::Cache, "copies")] {
        let handle = Postgres::new(&server.url()).expect("a handle");
        let tier = handle.open(&namespace(role).with_name(name)).expect("a tier");
        assert_eq!(tier.ready().await.expect("ready"), []);
    }
    // It leaves nothing behind.
    let left: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM terrace.records) + (SELECT count(*) FROM terrace.cache_entries) \
             + (SELECT count(*) FROM terrace.outbox) + (SELECT count(*) FROM terrace.lease_signs)",
    )
    .fetch_one(&mut connect(&server.url()).await)
    .await
    .expect("a count");
    assert_eq!(left, 0);
}

#[tokio::test]
async fn settings_that_lose_records_or_space_are_found_and_slow_only() {
    let server = Server::options().setting("autovacuum", "off").start().await.expect("a server");
    let ready = async |role, name: &str| {
        let handle = Postgres::new(&server.url()).expect("a handle");
        let tier = handle.open(&namespace(role).with_name(name)).expect("a tier");
        topics(&tier.ready().await.expect("ready"))
    };
    assert_eq!(ready(Role::Store, "records").await, [FindingTopic::Durability, FindingTopic::Memory]);
    assert_eq!(ready(Role::Cache, "copies").await, [FindingTopic::Memory], "copies may be lost");
}

#[tokio::test]
async fn a_server_that_takes_no_writes_stops_the_cache() {
    let server = Server::start().await.expect("a server");
    open(&server.url(), Role::Store).ready().await.expect("ready");
    server.read_only(true).await.expect("read-only");
    let error = open(&server.url(), Role::Store).ready().await.expect_err("no writes");
    assert_eq!((error.kind(), topic(&error)), (ErrorKind::ReadOnly, FindingTopic::Role), "{error}");
    assert!(!error.is_transient());
}

#[tokio::test]
async fn each_missing_function_is_found_before_a_caller_meets_it() {
    let functions = [
        (
            "store_put(integer, bytea[], bytea[], bigint[], bigint[], bigint[], bigint[], bigint[], bytea[])",
            Role::Store,
        ),
        ("cache_lease(integer, bytea[], bytea[], bigint[], bigint[], bigint[], bigint[])", Role::Cache),
        ("lease_status(integer[], bytea[], bigint[])", Role::Cache),
        ("lease_sign(bigint[], bigint, boolean)", Role::Cache),
        ("space_find(text, text, text)", Role::Store),
        ("outbox_has_gap(pg_snapshot)", Role::Store),
    ];
    for (function, role) in functions {
        let url = shared_postgres().await.expect("a server");
        open(&url, role).ready().await.expect("ready");
        let rename = format!("ALTER FUNCTION terrace.{function} RENAME TO gone");
        sqlx::raw_sql(sqlx::AssertSqlSafe(rename)).execute(&mut connect(&url).await).await.expect("gone");
        let error = open(&url, role).ready().await.expect_err(function);
        assert_eq!(topic(&error), FindingTopic::Schema, "{function}: {error}");
    }
}

#[tokio::test]
async fn a_right_that_is_taken_away_is_named() {
    let url = shared_postgres().await.expect("a server");
    open(&url, Role::Cache).ready().await.expect("ready");
    let (guest, role) = support::make_role(&url).await;
    let grant = format!(
        "SELECT terrace.grant_use_to('{role}', false); REVOKE EXECUTE ON FUNCTION terrace.lease_status FROM {role}"
    );
    sqlx::raw_sql(sqlx::AssertSqlSafe(grant)).execute(&mut connect(&url).await).await.expect("granted");
    let error = open(&guest, Role::Cache).ready().await.expect_err("a right is missing");
    assert_eq!((error.kind(), topic(&error)), (ErrorKind::Denied, FindingTopic::Permission), "{error}");
    assert!(error.to_string().contains("lease_status"), "the server says which: {error}");
}

/// Answers every connection with these bytes, then closes it.
async fn impostor(answer: impl Into<Vec<u8>>) -> String {
    let answer = Arc::new(answer.into());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _sent = socket.write_all(&answer).await;
            let _closed = socket.shutdown().await;
            // A socket that is dropped with unread bytes would reset the connection.
            tokio::spawn(async move { tokio::io::copy(&mut socket, &mut tokio::io::sink()).await });
        }
    });
    format!("postgres://app:hunter2@127.0.0.1:{port}/app")
}

#[tokio::test]
async fn what_is_no_postgres_is_a_wrong_setting_and_not_waited_for() {
    let http = impostor(*b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let redis = impostor(*b"-ERR unknown command\r\n").await;
    let server = Server::start().await.expect("a server");
    let plain = format!("{}?sslmode=require", server.url());
    for url in [http, redis, plain] {
        let error = open(&url, Role::Store).ready().await.expect_err("no Postgres with TLS");
        assert_eq!((error.kind(), topic(&error)), (ErrorKind::Config, FindingTopic::Protocol), "{error}");
        assert!(!error.is_transient() && !format!("{error:?}").contains("hunter2"));
    }
}

#[tokio::test]
async fn a_password_that_the_server_quotes_appears_in_no_error() {
    // An error response that quotes what it was sent, as poolers and proxies do.
    let text = b"SFATAL\0VFATAL\0C28000\0Mno login for app with password hunter2\0\0";
    let mut quoting = b"NR\0\0\0\x08\0\0\0\x03E".to_vec();
    quoting.extend_from_slice(&u32::try_from(text.len() + 4).expect("small").to_be_bytes());
    quoting.extend_from_slice(text);
    let url = impostor(quoting).await;
    for error in [
        open(&url, Role::Store).ready().await.expect_err("refused"),
        open(&url, Role::Store).apply(&key(1), put("v")).await.expect_err("refused"),
    ] {
        let mut texts = format!("{error} {error:?}");
        let mut source = std::error::Error::source(&error);
        while let Some(inner) = source {
            texts += &format!(" {inner} {inner:?}");
            source = inner.source();
        }
        assert!(!texts.contains("hunter2"), "{texts}");
        assert!(texts.contains("***"), "the text is the server's own: {texts}");
    }
}

#[tokio::test]
async fn the_provider_is_asked_for_each_connection_and_its_failure_is_told() {
    let server = Server::options().password("sesame123").start().await.expect("a server");
    let login = Arc::new(Mutex::new(Ok("sesame123".to_owned())));
    let asked = Arc::new(Mutex::new(0));
    let provider = {
        let (login, asked) = (Arc::clone(&login), Arc::clone(&asked));
        move || {
            *asked.lock() += 1;
            let login: Result<String, String> = login.lock().clone();
            async move {
                let password = login.map_err(BoxError::from)?;
                Ok::<_, BoxError>(Credentials::new("terrace_test_app", password))
            }
        }
    };
    let url = format!("postgres://nobody:wrong@127.0.0.1:{}/terrace_test_app", server.port());
    let handle = || Postgres::builder(&url).credentials(provider.clone()).build().expect("a handle");
    let tier = |handle: Postgres| handle.open(&namespace(Role::Store)).expect("a tier");
    let first = tier(handle());
    first.apply(&key(1), put("v")).await.expect("a record");
    assert_eq!(*asked.lock(), 1, "a connection keeps its login");
    // The token is replaced. Open connections go on, and a new one needs the new token.
    *login.lock() = Ok("outdated-hunter2".to_owned());
    assert!(matches!(first.apply(&key(1), Op::Get).await, Ok(Reply::Hit(_))));
    let error = tier(handle()).apply(&key(1), Op::Get).await.expect_err("an outdated token");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(!format!("{error:?}").contains("hunter2"));
    // The provider fails: the tier tries again later.
    *login.lock() = Err("the vault is sealed".to_owned());
    let second = tier(handle());
    let error = second.apply(&key(1), Op::Get).await.expect_err("no login");
    assert!(error.is_transient() && error.to_string().contains("the vault is sealed"), "{error}");
    *login.lock() = Ok("sesame123".to_owned());
    // The next attempt to connect begins after a short pause.
    let restored = std::time::Instant::now();
    while !matches!(second.apply(&key(1), Op::Get).await, Ok(Reply::Hit(_))) {
        assert!(restored.elapsed() < std::time::Duration::from_secs(2), "the new login is not used");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[derive(Default)]
struct Recorded(Mutex<Vec<Finding>>);

impl FindingWatcher for Recorded {
    fn found(&self, finding: &Finding) {
        self.0.lock().push(finding.clone());
    }
}

#[tokio::test]
async fn a_log_that_cannot_be_read_is_told_while_the_tier_is_in_use() {
    let server = Server::start().await.expect("a server");
    let proxy = Proxy::start(server.port()).expect("a proxy");
    let url = server.url().replace(&format!(":{}/", server.port()), &format!(":{}/", proxy.port()));
    let handle = Postgres::new(&url).expect("a handle");
    let tier = handle.open(&namespace(Role::Store)).expect("a tier");
    let watcher = Arc::new(Recorded::default());
    let weak = Arc::downgrade(&watcher);
    tier.watch_findings(weak);
    let follower = RecordingFollower::new();
    handle.log().expect("a log").follow("users", follower.weak());
    follower.caught_up().await;
    assert!(watcher.0.lock().is_empty());
    // The right to read the log is taken away.
    run(&server.url(), "ALTER FUNCTION terrace.outbox_has_gap(pg_snapshot) RENAME TO gone").await;
    for _ in 0..1000 {
        if let Some(finding) = watcher.0.lock().first() {
            assert_eq!(finding.topic(), FindingTopic::Log);
            assert!(!finding.is_stopping() && finding.cause().contains("log in Postgres"), "{finding}");
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("nobody was told");
}
