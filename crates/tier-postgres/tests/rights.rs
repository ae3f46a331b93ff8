//! Which rights a role needs: its own database, or USAGE and EXECUTE on a schema that another role made.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

mod support;

use sqlx::{AssertSqlSafe, Connection, PgConnection};
use support::{
    connect, follower::RecordingFollower, key, make_role, namespace, open, put, run, run_as_superuser,
};
use terrace_conformance::suite::Subject;
use terrace_testbed::shared_postgres;
use terrace_tier::{Backend, ErrorKind, FindingTopic, Notice, Op, Reply, Role};
use terrace_tier_postgres::Postgres;
use tokio::sync::OnceCell;

const SCHEMA: &str = "other-1";

fn handle(url: &str) -> Postgres {
    // The timeout is so long that only the suite's own budgets matter, on a busy machine too.
    let timeout = std::time::Duration::from_secs(60);
    Postgres::builder(url).schema(SCHEMA).statement_timeout(timeout).build().expect("a handle")
}

/// A database whose owner has run the script, and the URL of a role that may use the schema.
async fn prepared(with_select: bool) -> (String, String) {
    let owner = shared_postgres().await.expect("a server");
    let script = handle(&owner).schema_sql();
    let mut server = connect(&owner).await;
    sqlx::raw_sql(AssertSqlSafe(script)).execute(&mut server).await.expect("the script");
    let (url, role) = make_role(&owner).await;
    sqlx::query("SELECT \"other-1\".grant_use_to($1::name, $2)")
        .bind(role)
        .bind(with_select)
        .execute(&mut server)
        .await
        .expect("granted");
    (owner, url)
}

static EXECUTE_ALONE: OnceCell<(String, String)> = OnceCell::const_new();

/// A role with USAGE and EXECUTE alone.
async fn guest() -> Subject {
    let (_, url) = EXECUTE_ALONE.get_or_init(|| prepared(false)).await;
    Subject::new(handle(url)).second(handle(url))
}

terrace_conformance::tier_suite!(guest);
terrace_conformance::tier_suite!(guest, lease_waiter);

/// A database for each case, since a loss is reported to all followers.
async fn logged() -> Subject {
    let (owner, url) = prepared(false).await;
    Subject::new(handle(&url)).second(handle(&url)).lose_log(move |namespace| {
        let owner = owner.clone();
        Box::pin(async move {
            // One row more than a follower reads at once.
            sqlx::query(
                "INSERT INTO \"other-1\".outbox (namespace) SELECT $1 FROM generate_series(1, 10001)",
            )
            .bind(namespace.name)
            .execute(&mut connect(&owner).await)
            .await
            .expect("rows");
        })
    })
}

terrace_conformance::tier_suite!(logged, store_log);

#[tokio::test]
async fn the_owner_of_a_database_who_is_no_superuser_makes_the_schema() {
    let owner = shared_postgres().await.expect("a server");
    let superuser: bool = sqlx::query_scalar("SELECT usesuper FROM pg_user WHERE usename = current_user")
        .fetch_one(&mut connect(&owner).await)
        .await
        .expect("a row");
    assert!(!superuser, "tests run as an ordinary role");
    Postgres::new(&owner).expect("a handle").prepare().await.expect("the schema");
    // The schema of the script and the schema that a program makes are one.
    handle(&owner).prepare().await.expect("another schema");
    let (scripted, _) = prepared(false).await;
    let names = "SELECT p.oid::regprocedure::text AS x FROM pg_proc p
            WHERE pronamespace = '\"other-1\"'::regnamespace
            UNION ALL SELECT relname || coalesce(array_to_string(reloptions, ' '), '') FROM pg_class
            WHERE relnamespace = '\"other-1\"'::regnamespace AND relkind IN ('r', 'i', 'v') ORDER BY x";
    let mut objects: Vec<Vec<String>> = Vec::new();
    for url in [&owner, &scripted] {
        objects.push(sqlx::query_scalar(names).fetch_all(&mut connect(url).await).await.expect("names"));
    }
    assert!(objects[0].len() > 40, "{objects:?}");
    assert_eq!(objects[0], objects[1]);
}

#[tokio::test]
async fn a_role_with_select_reads_the_tables_directly_and_one_without_calls_functions() {
    for with_select in [true, false] {
        let (_, url) = prepared(with_select).await;
        let tier = handle(&url).open(&namespace(Role::Store)).expect("a tier");
        tier.apply(&key(1), put("v")).await.expect("a record");
        assert!(matches!(tier.apply(&key(1), Op::Get).await, Ok(Reply::Hit(_))));
        let mut session = connect(&url).await;
        let direct = sqlx::query("SELECT * FROM \"other-1\".records").execute(&mut session).await;
        assert_eq!(direct.is_ok(), with_select);
        let written = sqlx::query("DELETE FROM \"other-1\".records").execute(&mut session).await;
        assert!(written.is_err(), "no right to write past the functions");
    }
}

#[tokio::test]
async fn a_role_that_loses_its_select_goes_on_by_the_functions() {
    let (owner, url) = prepared(true).await;
    let tier = handle(&url).open(&namespace(Role::Store)).expect("a tier");
    tier.apply(&key(1), put("v")).await.expect("a record");
    assert!(matches!(tier.apply(&key(1), Op::Get).await, Ok(Reply::Hit(_))));
    let role = url::Url::parse(&url).expect("a URL").username().to_owned();
    let revoke = format!("REVOKE SELECT ON ALL TABLES IN SCHEMA \"other-1\" FROM {role}");
    sqlx::raw_sql(AssertSqlSafe(revoke)).execute(&mut connect(&owner).await).await.expect("revoked");
    let first = tier.apply(&key(1), Op::Get).await;
    assert!(first.is_err_and(|error| error.kind() == ErrorKind::Denied), "one call finds out");
    let again = async {
        while !matches!(tier.apply(&key(1), put("w")).await, Ok(Reply::Kept(_))) {}
        tier.apply(&key(1), Op::Get).await
    };
    assert!(matches!(again.await, Ok(Reply::Hit(_))));
}

