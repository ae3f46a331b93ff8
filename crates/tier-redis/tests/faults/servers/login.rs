//! Logins by a provider, which is asked at each connect.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use terrace_testbed::Redis as Server;
use terrace_tier::{BoxError, Credentials, ErrorKind};
use terrace_tier_redis::Redis;

use super::command;
use crate::{
    bench::{Bench, raw},
    log::RecordingFollower,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_gives_the_login_of_each_connection() {
    let server = Server::start().await.unwrap();
    let mut raw = raw(&server.url()).await;
    let set_token = async |raw: &mut _, token: &str| {
        let password = format!(">{token}");
        command(raw, &["ACL", "SETUSER", "app", "reset", "on", &password, "~*", "&*", "+@all"]).await;
    };
    set_token(&mut raw, "first-token").await;
    let (token, asked) = (Arc::new(Mutex::new("first-token")), Arc::new(AtomicUsize::new(0)));
    let provider = {
        let (token, asked) = (Arc::clone(&token), Arc::clone(&asked));
        move || {
            asked.fetch_add(1, Ordering::Relaxed);
            let given = Credentials::new("app", *token.lock());
            async move { Ok::<_, BoxError>(given) }
        }
    };
    // The provider's login takes the place of that of the URL.
    let url = format!("redis://nobody:wr0ng@127.0.0.1:{}", server.port());
    let bench = Bench::through(Redis::builder(&url).credentials(provider).build().unwrap(), &server.url());
    bench.tier.ready().await.unwrap();
    let follower = RecordingFollower::on(&bench).await;
    let before = asked.load(Ordering::Relaxed);
    assert!(before >= 4, "the connections of log and listener ask too: {before}");
    *token.lock() = "second-token";
    set_token(&mut raw, "second-token").await;
    command(&mut raw, &["CLIENT", "KILL", "USER", "app"]).await;
    bench.recovers_within(Duration::from_secs(5)).await;
    follower.gets_heartbeat().await;
    assert!(asked.load(Ordering::Relaxed) >= before + 2);
    assert!(!format!("{:?} {:?}", bench.handle, bench.tier).contains("token"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_fails_panics_or_hangs_is_a_failed_attempt() {
    let server = Server::start().await.unwrap();
    for kind in 0..3 {
        let broken = Arc::new(Mutex::new(true));
        let provider = {
            let broken = Arc::clone(&broken);
            move || {
                let is_broken = *broken.lock();
                async move {
                    match (is_broken, kind) {
                        (false, _) => Ok(Credentials::password("")),
                        (true, 0) => Err(BoxError::from("no token for 'first-token'")),
                        (true, 1) => panic!("a provider that panics"),
                        (true, _) => std::future::pending().await,
                    }
                }
            }
        };
        let url = server.url();
        let builder = Redis::builder(&url).credentials(provider).connect_timeout(Duration::from_millis(200));
        let bench = Bench::through(builder.build().unwrap(), &url);
        let error = bench.get("k").await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.to_string().contains("provider"), "{error}");
        *broken.lock() = false;
        let mut raw = raw(&url).await;
        command(&mut raw, &["ACL", "SETUSER", "default", "nopass"]).await;
        bench.recovers_within(Duration::from_secs(5)).await;
    }
}
