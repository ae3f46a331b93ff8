use std::time::{Duration, Instant};

use terrace_testbed::{Proxy, Stall};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);
const A_WHILE: Duration = Duration::from_millis(50);

/// Starts a server that sends back the bytes it receives, and returns its port.
async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = socket.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    port
}

async fn client(proxy: &Proxy) -> TcpStream {
    TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap()
}

async fn round_trip(socket: &mut TcpStream, sent: &[u8]) -> std::io::Result<()> {
    socket.write_all(sent).await?;
    let mut reply = vec![0; sent.len()];
    socket.read_exact(&mut reply).await?;
    assert_eq!(reply, sent);
    Ok(())
}

#[tokio::test]
async fn passes_bytes_and_the_end_of_a_stream() {
    let proxy = Proxy::start(echo().await).unwrap();
    let mut socket = client(&proxy).await;
    let megabyte: Vec<u8> = (0..1 << 20).map(|n: u32| n.to_le_bytes()[0]).collect();
    let (mut read, mut write) = socket.split();
    let mut reply = Vec::new();
    let sent = async {
        write.write_all(&megabyte).await.unwrap();
        write.shutdown().await.unwrap();
    };
    let (_, _) = tokio::join!(sent, async { read.read_to_end(&mut reply).await.unwrap() });
    assert_eq!(reply, megabyte);
    assert_eq!(proxy.accepted(), 1);
}

#[tokio::test]
async fn cut_ends_every_open_connection_and_takes_new_ones() {
    let proxy = Proxy::start(echo().await).unwrap();
    let (mut one, mut two) = (client(&proxy).await, client(&proxy).await);
    round_trip(&mut one, b"a").await.unwrap();
    round_trip(&mut two, b"b").await.unwrap();
    assert_eq!(proxy.open(), 2);
    proxy.cut().await;
    assert_eq!(proxy.open(), 0);
    for socket in [&mut one, &mut two] {
        assert!(timeout(SOON, round_trip(socket, b"c")).await.unwrap().is_err());
    }
    round_trip(&mut client(&proxy).await, b"d").await.unwrap();
}

#[tokio::test]
async fn refuse_is_a_refused_connection_until_accept() {
    let proxy = Proxy::start(echo().await).unwrap();
    let mut open = client(&proxy).await;
    round_trip(&mut open, b"a").await.unwrap();
    proxy.refuse().await;
    assert!(timeout(SOON, round_trip(&mut open, b"b")).await.unwrap().is_err());
    let error = TcpStream::connect(("127.0.0.1", proxy.port())).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
    proxy.accept().await;
    round_trip(&mut client(&proxy).await, b"c").await.unwrap();
}

#[tokio::test]
async fn a_stall_holds_bytes_and_resume_hands_them_on() {
    let proxy = Proxy::start(echo().await).unwrap();
    let mut socket = client(&proxy).await;
    round_trip(&mut socket, b"a").await.unwrap();
    proxy.stall(Stall::Both);
    socket.write_all(b"held").await.unwrap();
    let mut reply = [0; 4];
    assert!(timeout(A_WHILE, socket.read_exact(&mut reply)).await.is_err());
    proxy.resume();
    timeout(SOON, socket.read_exact(&mut reply)).await.unwrap().unwrap();
    assert_eq!(&reply, b"held");
}

#[tokio::test]
async fn stalled_replies_let_requests_arrive() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap().port()).unwrap();
    let mut socket = client(&proxy).await;
    let (mut server, _) = listener.accept().await.unwrap();
    proxy.stall(Stall::Replies);
    socket.write_all(b"put").await.unwrap();
    let mut request = [0; 3];
    timeout(SOON, server.read_exact(&mut request)).await.unwrap().unwrap();
    assert_eq!(&request, b"put");
    server.write_all(b"ok").await.unwrap();
    let mut reply = [0; 2];
    assert!(timeout(A_WHILE, socket.read_exact(&mut reply)).await.is_err());
    // The answer is lost for good: the write took effect, and the caller cannot know.
    proxy.cut().await;
    assert!(timeout(SOON, socket.read_exact(&mut reply)).await.unwrap().is_err());
}

#[tokio::test]
async fn split_traffic_arrives_whole_and_in_more_than_one_read() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap().port()).unwrap();
    proxy.split(Some(1));
    let mut socket = client(&proxy).await;
    let (mut server, _) = listener.accept().await.unwrap();
    let sent = vec![7_u8; 4096];
    socket.write_all(&sent).await.unwrap();
    let (mut received, mut reads) = (Vec::new(), 0);
    while received.len() < sent.len() {
        assert!(timeout(SOON, server.read_buf(&mut received)).await.unwrap().unwrap() > 0);
        reads += 1;
    }
    assert_eq!(received, sent);
    assert!(reads > 1, "{reads}");
}

#[tokio::test]
async fn delay_holds_for_each_direction() {
    let proxy = Proxy::start(echo().await).unwrap();
    let mut socket = client(&proxy).await;
    round_trip(&mut socket, b"a").await.unwrap();
    proxy.delay(Duration::from_millis(30));
    let start = Instant::now();
    round_trip(&mut socket, b"b").await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(60), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_target_that_is_away_ends_the_connection() {
    let away = terrace_testbed::Redis::away().await.unwrap();
    let proxy = Proxy::start(away.port()).unwrap();
    let mut socket = client(&proxy).await;
    assert_eq!(timeout(SOON, socket.read(&mut [0; 1])).await.unwrap().unwrap_or(0), 0);
}

#[tokio::test]
async fn a_dropped_proxy_cuts_its_connections() {
    let proxy = Proxy::start(echo().await).unwrap();
    let mut socket = client(&proxy).await;
    round_trip(&mut socket, b"a").await.unwrap();
    drop(proxy);
    assert!(timeout(SOON, round_trip(&mut socket, b"b")).await.unwrap().is_err());
}

#[tokio::test(start_paused = true)]
async fn works_beside_virtual_time() {
    let redis = terrace_testbed::Redis::start().await.unwrap();
    let proxy = Proxy::start(redis.port()).unwrap();
    let mut socket = client(&proxy).await;
    socket.write_all(b"PING\r\n").await.unwrap();
    let mut reply = [0; 7];
    socket.read_exact(&mut reply).await.unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}

#[tokio::test]
async fn a_moved_proxy_leads_new_connections_to_the_new_target() {
    let (one, two) =
        tokio::try_join!(terrace_testbed::Redis::start(), terrace_testbed::Redis::start()).unwrap();
    let proxy = Proxy::start(one.port()).unwrap();
    let port_of = async || {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", proxy.port())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let info: String = redis::cmd("INFO").arg("server").query_async(&mut connection).await.unwrap();
        info.lines().find(|line| line.starts_with("tcp_port")).unwrap().to_owned()
    };
    assert_eq!(port_of().await, format!("tcp_port:{}", one.port()));
    let mut open = client(&proxy).await;
    round_trip_ping(&mut open).await;
    proxy.lead_to(two.port());
    assert_eq!(port_of().await, format!("tcp_port:{}", two.port()));
    round_trip_ping(&mut open).await;
}

async fn round_trip_ping(socket: &mut TcpStream) {
    socket.write_all(b"PING\r\n").await.unwrap();
    let mut reply = [0; 7];
    timeout(SOON, socket.read_exact(&mut reply)).await.unwrap().unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}
