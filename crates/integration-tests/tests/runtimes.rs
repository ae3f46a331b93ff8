//! A cache in a `static`, used by tests that each have a runtime of their own. The tests pass in any order, one
//! after another and at once. To repeat them: `for i in $(seq 100); do cargo test --test runtimes; done`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{sync::LazyLock, time::Duration};

use support::PATIENCE;
use terrace::{BoxError, Cache, Memory, Postgres, Redis, Sqlite, TierSettings};
use terrace_testbed::{shared_postgres, shared_redis, unique_name};
use tokio::sync::OnceCell;

type Stack = Cache<String, u64>;

fn near() -> Memory<String, u64> {
    Memory::entries(10_000)
}

async fn redis() -> Redis {
    Redis::builder(shared_redis().await.unwrap()).allow_plaintext().build().unwrap()
}

async fn postgres() -> Postgres {
    Postgres::new(&shared_postgres().await.unwrap()).unwrap()
}

/// Built when it is first used, outside of any future.
static NEAR: LazyLock<Stack> = LazyLock::new(|| Cache::builder("near").near(near()).build().unwrap());

static SQLITE: LazyLock<Stack> =
    LazyLock::new(|| Cache::builder("sqlite").near(near()).store(Sqlite::memory()).build().unwrap());

static REDIS: OnceCell<Stack> = OnceCell::const_new();
static POSTGRES: OnceCell<Stack> = OnceCell::const_new();
static BOTH: OnceCell<Stack> = OnceCell::const_new();

async fn over_near() -> &'static Stack {
    &NEAR
}

async fn over_sqlite() -> &'static Stack {
    &SQLITE
}

async fn over_redis() -> &'static Stack {
    let build = async || {
        let redis = redis().await.budget(PATIENCE);
        Cache::builder(unique_name("redis")).near(near()).tier(redis).build().unwrap()
    };
    REDIS.get_or_init(build).await
}

async fn over_postgres() -> &'static Stack {
    let build = async || {
        let postgres = postgres().await.budget(PATIENCE);
        Cache::builder(unique_name("postgres")).near(near()).store(postgres).build().unwrap()
    };
    POSTGRES.get_or_init(build).await
}

async fn over_both() -> &'static Stack {
    let build = async || {
        let (redis, postgres) = (redis().await.budget(PATIENCE), postgres().await.budget(PATIENCE));
        Cache::builder(unique_name("both")).near(near()).tier(redis).store(postgres).build().unwrap()
    };
    BOTH.get_or_init(build).await
}

/// What a test of an application does: it loads, writes, reads, and drops, with keys of its own and with keys
/// that the other tests use at the same time.
async fn work(cache: &Stack, test: &str) {
    for round in 0..10_u64 {
        let own = format!("{test}{round}");
        let load = async move || Ok::<_, BoxError>(round);
        assert_eq!(cache.get_or_load(&own, load).await.unwrap(), round);
        cache.put(&own, round + 1).await.unwrap();
        assert_eq!(cache.get(&own).await.unwrap().unwrap(), round + 1);
        cache.invalidate(&own).await.unwrap();
        let again = cache.get_or_load(&own, async move || Ok::<_, BoxError>(round + 1)).await.unwrap();
        assert_eq!(again, round + 1);
        let shared = format!("shared{round}");
        let slow = async move || {
            tokio::time::sleep(Duration::from_millis(2)).await;
            Ok::<_, BoxError>(7)
        };
        assert_eq!(cache.get_or_load(&shared, slow).await.unwrap(), 7);
        let many = cache.get_many(&[own.clone(), shared]).await.into_values().unwrap();
        // Without a store a loaded value need not be kept: the log may just report the put, or the test that led
        // the load may have ended before it had filled the tiers.
        assert!(many[0].as_deref().is_none_or(|value| *value == round + 1));
        assert!(many[1].as_deref().is_none_or(|value| *value == 7));
        cache.remove(&own).await.unwrap();
        assert_eq!(cache.get(&own).await.unwrap(), None);
    }
}

