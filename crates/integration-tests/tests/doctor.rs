//! `ready` names what is wrong with a server, and the log says it once a minute while the cache is used.
//! `cargo test -p terrace-integration-tests --test doctor -- --nocapture` prints the list.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::{any::Any, collections::BTreeSet, sync::Arc};

use support::{PATIENCE, capture_log, logged, raw_redis, redis_command};
use terrace::{
    BoxError, Cache, NoNear, Postgres, Redis,
    server::{Finding, FindingTopic},
};
use terrace_testbed::{Postgres as PostgresServer, Redis as RedisServer, Sentinel, unique_name};
use tokio::{io::AsyncWriteExt, net::TcpListener, time::timeout};

type Stack = Cache<u64, String, NoNear>;

/// A server that does not suit, and a cache over it.
struct WrongServer {
    what: &'static str,
    topic: FindingTopic,
    /// Whether the cache cannot work at all.
    stops: bool,
    cache: Stack,
    /// What must live as long as the test.
    _servers: Arc<dyn Any>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_names_each_wrong_server_and_the_log_says_it_once() {
    capture_log();
    let mut list = redis_servers().await;
    list.extend(postgres_servers().await);
    assert!(list.len() >= 12);
    println!("{:48} {:15} {:6} cause", "server", "topic", "stops");
    for wrong in &list {
        let ready = timeout(PATIENCE, wrong.cache.ready()).await;
        let finding = match ready.unwrap_or_else(|_| panic!("{}: ready waits", wrong.what)) {
            Ok(findings) => {
                assert!(!wrong.stops, "{}: nothing stops the cache: {findings:?}", wrong.what);
                findings.into_iter().next()
            }
            Err(error) => {
                assert!(wrong.stops, "{}: {error}", wrong.what);
                assert!(!error.is_transient(), "{}: waiting does not help: {error}", wrong.what);
                error.finding().cloned()
            }
        };
        let finding = finding.unwrap_or_else(|| panic!("{}: no finding", wrong.what));
        assert_eq!(finding.topic(), wrong.topic, "{}: {finding:?}", wrong.what);
        print(wrong, &finding);
        use_it(&wrong.cache).await;
        let warnings = logged(&["WARN", wrong.cache.namespace()]);
        let distinct: BTreeSet<&String> = warnings.iter().collect();
        assert_eq!(distinct.len(), warnings.len(), "{}: told twice: {warnings:#?}", wrong.what);
        assert!(!warnings.is_empty(), "{}: nothing is told", wrong.what);
        for line in distinct {
            assert!(["tier=", "cause=", "cure="].iter().all(|field| line.contains(field)), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ready_finds_nothing_at_servers_that_suit() {
    let redis = RedisServer::start().await.unwrap();
    let postgres = PostgresServer::options().durable().start().await.unwrap();
    let copies: Stack = over_redis(&redis.url());
    let records: Stack = Cache::builder(unique_name("doctor"))
        .near(NoNear)
        .tier(Redis::new(redis.url()).unwrap())
        .store(Postgres::new(&postgres.url()).unwrap())
        .build()
        .unwrap();
    assert_eq!(copies.ready().await.unwrap(), []);
    assert_eq!(records.ready().await.unwrap(), []);
}

fn print(wrong: &WrongServer, finding: &Finding) {
    let (topic, stops) = (format!("{:?}", finding.topic()), if wrong.stops { "yes" } else { "no" });
    println!("{:48} {topic:15} {stops:6} {}", wrong.what, finding.cause());
}

/// Calls the cache as an application does. Its errors are of no interest here.
async fn use_it(cache: &Stack) {
    for key in 0..10 {
        let load = || async { Ok::<_, BoxError>("loaded".to_owned()) };
        let _loaded = cache.get_or_load(&key, load).await;
        let _put = cache.put(&key, "put".to_owned()).await;
        cache.settled().await;
    }
}

fn over_redis(url: &str) -> Stack {
    let builder = Cache::builder(unique_name("doctor")).near(NoNear);
    builder.tier(Redis::new(url).unwrap()).build().unwrap()
}

fn over_postgres(url: &str) -> Stack {
    let builder = Cache::builder(unique_name("doctor")).near(NoNear);
    builder.store(Postgres::new(url).unwrap()).build().unwrap()
}

async fn redis_servers() -> Vec<WrongServer> {
    let plain = RedisServer::start().await.unwrap();
    let address = format!("127.0.0.1:{}", plain.port());
    let wrong = |what, topic, stops, url: &str, servers: Arc<dyn Any>| WrongServer {
        what,
        topic,
        stops,
        cache: over_redis(url),
        _servers: servers,
    };
    let mut list = Vec::new();

    let cluster = RedisServer::options().config("cluster-enabled", "yes").start().await.unwrap();
    let topic = FindingTopic::ClusterMode;
    list.push(wrong("Redis: cluster mode", topic, true, &cluster.url(), Arc::new(cluster)));

    let full = RedisServer::options().config("maxmemory", "1mb").config("maxmemory-policy", "noeviction");
    let full = full.start().await.unwrap();
    list.push(wrong("Redis: full memory", FindingTopic::Memory, true, &full.url(), Arc::new(full)));

    let lonely = RedisServer::start().await.unwrap();
    let mut raw = raw_redis(&lonely.url()).await;
    redis_command::<()>(&mut raw, &["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    let what = "Redis: too few replicas to write";
    list.push(wrong(what, FindingTopic::Role, true, &lonely.url(), Arc::new(lonely)));

    let keeps = RedisServer::options().config("maxmemory", "64mb").config("maxmemory-policy", "volatile-ttl");
    let keeps = keeps.start().await.unwrap();
    let topic = FindingTopic::EvictionPolicy;
    list.push(wrong("Redis: volatile-ttl", topic, false, &keeps.url(), Arc::new(keeps)));

    let sentinel = Sentinel::watch(&plain, "main", 1).await.unwrap().remove(0);
    let what = "Redis: a sentinel in the place of a server";
    list.push(wrong(what, FindingTopic::Role, true, &sentinel.url(), Arc::new(sentinel)));

    let mut raw = raw_redis(&plain.url()).await;
    let reader = ["ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@all", "-evalsha", "-eval"];
    redis_command::<()>(&mut raw, &reader).await;
    let what = "Redis: a user without scripts";
    list.push(wrong(
        what,
        FindingTopic::Permission,
        true,
        &format!("redis://reader:pw@{address}"),
        Arc::new(()),
    ));
    let what = "Redis: a wrong password";
    list.push(wrong(
        what,
        FindingTopic::Permission,
        true,
        &format!("redis://reader:no@{address}"),
        Arc::new(()),
    ));
    let what = "Redis: no database of this number";
    list.push(wrong(what, FindingTopic::Schema, true, &format!("redis://{address}/999"), Arc::new(())));
    let what = "Redis: no TLS where the URL asks for it";
    list.push(wrong(what, FindingTopic::Protocol, true, &format!("rediss://{address}"), Arc::new(plain)));
    let what = "Redis: a web server";
    list.push(wrong(
        what,
        FindingTopic::Protocol,
        true,
        &format!("redis://{}", web_server().await),
        Arc::new(()),
    ));
    list
}

async fn postgres_servers() -> Vec<WrongServer> {
    let wrong = |what, topic, url: &str, servers: Arc<dyn Any>| WrongServer {
        what,
        topic,
        stops: true,
        cache: over_postgres(url),
        _servers: servers,
    };
    let mut list = Vec::new();

    let primary = PostgresServer::start().await.unwrap();
    over_postgres(&primary.url()).ready().await.unwrap();
    let standby = primary.start_standby().await.unwrap();
    primary.wait_for(&standby).await.unwrap();
    list.push(wrong("Postgres: a standby", FindingTopic::Role, &standby.url(), Arc::new(standby)));

    let read_only = PostgresServer::start().await.unwrap();
    over_postgres(&read_only.url()).ready().await.unwrap();
    read_only.read_only(true).await.unwrap();
    let what = "Postgres: a server that takes no writes";
    list.push(wrong(what, FindingTopic::Role, &read_only.url(), Arc::new(read_only)));

    let incomplete = primary.create_database().await.unwrap();
    over_postgres(&incomplete).ready().await.unwrap();
    let operator = sqlx::PgPool::connect(&incomplete).await.unwrap();
    let rename = "ALTER FUNCTION terrace.outbox_has_gap(pg_snapshot) RENAME TO gone";
    sqlx::raw_sql(rename).execute(&operator).await.unwrap();
    list.push(wrong("Postgres: a missing function", FindingTopic::Schema, &incomplete, Arc::new(operator)));

    let plain = format!("{}?sslmode=require", primary.url());
    let what = "Postgres: no TLS where the URL asks for it";
    list.push(wrong(what, FindingTopic::Protocol, &plain, Arc::new(())));
    let unknown = primary.url().replace("terrace_test_app@", "nobody_of_this_name@");
    list.push(wrong("Postgres: an unknown user", FindingTopic::Permission, &unknown, Arc::new(primary)));
    let what = "Postgres: a web server";
    let url = format!("postgres://app@{}/app", web_server().await);
    list.push(wrong(what, FindingTopic::Protocol, &url, Arc::new(())));
    list
}

/// The address of a server that answers each connection as a web server does.
async fn web_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let _sent = socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
            let _closed = socket.shutdown().await;
            // A socket that is dropped with unread bytes would reset the connection.
            tokio::spawn(async move { tokio::io::copy(&mut socket, &mut tokio::io::sink()).await });
        }
    });
    address
}
