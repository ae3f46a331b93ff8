use sqlx::{Connection, PgConnection};
use terrace_testbed::{PgBouncer, Postgres};

#[tokio::test]
async fn a_pooler_stands_before_a_server() {
    if !PgBouncer::is_installed() {
        println!("left out: pgbouncer is not installed");
        return;
    }
    let postgres = Postgres::start().await.unwrap();
    let pooler = PgBouncer::before(&postgres, "session")
        .pooler_setting("ignore_startup_parameters", "extra_float_digits")
        .start()
        .await
        .unwrap();
    let url = pooler.url_of(&postgres.create_database().await.unwrap());
    let mut session = PgConnection::connect(&url).await.unwrap();
    let one: i32 = sqlx::query_scalar("select 1").fetch_one(&mut session).await.unwrap();
    assert_eq!(one, 1);
}
