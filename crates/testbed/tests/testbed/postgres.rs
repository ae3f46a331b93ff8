use std::io::ErrorKind;
use std::net::TcpStream;
use std::time::Duration;

use sqlx::{Connection, Executor, PgConnection};
use terrace_testbed::{Error, Postgres};

#[tokio::test]
async fn keeps_committed_rows_over_a_kill_and_gives_fresh_databases() {
    let postgres = Postgres::start().await.unwrap();
    let url = postgres.create_database().await.unwrap();
    let mut session = PgConnection::connect(&url).await.unwrap();
    session.execute("create table t as select 7 as n").await.unwrap();

    postgres.kill9().unwrap();
    assert!(session.ping().await.is_err());
    let error = TcpStream::connect(("127.0.0.1", postgres.port())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    postgres.restart().await.unwrap();

    let mut session = PgConnection::connect(&url).await.unwrap();
    let n: i32 = sqlx::query_scalar("select n from t").fetch_one(&mut session).await.unwrap();
    assert_eq!(n, 7);
    let other = postgres.create_database().await.unwrap();
    let mut session = PgConnection::connect(&other).await.unwrap();
    assert!(session.execute("select n from t").await.is_err());
}

#[tokio::test]
async fn pause_stops_open_sessions_and_resume_lets_them_answer() {
    let postgres = Postgres::start().await.unwrap();
    let mut session = PgConnection::connect(&postgres.url()).await.unwrap();
    postgres.pause().unwrap();
    let mut answer = tokio::spawn(async move {
        sqlx::query_scalar::<_, i32>("select 1").fetch_one(&mut session).await.unwrap()
    });
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut answer).await.is_err());
    postgres.resume().unwrap();
    assert_eq!(answer.await.unwrap(), 1);
}

#[tokio::test]
async fn read_only_holds_for_open_and_new_sessions_and_can_be_undone() {
    let postgres = Postgres::start().await.unwrap();
    let mut open = PgConnection::connect(&postgres.url()).await.unwrap();
    open.execute("create table t (n int)").await.unwrap();
    postgres.read_only(true).await.unwrap();
    let mut new = PgConnection::connect(&postgres.url()).await.unwrap();
    for session in [&mut open, &mut new] {
        let error = session.execute("insert into t values (1)").await.unwrap_err();
        let code = error.as_database_error().and_then(|error| error.code()).unwrap().into_owned();
        assert_eq!(code, "25006");
    }
    postgres.read_only(false).await.unwrap();
    open.execute("insert into t values (1)").await.unwrap();
    new.execute("insert into t values (1)").await.unwrap();
}

#[tokio::test]
async fn a_password_is_asked_for_and_never_printed() {
    let postgres = Postgres::options().password("sesame123").start().await.unwrap();
    let mut session = PgConnection::connect(&postgres.url()).await.unwrap();
    session.ping().await.unwrap();
    let wrong = postgres.url().replace("sesame123", "wrong");
    let error = PgConnection::connect(&wrong).await.unwrap_err();
    let code = error.as_database_error().and_then(|error| error.code()).unwrap().into_owned();
    assert_eq!(code, "28P01");
    assert!(!format!("{postgres:?}").contains("sesame123"));
}

#[tokio::test]
async fn settings_and_durability_reach_the_server() {
    let options = Postgres::options().durable().setting("max_connections", "17");
    let postgres = options.start().await.unwrap();
    let mut session = PgConnection::connect(&postgres.url()).await.unwrap();
    for (query, expected) in [("show fsync", "on"), ("show max_connections", "17")] {
        let seen: String = sqlx::query_scalar(query).fetch_one(&mut session).await.unwrap();
        assert_eq!(seen, expected, "{query}");
    }
}

#[tokio::test]
async fn away_means_refused_until_it_comes() {
    let postgres = Postgres::away().await.unwrap();
    let error = TcpStream::connect(("127.0.0.1", postgres.port())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    postgres.restart().await.unwrap();
    PgConnection::connect(&postgres.url()).await.unwrap();
}

#[tokio::test]
async fn a_wrong_setting_is_an_error_with_the_servers_words() {
    let error = Postgres::options().setting("no_such_setting", "1").start().await.unwrap_err();
    assert!(matches!(&error, Error::Exited { log, .. } if log.contains("no_such_setting")), "{error}");
}

#[tokio::test]
async fn it_reports_its_version() {
    let postgres = Postgres::start().await.unwrap();
    let mut session = PgConnection::connect(&postgres.url()).await.unwrap();
    let long: String = sqlx::query_scalar("select version()").fetch_one(&mut session).await.unwrap();
    let version = postgres.version().await.unwrap();
    let number = version.strip_prefix("postgres ").unwrap();
    assert!(long.starts_with(&format!("PostgreSQL {number} ")), "{version}: {long}");
}

#[tokio::test]
async fn tests_log_in_as_a_role_that_owns_its_databases_and_is_no_superuser() {
    let postgres = Postgres::options().password("sesame123").start().await.unwrap();
    for url in [postgres.url(), postgres.create_database().await.unwrap()] {
        let mut session = PgConnection::connect(&url).await.unwrap();
        let ordinary: bool = sqlx::query_scalar(
            "select not usesuper and not usecreatedb from pg_user where usename = current_user",
        )
        .fetch_one(&mut session)
        .await
        .unwrap();
        assert!(ordinary);
        session.execute("create schema mine; create table mine.t (n int)").await.unwrap();
    }
}

#[tokio::test]
async fn a_standby_follows_its_primary_until_it_is_promoted() {
    let primary = Postgres::start().await.unwrap();
    let standby = primary.start_standby().await.unwrap();
    let mut session = PgConnection::connect(&primary.url()).await.unwrap();
    session.execute("create table t as select 7 as n").await.unwrap();
    primary.wait_for(&standby).await.unwrap();
    let mut there = PgConnection::connect(&standby.url()).await.unwrap();
    let n: i32 = sqlx::query_scalar("select n from t").fetch_one(&mut there).await.unwrap();
    assert_eq!(n, 7);
    assert!(there.execute("insert into t values (8)").await.is_err(), "a standby takes no writes");
    primary.kill9().unwrap();
    standby.promote().await.unwrap();
    there.execute("insert into t values (8)").await.unwrap();
}
