use std::time::{Duration, Instant};

use redis::Commands;
use terrace_testbed::{Redis, Sentinel};

#[tokio::test]
async fn sentinels_name_the_replica_after_the_death_of_the_primary() {
    let primary = Redis::start().await.unwrap();
    let replica = Redis::options().replica_of(&primary).start().await.unwrap();
    let mut server = redis::Client::open(primary.url()).unwrap().get_connection().unwrap();
    let _done: () = server.set("a", 1).unwrap();
    let sentinels = Sentinel::watch(&primary, "main", 1).await.unwrap();
    let mut sentinel = redis::Client::open(sentinels[0].url()).unwrap().get_connection().unwrap();
    let mut ask = redis::cmd("SENTINEL");
    ask.arg("get-master-addr-by-name").arg("main");
    let mut named = || ask.query::<(String, u16)>(&mut sentinel).unwrap().1;
    assert_eq!(named(), primary.port());
    let end = Instant::now() + Duration::from_secs(30);
    let mut is_linked = || {
        let info: String = redis::cmd("INFO").arg("replication").query(&mut server).unwrap();
        info.contains("state=online")
    };
    while !is_linked() {
        assert!(Instant::now() < end, "the replica must follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    primary.kill9().unwrap();
    while named() != replica.port() {
        assert!(Instant::now() < end, "the replica must be promoted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let mut server = redis::Client::open(replica.url()).unwrap().get_connection().unwrap();
    assert_eq!(server.get::<_, Option<i32>>("a").unwrap(), Some(1));
}
