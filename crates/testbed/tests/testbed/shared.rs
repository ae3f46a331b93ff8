use redis::Commands;
use sqlx::{Connection, Executor, PgConnection};
use terrace_testbed::{shared_postgres, shared_postgres_superuser, shared_redis, unique_name};

#[tokio::test]
async fn every_call_gets_the_same_redis() {
    let key = unique_name("testbed");
    for url in [shared_redis().await.unwrap(), shared_redis().await.unwrap()] {
        let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
        let _count: i32 = connection.incr(&key, 1).unwrap();
    }
    let mut connection =
        redis::Client::open(shared_redis().await.unwrap()).unwrap().get_connection().unwrap();
    assert_eq!(connection.get::<_, i32>(&key).unwrap(), 2);
    let _gone: i32 = connection.del(&key).unwrap();
}

#[tokio::test]
async fn every_call_gets_an_empty_database_of_one_postgres() {
    let (one, two) = tokio::try_join!(shared_postgres(), shared_postgres()).unwrap();
    assert_ne!(one, two);
    let mut first = PgConnection::connect(&one).await.unwrap();
    first.execute("create table t (n int)").await.unwrap();
    let mut second = PgConnection::connect(&two).await.unwrap();
    assert!(second.execute("select n from t").await.is_err());
    let mut servers = Vec::new();
    for session in [&mut first, &mut second] {
        let started: String =
            sqlx::query_scalar("select pg_postmaster_start_time()::text").fetch_one(session).await.unwrap();
        servers.push(started);
    }
    assert_eq!(servers[0], servers[1]);
}

#[tokio::test]
async fn databases_of_ended_processes_are_dropped() {
    let url = shared_postgres().await.unwrap();
    let mut session = PgConnection::connect(&url).await.unwrap();
    let own: String =
        sqlx::query_scalar("select current_database()::text").fetch_one(&mut session).await.unwrap();
    let mut ended = std::process::Command::new("true").spawn().unwrap();
    ended.wait().unwrap();
    // terrace_test_<machine>_<process>_<count>
    let machine = own.rsplitn(3, '_').nth(2).unwrap();
    let left = format!("{machine}_{}_0", ended.id());
    let mut operator = PgConnection::connect(&shared_postgres_superuser(&url).await.unwrap()).await.unwrap();
    operator.execute(sqlx::AssertSqlSafe(format!("create database {left}"))).await.unwrap();

    shared_postgres().await.unwrap();

    let names: Vec<String> =
        sqlx::query_scalar("select datname::text from pg_database").fetch_all(&mut session).await.unwrap();
    assert!(!names.contains(&left));
    assert!(names.contains(&own));
}
