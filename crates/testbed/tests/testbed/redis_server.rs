use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use redis::Commands;
use terrace_testbed::{Error, Redis};

fn connect(redis: &Redis) -> redis::RedisResult<redis::Connection> {
    redis::Client::open(redis.url())?.get_connection()
}

#[tokio::test]
async fn answers_on_its_url_and_ends_with_its_handle() {
    let redis = Redis::start().await.unwrap();
    let _done: () = connect(&redis).unwrap().set("a", 1).unwrap();
    let port = redis.port();
    drop(redis);
    let error = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn two_are_apart() {
    let (one, two) = tokio::try_join!(Redis::start(), Redis::start()).unwrap();
    let _done: () = connect(&one).unwrap().set("a", 1).unwrap();
    assert_eq!(connect(&two).unwrap().get::<_, Option<i32>>("a").unwrap(), None);
    assert_ne!(one.pid().unwrap(), two.pid().unwrap());
}

#[tokio::test]
async fn a_killed_one_refuses_until_it_is_started_again_on_its_port() {
    let redis = Redis::start().await.unwrap();
    let (port, pid) = (redis.port(), redis.pid().unwrap());
    let _done: () = connect(&redis).unwrap().set("a", 1).unwrap();
    redis.kill9().unwrap();
    let error = TcpStream::connect(("127.0.0.1", port)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert!(matches!(redis.pid(), Err(Error::NotRunning { .. })));
    assert!(matches!(redis.kill9(), Err(Error::NotRunning { .. })));
    redis.restart().await.unwrap();
    assert_eq!(redis.port(), port);
    assert_ne!(redis.pid().unwrap(), pid);
    assert_eq!(connect(&redis).unwrap().get::<_, Option<i32>>("a").unwrap(), None);
}

#[tokio::test]
async fn a_durable_one_has_its_data_after_a_kill() {
    let redis = Redis::options().durable().start().await.unwrap();
    let _done: () = connect(&redis).unwrap().set("a", 1).unwrap();
    redis.kill9().unwrap();
    redis.restart().await.unwrap();
    assert_eq!(connect(&redis).unwrap().get::<_, Option<i32>>("a").unwrap(), Some(1));
}

#[tokio::test]
async fn a_paused_one_takes_connections_and_answers_only_when_resumed() {
    let redis = Redis::start().await.unwrap();
    redis.pause().unwrap();
    let mut socket = TcpStream::connect(("127.0.0.1", redis.port())).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    socket.write_all(b"PING\r\n").unwrap();
    let mut reply = [0; 7];
    let error = socket.read_exact(&mut reply).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut));
    redis.resume().unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    socket.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}

#[tokio::test]
async fn a_paused_one_ends_with_its_handle() {
    let redis = Redis::start().await.unwrap();
    redis.pause().unwrap();
    let port = redis.port();
    drop(redis);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[tokio::test]
async fn away_means_refused_until_it_comes() {
    let redis = Redis::away().await.unwrap();
    let error = TcpStream::connect(("127.0.0.1", redis.port())).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    redis.restart().await.unwrap();
    assert!(connect(&redis).unwrap().ping::<String>().is_ok());
}

#[tokio::test]
async fn a_password_is_asked_for_and_never_printed() {
    let redis = Redis::options().password("sesame123").start().await.unwrap();
    assert!(connect(&redis).unwrap().ping::<String>().is_ok());
    let without = format!("redis://127.0.0.1:{}", redis.port());
    let client = redis::Client::open(without).unwrap();
    let refused = client.get_connection().and_then(|mut connection| connection.ping::<String>());
    assert!(refused.is_err());
    assert!(!format!("{redis:?}").contains("sesame123"));
}

#[tokio::test]
async fn a_wrong_setting_is_an_error_with_the_servers_words() {
    let error = Redis::options().config("no-such-directive", "1").start().await.unwrap_err();
    assert!(matches!(&error, Error::Exited { log, .. } if log.contains("no-such-directive")), "{error}");
}

#[tokio::test(start_paused = true)]
async fn starting_leaves_virtual_time_alone() {
    let before = tokio::time::Instant::now();
    let redis = Redis::start().await.unwrap();
    redis.restart().await.unwrap();
    assert_eq!(before.elapsed(), Duration::ZERO);
}

#[tokio::test]
async fn it_reports_its_version() {
    let redis = Redis::start().await.unwrap();
    let info: String = redis::cmd("INFO").arg("server").query(&mut connect(&redis).unwrap()).unwrap();
    let version = redis.version().await.unwrap();
    let (_name, number) = version.split_once(' ').unwrap();
    assert!(info.contains(&format!("_version:{number}\r\n")), "{version}");
    let with_password = Redis::options().password("pass").start().await.unwrap();
    assert!(matches!(with_password.version().await, Err(Error::Io { .. })));
}
