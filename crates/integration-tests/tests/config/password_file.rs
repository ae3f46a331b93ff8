//! A password in a file, as an orchestrator mounts and renews it.

use std::{ffi::OsString, fs};

use crate::support::{eventually, raw_redis, redis_command};
use sqlx::{Connection, Executor, PgConnection};
use terrace::{
    Cache, ErrorKind,
    config::{Config, Stack},
};
use terrace_testbed::{Postgres, Redis, unique_name};

#[tokio::test]
async fn a_renewed_password_in_the_file_is_used_for_the_next_connection() {
    let redis = Redis::options().password("first").start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, "first\n").unwrap();
    let config = Config::in_memory().with_vars(|name| match name {
        "REDIS_URL" => Some(OsString::from(format!("127.0.0.1:{}", redis.port()))),
        "REDIS_PASSWORD_FILE" => Some(path.clone().into()),
        _ => None,
    });
    let stack = Stack::new(&config.unwrap()).unwrap();
    let cache: Cache<u64, u64> = stack.builder(unique_name("renewed")).build().unwrap();
    cache.ready().await.unwrap();
    cache.put(&1, 1).await.unwrap();

    let mut raw = raw_redis(&redis.url()).await;
    let _ok: String = redis_command(&mut raw, &["CONFIG", "SET", "requirepass", "second"]).await;
    let _closed: u64 = redis_command(&mut raw, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    let mut refused = None;
    eventually("the old password is refused", async || {
        refused = cache.ping().await.err().filter(|error| error.kind() == ErrorKind::Denied);
        refused.is_some()
    })
    .await;

    // As Kubernetes does it: a new file takes the place of the old one at once.
    fs::write(folder.path().join("new"), "second\n").unwrap();
    fs::rename(folder.path().join("new"), &path).unwrap();
    eventually("the new password is used", async || cache.ping().await.is_ok()).await;
    cache.put(&1, 2).await.unwrap();

    // A file that is gone keeps the connections that are open, and fails new ones without its path.
    fs::remove_file(&path).unwrap();
    cache.put(&1, 3).await.unwrap();
    let mut raw = raw_redis(&format!("redis://:second@127.0.0.1:{}", redis.port())).await;
    let _closed: u64 = redis_command(&mut raw, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    eventually("the missing file is named", async || match cache.ping().await {
        Err(error) => {
            let text = format!("{error} {error:?}");
            assert!(!text.contains(path.to_str().unwrap()), "{text}");
            text.contains("REDIS_PASSWORD_FILE")
        }
        Ok(_) => false,
    })
    .await;
}

#[tokio::test]
async fn a_renewed_password_of_postgres_is_used_for_the_next_connection() {
    let server = Postgres::options().password("first").start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("password");
    fs::write(&path, "first\n").unwrap();
    let config = Config::in_memory().with_vars(|name| match name {
        "POSTGRES_HOST" => Some("127.0.0.1".into()),
        "POSTGRES_PORT" => Some(server.port().to_string().into()),
        "POSTGRES_PASSWORD_FILE" => Some(path.clone().into()),
        _ => None,
    });
    let stack = Stack::new(&config.unwrap()).unwrap();
    let records: Cache<u64, u64> = stack.records(unique_name("renewed")).unwrap().build().unwrap();
    records.ready().await.unwrap();
    records.put(&1, 1).await.unwrap();

    let mut operator = PgConnection::connect(&server.superuser_url()).await.unwrap();
    operator.execute("alter role postgres password 'second'").await.unwrap();
    let end = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and usename = 'postgres'";
    operator.execute(end).await.unwrap();
    eventually("the old password is refused", async || {
        records.put(&1, 2).await.is_err_and(|error| error.kind() == ErrorKind::Denied)
    })
    .await;

    fs::write(&path, "second\n").unwrap();
    eventually("the new password is used", async || records.put(&1, 3).await.is_ok()).await;
    assert_eq!(records.get(&1).await.unwrap().unwrap(), 3);
    records.close().await;
}