/// Three tests of one stack, in runtimes of both kinds.
macro_rules! three_tests {
    ($stack:ident, $cache:path) => {
        mod $stack {
            #[tokio::test]
            async fn a_first_test_uses_the_static_cache() {
                super::work($cache().await, "first").await;
            }

            #[tokio::test]
            async fn a_second_test_uses_the_static_cache() {
                super::work($cache().await, "second").await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn a_third_test_uses_the_static_cache() {
                super::work($cache().await, "third").await;
            }
        }
    };
}

three_tests!(near_alone, crate::over_near);
three_tests!(sqlite, crate::over_sqlite);
three_tests!(redis_alone, crate::over_redis);
three_tests!(postgres_alone, crate::over_postgres);
three_tests!(redis_and_postgres, crate::over_both);

/// What other processes change reaches near although the runtime that read the log has ended.
#[test]
fn the_log_is_read_on_in_the_next_runtime() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let url = first.block_on(shared_redis()).unwrap();
    let database = first.block_on(shared_postgres()).unwrap();
    let name = unique_name("log");
    let stacks = || {
        let redis = || Redis::builder(&url).allow_plaintext().build().unwrap().budget(PATIENCE);
        let store = || Postgres::new(&database).unwrap().budget(PATIENCE);
        let builder = |kind: &str| Cache::<String, u64>::builder(format!("{name}{kind}")).near(near());
        [
            builder("r").tier(redis()).build().unwrap(),
            builder("p").store(store()).build().unwrap(),
            builder("b").tier(redis()).store(store()).build().unwrap(),
        ]
    };
    // The caches are built without a runtime, and those of the other process, too.
    for (ours, theirs) in stacks().into_iter().zip(stacks()) {
        first.block_on(async { ours.put("k", 1).await.unwrap() });
        for value in 2..5 {
            runtime().block_on(async {
                let is_near = async || {
                    let read = ours.get("k").await.unwrap().unwrap();
                    *read == value - 1 && read.served().from == terrace::Source::Near
                };
                support::eventually("near copies are proven again", is_near).await;
                theirs.put("k", value).await.unwrap();
                let is_read = async || ours.get("k").await.unwrap().unwrap() == value;
                support::eventually("another process's put is read", is_read).await;
            });
        }
    }
}

/// How many runtimes use a server one after another.
const RUNTIMES: u64 = 20;

#[test]
fn runtimes_that_have_ended_leave_no_connections() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    let (server, url) = first.block_on(async {
        (terrace_testbed::Redis::start().await.unwrap(), shared_postgres().await.unwrap())
    });
    let redis = Redis::builder(server.url()).allow_plaintext().build().unwrap().budget(PATIENCE);
    let postgres = Postgres::builder(&url).pool_size(2).build().unwrap().budget(PATIENCE);
    let cache: Stack = Cache::builder("ended").tier(redis).store(postgres).build().unwrap();
    let counted = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND pid <> pg_backend_pid()";
    for round in 0..RUNTIMES {
        runtime().block_on(async {
            cache.put(&format!("k{round}"), round).await.unwrap();
            assert_eq!(cache.get(&format!("k{round}")).await.unwrap().unwrap(), round);
        });
    }
    first.block_on(async {
        let mut raw = support::raw_redis(&server.url()).await;
        let clients: String = support::redis_command(&mut raw, &["CLIENT", "LIST"]).await;
        assert!(clients.lines().count() <= 3, "{clients}");
        let mut session = <sqlx::PgConnection as sqlx::Connection>::connect(&url).await.unwrap();
        let sessions: i64 = sqlx::query_scalar(counted).fetch_one(&mut session).await.unwrap();
        // The relay's log has a connection beside the pool's.
        assert!(sessions <= 2 + 1, "{sessions} sessions");
    });
}

/// A runtime ends while calls of it are under way; those of another one go on.
#[test]
fn a_runtime_that_ends_harms_no_call_of_another_one() {
    let runtime =
        || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let lasting = runtime();
    let caches = lasting.block_on(async {
        [over_near().await, over_sqlite().await, over_redis().await, over_postgres().await, over_both().await]
    });
    for round in 0..6 {
        let doomed = runtime();
        for cache in caches {
            for task in 0..4 {
                doomed.spawn(async move { work(cache, &format!("doomed{round}{task}")).await });
            }
        }
        let lasting_work = async {
            for cache in caches {
                work(cache, &format!("lasting{round}")).await;
            }
        };
        let end = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5 + 7 * round));
            doomed.shutdown_background();
        });
        lasting.block_on(async {
            tokio::time::timeout(Duration::from_secs(60), lasting_work).await.expect("in time");
        });
        end.join().unwrap();
    }
}