#[tokio::test]
async fn a_role_without_rights_is_told_what_the_owner_must_do() {
    let owner = shared_postgres().await.expect("a server");
    let (url, role) = make_role(&owner).await;
    // There is no schema yet, and the role may not make one.
    let error = open(&url, Role::Store).apply(&key(1), put("v")).await.expect_err("no schema");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(error.finding().expect("a finding").topic(), FindingTopic::Schema);
    assert!(error.to_string().contains("Postgres::schema_sql"), "{error}");
    // Another role makes it, and grants nothing.
    open(&owner, Role::Store).ready().await.expect("prepared");
    let error = open(&url, Role::Store).ready().await.expect_err("no right");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert_eq!(error.finding().expect("a finding").topic(), FindingTopic::Permission);
    assert!(error.to_string().contains("grant_use_to"), "{error}");
    let grant = format!("SELECT terrace.grant_use_to('{role}')");
    sqlx::raw_sql(AssertSqlSafe(grant)).execute(&mut connect(&owner).await).await.expect("granted");
    open(&url, Role::Store).ready().await.expect("ready");
}

#[tokio::test]
async fn an_older_schema_that_this_role_may_not_upgrade_is_named() {
    let (owner, url) = prepared(false).await;
    run(&owner, "DELETE FROM \"other-1\".migrations WHERE version = 7").await;
    let tier = handle(&url).open(&namespace(Role::Store)).expect("a tier");
    let error = tier.ready().await.expect_err("an older schema");
    assert_eq!(error.kind(), ErrorKind::Denied, "{error}");
    assert!(error.to_string().contains("has version 6"), "{error}");
    // Its owner upgrades it.
    run(&owner, "DROP TABLE \"other-1\".counters").await;
    handle(&owner).prepare().await.expect("upgraded");
    tier.ready().await.expect("ready");
}

#[tokio::test]
async fn a_table_is_watched_through_a_schema_of_another_name() {
    let (owner, url) = prepared(false).await;
    run(
        &owner,
        "CREATE TABLE users (id bigint PRIMARY KEY); SELECT \"other-1\".watch('users', 'users', '{id}')",
    )
    .await;
    let handle = handle(&url);
    let follower = RecordingFollower::new();
    handle.log().expect("a log").follow("users", follower.weak());
    follower.caught_up().await;
    follower.take();
    run(&owner, "INSERT INTO users VALUES (7)").await;
    follower.caught_up().await;
    let expected = Notice::Key { tenant: None, key: 7_i64.to_be_bytes().to_vec().into(), version: None };
    assert_eq!(follower.take(), [expected]);
}

/// On Aurora these functions do not exist unless logical replication is on.
#[tokio::test]
async fn the_log_needs_no_functions_of_the_write_ahead_log() {
    let owner = shared_postgres().await.expect("a server");
    run_as_superuser(
        &owner,
        "REVOKE EXECUTE ON FUNCTION pg_current_wal_lsn(), pg_walfile_name(pg_lsn), pg_control_system() FROM PUBLIC",
    )
    .await;
    let denied = sqlx::query("SELECT pg_current_wal_lsn()").execute(&mut connect(&owner).await).await;
    assert!(denied.is_err(), "the functions are denied in this database");
    let handle = Postgres::new(&owner).expect("a handle");
    let follower = RecordingFollower::new();
    handle.log().expect("a log").follow("users", follower.weak());
    follower.caught_up().await;
    follower.take();
    let end = handle.log().expect("a log").replay().expect("a relay's log").end().await.expect("a position");
    open(&owner, Role::Store).apply(&key(1), put("v")).await.expect("a record");
    follower.caught_up().await;
    assert_eq!(follower.take_keys(), [1]);
    let replay = handle.log().expect("a log").replay().expect("a relay's log");
    let (notices, _) = replay.since("users", &end).await.expect("an answer").expect("no loss");
    assert_eq!(notices.len(), 1);
}

/// What an application may call runs as the owner, so its own operators must not run there.
#[tokio::test]
async fn a_role_cannot_make_the_owners_functions_run_its_own_operators() {
    let (owner, url) = prepared(false).await;
    let role = url::Url::parse(&url).expect("a URL").username().to_owned();
    run_as_superuser(&owner, &format!("CREATE SCHEMA mine AUTHORIZATION {role}")).await;
    let mut session = PgConnection::connect(&url).await.expect("a session");
    let attack = "CREATE FUNCTION mine.evil(text, text) RETURNS boolean LANGUAGE plpgsql AS
            'BEGIN RAISE EXCEPTION ''ran as %'', current_user; END';
        CREATE OPERATOR mine.= (LEFTARG = text, RIGHTARG = text, FUNCTION = mine.evil);
        SET search_path = mine, pg_catalog";
    sqlx::raw_sql(attack).execute(&mut session).await.expect("an operator");
    let own = sqlx::query("SELECT 'a'::text = 'a'::text").execute(&mut session).await;
    assert!(own.is_err(), "the operator is found by this role");
    sqlx::query(
        "SELECT \"other-1\".space_find('a', '', 'store'), \"other-1\".space_in_other_role('a', 'store')",
    )
    .execute(&mut session)
    .await
    .expect("it is not found by the owner's functions");
}
