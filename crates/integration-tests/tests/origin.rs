//! Changes of the truth that do not go through the cache: another program changes a watched table, a
//! writer dies after its commit, and a transaction of the application invalidates keys itself.
#![allow(clippy::expect_used, reason = "a test that cannot be prepared fails")]

use std::{
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sqlx::PgPool;
use terrace::{Cache, Memory, Postgres, Redis, TierSettings, Ttl};
use terrace_testbed::{Proxy, Stall, shared_postgres, shared_redis, unique_name};

/// Set in the child process, which runs one test of this program.
const CHILD: &str = "TERRACE_TEST_ORIGIN_CHILD";

/// The servers of one test: a database with a table of users, watched, and a Redis prefix.
struct Servers {
    database: String,
    redis: String,
    prefix: String,
    pool: PgPool,
}

impl Servers {
    async fn start() -> Self {
        let database = shared_postgres().await.expect("a database");
        let (redis, prefix) = (shared_redis().await.expect("a Redis"), unique_name("origin"));
        let pool = PgPool::connect(&database).await.expect("a pool");
        let servers = Self { database, redis, prefix, pool };
        servers.sql("CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL)").await;
        servers.sql("INSERT INTO users SELECT n, 'old' FROM generate_series(1, 2000) n").await;
        servers
    }

    async fn sql(&self, sql: &'static str) {
        sqlx::raw_sql(sql).execute(&self.pool).await.expect(sql);
    }

    fn postgres(&self) -> Postgres {
        Postgres::new(&self.database).expect("a URL")
    }

    fn redis(&self) -> Redis {
        Redis::builder(&self.redis).prefix(&self.prefix).build().expect("a URL")
    }

    /// The cache of a process over the table: near and Redis, or near alone.
    async fn users(&self, with_redis: bool) -> (Cache<i64, String>, Postgres) {
        let (pool, postgres) = (self.pool.clone(), self.postgres());
        let users = Cache::<i64, String>::builder("users")
            .near(Memory::entries(10_000))
            .expire(Ttl::secs(3600))
            .watch_origin(&postgres)
            .loader(move |id: i64| {
                let pool = pool.clone();
                async move {
                    let name = sqlx::query_scalar("SELECT name FROM users WHERE id = $1").bind(id);
                    name.fetch_one(&pool).await.map(|name: String| name)
                }
            });
        // A load of this machine is no reason to read past Redis.
        let redis = || self.redis().budget(Duration::from_secs(30));
        let users = if with_redis { users.tier(redis()).build() } else { users.build() };
        let users = users.expect("a cache");
        users.ready().await.expect("ready");
        (users, postgres)
    }
}

async fn name(users: &Cache<i64, String>, id: i64) -> String {
    users.get(&id).await.expect("an answer").expect("a user").to_string()
}

/// Waits until a read gives `expected`, and returns how long that took.
async fn read_until(users: &Cache<i64, String>, id: i64, expected: &str) -> Duration {
    let from = Instant::now();
    while name(users, id).await != expected {
        assert!(from.elapsed() < Duration::from_secs(20), "the read still gives an old value");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    from.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_update_by_another_program_reaches_near_and_shared_tiers() {
    for with_redis in [false, true] {
        let servers = Servers::start().await;
        let (first, postgres) = servers.users(with_redis).await;
        let (second, _) = servers.users(with_redis).await;
        drop(postgres);
        servers.sql("SELECT terrace.watch('users', 'users', '{id}')").await;
        let mut took = Vec::new();
        for id in 1..=50 {
            for users in [&first, &second] {
                read_until(users, id, "old").await;
            }
            sqlx::query("UPDATE users SET name = 'new' WHERE id = $1")
                .bind(id)
                .execute(&servers.pool)
                .await
                .expect("an update");
            took.push(read_until(&first, id, "new").await);
            read_until(&second, id, "new").await;
        }
        took.sort_unstable();
        println!("redis {with_redis}: read after p50 {:.1?}, at most {:.1?}", took[25], took[49]);

        // The log does not report so many rows one by one.
        servers.sql("UPDATE users SET name = 'all'").await;
        for users in [&first, &second] {
            for id in [1, 30, 1999] {
                read_until(users, id, "all").await;
            }
        }
        servers.sql("TRUNCATE users; INSERT INTO users VALUES (1, 'again')").await;
        read_until(&first, 1, "again").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_of_the_application_invalidates_where_it_commits() {
    for with_redis in [false, true] {
        let servers = Servers::start().await;
        let (users, postgres) = servers.users(with_redis).await;
        let (others, _) = servers.users(with_redis).await;
        let change = async |id: i64, name: &str| {
            let mut transaction = servers.pool.begin().await.expect("a transaction");
            let update = sqlx::query("UPDATE users SET name = $2 WHERE id = $1").bind(id).bind(name);
            update.execute(&mut *transaction).await.expect("an update");
            let pending = postgres.invalidate_in(&mut transaction, &users, &id).await.expect("a row");
            (transaction, pending)
        };
        for id in [1, 2, 3] {
            assert_eq!(
                (name(&users, id).await, name(&others, id).await),
                ("old".to_owned(), "old".to_owned())
            );
        }
        let (transaction, pending) = change(1, "new").await;
        transaction.commit().await.expect("a commit");
        pending.committed().await.expect("dropped");
        assert_eq!(name(&users, 1).await, "new", "at once");
        read_until(&others, 1, "new").await;

        let (transaction, pending) = change(2, "new").await;
        drop(pending);
        transaction.commit().await.expect("a commit");
        read_until(&users, 2, "new").await;
        read_until(&others, 2, "new").await;

        let (transaction, _pending) = change(3, "never").await;
        transaction.rollback().await.expect("a rollback");
        assert_eq!(name(&users, 3).await, "old");
    }
}

/// Changes a user in a transaction that invalidates its copies, and says after the commit that it has.
async fn rename(servers: &Servers, postgres: &Postgres, users: &Cache<i64, String>, id: i64, name: &str) {
    let mut transaction = servers.pool.begin().await.expect("a transaction");
    let update = sqlx::query("UPDATE users SET name = $2 WHERE id = $1").bind(id).bind(name);
    update.execute(&mut *transaction).await.expect("an update");
    let pending = postgres.invalidate_in(&mut transaction, users, &id).await.expect("a row");
    transaction.commit().await.expect("a commit");
    pending.committed().await.expect("dropped");
}

/// Waits until this process has heard all changes so far: the log reports them in order.
async fn heard(servers: &Servers, users: &Cache<i64, String>, number: usize) {
    read_until(users, 2, &name(users, 2).await).await;
    let marker = format!("marker {number}");
    let update = sqlx::query("UPDATE users SET name = $1 WHERE id = 2").bind(&marker);
    update.execute(&servers.pool).await.expect("an update");
    servers.sql("SELECT terrace.invalidate('users', NULL, terrace.key(2::bigint))").await;
    read_until(users, 2, &marker).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_change_in_a_transaction_costs_one_load_and_hides_no_other_change() {
    for with_redis in [false, true] {
        let servers = Servers::start().await;
        let (users, postgres) = servers.users(with_redis).await;
        heard(&servers, &users, 0).await;
        assert_eq!(name(&users, 1).await, "old");
        let loads = || users.stats().loads;
        let (mut of_renames, mut others) = (0, 0);
        for number in 1..=20 {
            let (before, new) = (loads(), format!("name {number}"));
            rename(&servers, &postgres, &users, 1, &new).await;
            assert_eq!(name(&users, 1).await, new);
            let marked = loads();
            heard(&servers, &users, number).await;
            let of_markers = loads() - marked;
            assert_eq!(name(&users, 1).await, new);
            of_renames += loads() - before;
            others += of_markers;
        }
        // The relay waits 50 ms for the call that drops the copies. A slower call costs a load more.
        assert!(
            (20..=24).contains(&(of_renames - others)),
            "one load a change, and not two: {} for 20, with Redis: {with_redis}: {:?}",
            of_renames - others,
            users.stats()
        );
        // A change by SQL that comes right after one of this process is another change.
        for number in 0..10 {
            rename(&servers, &postgres, &users, 1, "by this process").await;
            assert_eq!(name(&users, 1).await, "by this process");
            servers.sql("UPDATE users SET name = 'by another' WHERE id = 1").await;
            servers.sql("SELECT terrace.invalidate('users', NULL, terrace.key(1::bigint))").await;
            heard(&servers, &users, 100 + number).await;
            assert_eq!(name(&users, 1).await, "by another");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_after_the_call_that_says_so_leaves_nothing_stale() {
    for with_redis in [false, true] {
        let servers = Servers::start().await;
        let (users, postgres) = servers.users(with_redis).await;
        heard(&servers, &users, 0).await;
        let mut transaction = servers.pool.begin().await.expect("a transaction");
        let update = sqlx::query("UPDATE users SET name = 'new' WHERE id = 1");
        update.execute(&mut *transaction).await.expect("an update");
        let pending = postgres.invalidate_in(&mut transaction, &users, &1).await.expect("a row");
        pending.committed().await.expect("dropped");
        assert_eq!(name(&users, 1).await, "old");
        transaction.commit().await.expect("a commit");
        read_until(&users, 1, "new").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_row_with_a_long_key_reaches_other_processes() {
    let servers = Servers::start().await;
    servers.sql("CREATE TABLE answers (prompt text NOT NULL, answer text NOT NULL)").await;
    servers.sql("INSERT INTO answers VALUES (repeat('why? ', 2000), 'old')").await;
    let (pool, postgres) = (servers.pool.clone(), servers.postgres());
    let answers =
        Cache::<String, String>::builder("answers").near(Memory::entries(10)).expire(Ttl::secs(3600));
    let answers = answers
        .tier(servers.redis().budget(Duration::from_secs(30)))
        .watch_origin(&postgres)
        .loader(move |prompt: String| {
            let pool = pool.clone();
            async move {
                let answer = sqlx::query_scalar("SELECT answer FROM answers WHERE prompt = $1").bind(prompt);
                answer.fetch_one(&pool).await.map(|answer: String| answer)
            }
        });
    let answers = answers.build().expect("a cache");
    answers.ready().await.expect("ready");
    servers.sql("SELECT terrace.watch('answers', 'answers', '{prompt}')").await;
    let prompt = "why? ".repeat(2000);
    let answer = async || answers.get(&prompt).await.expect("an answer").expect("a row").to_string();
    // A watch begins with a clear, which the near tier may hear a moment later.
    for _ in 0..20 {
        let loads = answers.stats().loads;
        assert_eq!(answer().await, "old");
        answers.settled().await;
        if answers.stats().loads == loads {
            break;
        }
    }
    let loads = answers.stats().loads;
    assert_eq!(answer().await, "old");
    assert_eq!(answers.stats().loads, loads, "a long key is cached");
    servers.sql("UPDATE answers SET answer = 'new'").await;
    let from = Instant::now();
    while answer().await != "new" {
        assert!(from.elapsed() < Duration::from_secs(20), "the read still gives an old value");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The cache of a process with records in Postgres, and copies in Redis and near.
fn records(database: &str, redis: &str, prefix: &str) -> Cache<i64, String> {
    let redis = Redis::builder(redis).prefix(prefix).build().expect("a URL").budget(Duration::from_secs(30));
    Cache::<i64, String>::builder("records")
        .near(Memory::entries(10_000))
        .tier(redis)
        .store(Postgres::new(database).expect("a URL"))
        .expire(Ttl::secs(3600))
        .build()
        .expect("a cache")
}

/// The child process is the writer. Its Redis takes nothing, so it can be killed after its commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_is_killed_after_its_commit_leaves_nothing_stale() {
    if let Ok(args) = std::env::var(CHILD) {
        let mut args = args.split(' ');
        let mut arg = || args.next().expect("an argument");
        records(arg(), arg(), arg()).put(&1, "new".to_owned()).await.expect("a put");
        return;
    }
    let servers = Servers::start().await;
    let reader = records(&servers.database, &servers.redis, &servers.prefix);
    reader.ready().await.expect("ready");
    reader.put(&1, "old".to_owned()).await.expect("a record");
    assert_eq!(name(&reader, 1).await, "old");
    let version = "SELECT version FROM terrace.records";
    let before: i64 = sqlx::query_scalar(version).fetch_one(&servers.pool).await.expect("a record");

    let port = servers.redis.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
    let proxy = Proxy::start(port).expect("a proxy");
    proxy.stall(Stall::Both);
    let args = format!("{} redis://127.0.0.1:{} {}", servers.database, proxy.port(), servers.prefix);
    let mut writer = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_writer_that_is_killed_after_its_commit_leaves_nothing_stale"])
        .env(CHILD, args)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("a writer");
    while before == sqlx::query_scalar::<_, i64>(version).fetch_one(&servers.pool).await.expect("a record") {
        assert!(writer.try_wait().expect("a child").is_none(), "the writer ended by itself");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    writer.kill().expect("killed");
    writer.wait().expect("a child");
    let took = read_until(&reader, 1, "new").await;
    println!("read {took:.1?} after the kill");
    let fresh = records(&servers.database, &servers.redis, &servers.prefix);
    assert_eq!(name(&fresh, 1).await, "new", "Redis does not have the old value either");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_takes_over_from_a_relay_that_ended() {
    let servers = Servers::start().await;
    // A migration would do this before any cache exists.
    servers.postgres().prepare().await.expect("a schema");
    servers.sql("SELECT terrace.watch('users', 'users', '{id}')").await;
    let relay = servers.users(true).await;
    let (others, _) = servers.users(true).await;
    read_until(&others, 1, "old").await;
    drop(relay);
    servers.sql("UPDATE users SET name = 'new' WHERE id = 1").await;
    println!("read {:.1?} after the change", read_until(&others, 1, "new").await);
    servers.sql("UPDATE users SET name = 'newer' WHERE id = 1").await;
    println!("and {:.1?} after the next change", read_until(&others, 1, "newer").await);
}

/// The log reports the relay's own drops in a Postgres tier to near tiers, but not to the relay.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_is_origin_and_tier_tells_of_a_change_and_falls_silent() {
    for with_redis in [false, true] {
        let servers = Servers::start().await;
        let (pool, postgres) = (servers.pool.clone(), servers.postgres());
        let users = Cache::<i64, String>::builder("users").near(Memory::entries(10_000));
        let users = if with_redis { users.tier(servers.redis()) } else { users };
        let users =
            users.tier(postgres.clone()).watch_origin(&postgres).expire(Ttl::secs(3600)).loader(move |id| {
                let pool = pool.clone();
                async move {
                    let name = sqlx::query_scalar("SELECT name FROM users WHERE id = $1").bind::<i64>(id);
                    name.fetch_one(&pool).await.map(|name: String| name)
                }
            });
        let users = users.build().expect("a cache");
        users.ready().await.expect("ready");
        servers.sql("SELECT terrace.watch('users', 'users', '{id}')").await;
        for (change, expected) in [
            ("UPDATE users SET name = 'new' WHERE id = 1", "new"),
            ("UPDATE users SET name = 'all'", "all"),
            ("TRUNCATE users; INSERT INTO users VALUES (1, 'again')", "again"),
        ] {
            servers.sql(change).await;
            read_until(&users, 1, expected).await;
            let (mut rows, mut rows_before) = (0_i64, -1);
            while rows != rows_before {
                rows_before = rows;
                tokio::time::sleep(Duration::from_secs(1)).await;
                let count =
                    sqlx::query_scalar("SELECT count(*) FROM terrace.outbox WHERE namespace = 'users'");
                rows = count.fetch_one(&servers.pool).await.expect("a count");
                assert!(rows < 100, "{rows} rows in the outbox");
            }
            let loads = users.stats().loads;
            for _ in 0..10 {
                assert_eq!(name(&users, 1).await, expected);
            }
            assert!(users.stats().loads <= loads + 1, "it is cached again");
        }
    }
}
