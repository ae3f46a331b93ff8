//! No output shows a secret: each setting that may hold one gets a secret of its own, and all of them are
//! looked for in every text that comes out: `Debug`, `Display`, errors with their sources, and everything that
//! any crate of the process logs at level TRACE.
//!
//! One test holds all parts, because the log is one for the process.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;
mod variables;

use std::{error::Error as _, fmt::Debug, fs, path::Path, time::Duration};

use support::{capture_log, eventually, logged};
use terrace::{
    BoxError, Cache, Error, ErrorKind,
    config::{Config, PostgresConfig, RedisConfig, Stack},
};
use terrace_testbed::{Postgres, Redis, unique_name};
use tokio::{
    task::{JoinSet, LocalSet},
    time::timeout,
};
use variables::{MARK, Variables, in_url, secret, ways};

/// Passes once nothing that was shown holds a secret.
#[derive(Default)]
struct Shown(Vec<String>);

impl Shown {
    fn debug(&mut self, value: &impl Debug) {
        self.0.extend([format!("{value:?}"), format!("{value:#?}")]);
    }

    /// The texts of an error and of all its sources.
    fn error(&mut self, error: &Error) {
        self.0.extend([format!("{error} {error:?} {error:#?}"), format!("{:?}", error.finding())]);
        let mut source = error.source();
        while let Some(cause) = source {
            self.0.push(format!("{cause} {cause:?}"));
            source = cause.source();
        }
    }

    fn result<T: Debug>(&mut self, result: &Result<T, Error>) {
        match result {
            Ok(value) => self.debug(value),
            Err(error) => self.error(error),
        }
    }

    fn check(&self) {
        for text in self.0.iter().chain(&logged(&[])) {
            assert!(!text.to_lowercase().contains(MARK), "{text}");
        }
    }
}

/// Everything that an application may do with a cache, however it ends. Returns the end of `ready`.
async fn use_cache(cache: &Cache<String, u64>, shown: &mut Shown) -> Result<(), Error> {
    let limit = Duration::from_secs(20);
    let load = async || Ok::<_, BoxError>(1);
    shown.result(&timeout(limit, cache.ping()).await.unwrap());
    let ready = timeout(limit, cache.ready()).await.expect("a server that refuses ends `ready`");
    shown.result(&ready);
    shown.result(&cache.get_or_load("k", load).await);
    shown.result(&cache.get("a").await);
    shown.result(&cache.put("a", 1).await);
    for put in cache.put_many([("b".to_owned(), 2), ("c".to_owned(), 3)]).await {
        shown.result(&put);
    }
    shown.result(&cache.invalidate("a").await);
    shown.result(&cache.remove("b").await);
    shown.result(&cache.clear().await);
    shown.debug(cache);
    shown.debug(&cache.stats());
    cache.close().await;
    ready.map(drop)
}

/// A cache of records on a stack that has a database, else one of copies. Each attempt at a login of Postgres is
/// expensive in a build without optimization, so that there is one cache.
async fn use_stack(stack: &Stack, shown: &mut Shown) -> Result<(), Error> {
    let cache = match stack.records(unique_name("records")) {
        Ok(records) => records.build().unwrap(),
        Err(_) => stack.builder(unique_name("copies")).build().unwrap(),
    };
    use_cache(&cache, shown).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_output_shows_a_secret() {
    capture_log();
    let folder = tempfile::tempdir().unwrap();
    let mut shown = Shown::default();

    let mut of_servers: [Shown; 4] = Default::default();
    let [wrong, away, quoting, right] = &mut of_servers;
    tokio::join!(
        wrong_passwords(folder.path(), wrong),
        servers_that_are_away(folder.path(), away),
        a_server_that_quotes(folder.path(), quoting),
        right_passwords(folder.path(), right),
    );
    of_servers.into_iter().for_each(|part| shown.0.extend(part.0));
    files_that_cannot_be_read(folder.path(), &mut shown);
    conflicts(folder.path(), &mut shown);
    texts(folder.path(), &mut shown);

    assert!(!logged(&["the tier does not serve", "tier=\"redis\""]).is_empty(), "refusals are logged");
    shown.check();

    // The search would find a secret.
    tracing::trace!(password = %secret("CONTROL"), "a planted line");
    assert_eq!(logged(&["TRACE", MARK]).len(), 1);
    shown.debug(&secret("CONTROL"));
    assert!(std::panic::catch_unwind(|| shown.check()).is_err());
}

/// Runs `each` for every way to give a password, all at once.
async fn for_each_way<F>(ways: Vec<Variables>, shown: &mut Shown, each: fn(Variables) -> F)
where
    F: Future<Output = Shown> + 'static,
{
    let (local, mut tasks) = (LocalSet::new(), JoinSet::new());
    for way in ways {
        tasks.spawn_local_on(each(way), &local);
    }
    local
        .run_until(async {
            while let Some(done) = tasks.join_next().await {
                shown.0.extend(done.unwrap().0);
            }
        })
        .await;
}

/// Both servers refuse every password that is planted.
async fn wrong_passwords(folder: &Path, shown: &mut Shown) {
    let redis = Redis::options().password("right").start().await.unwrap();
    let postgres = Postgres::options().password("right").start().await.unwrap();
    let ways = ways(folder, redis.port(), postgres.port());
    for_each_way(ways, shown, |vars| async move {
        let mut shown = Shown::default();
        let (config, stack) = vars.stack().unwrap();
        shown.debug(&config);
        shown.debug(&stack);
        let error = use_stack(&stack, &mut shown).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Denied, "{:?}: {error}", vars.values.keys());
        shown
    })
    .await;
}

async fn servers_that_are_away(folder: &Path, shown: &mut Shown) {
    let (redis, postgres) = tokio::try_join!(Redis::away(), Postgres::away()).unwrap();
    let ways = ways(folder, redis.port(), postgres.port());
    for_each_way(ways, shown, |vars| async move {
        let mut shown = Shown::default();
        let (_, stack) = vars.stack().unwrap();
        let cache: Cache<String, u64> = stack.builder(unique_name("away")).build().unwrap();
        shown.result(&cache.ping().await);
        shown.result(&cache.put("a", 1).await);
        shown.result(&cache.get_or_load("a", async || Ok::<_, BoxError>(1)).await);
        shown.debug(&cache);
        cache.close().await;
        shown
    })
    .await;
}

/// Redis without HELLO answers `unknown command 'HELLO', with args beginning with: .. 'AUTH' 'default' '..'`.
async fn a_server_that_quotes(folder: &Path, shown: &mut Shown) {
    let redis = Redis::options().config("rename-command", "HELLO \"\"").start().await.unwrap();
    let ways = ways(folder, redis.port(), 1)
        .into_iter()
        .filter(|vars| vars.values.keys().any(|name| name.starts_with("REDIS_")));
    for_each_way(ways.collect(), shown, |vars| async move {
        let mut shown = Shown::default();
        let (_, stack) = vars.stack().unwrap();
        // Without HELLO the tier logs in by AUTH, which this server without a password refuses or takes.
        let _ended = use_stack(&stack, &mut shown).await;
        shown
    })
    .await;
}

/// The servers take the planted password: what a working connection logs is searched too.
async fn right_passwords(folder: &Path, shown: &mut Shown) {
    // The testbed takes passwords of letters and digits.
    let password = format!("{MARK}right");
    let redis = Redis::options().password(&password).start().await.unwrap();
    let postgres = Postgres::options().password(&password).start().await.unwrap();
    let vars = Variables::new(folder)
        .set("REDIS_URL", format!("127.0.0.1:{}/3", redis.port()))
        .set_file("REDIS_PASSWORD_FILE", &password)
        .set("POSTGRES_HOST", "127.0.0.1")
        .set("POSTGRES_PORT", postgres.port().to_string())
        .set_file("POSTGRES_PASSWORD_FILE", &password);
    let (_, stack) = vars.stack().unwrap();
    let copies: Cache<String, u64> = stack.builder(unique_name("right")).build().unwrap();
    use_cache(&copies, shown).await.unwrap();
    use_stack(&stack, shown).await.unwrap();
    // The servers are lost and come back.
    redis.kill9().unwrap();
    let lost = |cache: &Cache<String, u64>| cache.stats().tiers.iter().any(|tier| tier.lost);
    let cache: Cache<String, u64> = stack.builder(unique_name("lost")).build().unwrap();
    eventually("the tier is lost", async || {
        shown.result(&cache.put("a", 1).await);
        lost(&cache)
    })
    .await;
    redis.restart().await.unwrap();
    eventually("the tier is back", async || {
        shown.result(&cache.put("a", 1).await);
        !lost(&cache)
    })
    .await;
    cache.close().await;
}

fn files_that_cannot_be_read(folder: &Path, shown: &mut Shown) {
    let long = folder.join(format!("{MARK}-long"));
    fs::write(&long, format!("{}{}", secret("LONG"), "x".repeat(64 << 10))).unwrap();
    let binary = folder.join(format!("{MARK}-binary"));
    fs::write(&binary, [secret("BINARY").as_bytes(), &[0xff]].concat()).unwrap();
    let empty = folder.join(format!("{MARK}-empty"));
    fs::write(&empty, "\n").unwrap();
    let missing = folder.join(secret("PATH"));
    for path in [&long, &binary, &empty, &missing, &folder.to_owned()] {
        let path = path.to_str().unwrap();
        for (name, server) in [
            ("REDIS_URL_FILE", "CACHE_TTL_SECONDS"),
            ("REDIS_PASSWORD_FILE", "REDIS_URL"),
            ("DATABASE_URL_FILE", "CACHE_TTL_SECONDS"),
            ("POSTGRES_CONNECTION_FILE", "CACHE_TTL_SECONDS"),
            ("POSTGRES_PASSWORD_FILE", "POSTGRES_HOST"),
        ] {
            let vars = Variables::new(folder).set(name, path).set(server, "1");
            let error = vars.stack().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Config, "{name}");
            assert!(error.to_string().contains(name), "{name}: {error}");
            shown.error(&error);
        }
    }
}

/// Settings that contradict each other, and values that cannot be used.
fn conflicts(folder: &Path, shown: &mut Shown) {
    let new = || Variables::new(folder);
    let url = |scheme: &str, name: &str| format!("{scheme}://app:{}@127.0.0.1:1/0", in_url(name));
    let raw = |scheme: &str, name: &str| format!("{scheme}://app:{}@127.0.0.1:1/0", secret(name));
    let postgres = || new().set("DATABASE_URL", url("postgres", "DATABASE_URL"));
    let redis = || new().set("REDIS_URL", url("redis", "REDIS_URL"));
    let tls = || new().set("REDIS_URL", url("rediss", "REDIS_URL"));
    let refused = [
        redis().set("REDIS_PASSWORD", secret("REDIS_PASSWORD")),
        redis().set_file("REDIS_PASSWORD_FILE", &secret("REDIS_PASSWORD_FILE")),
        redis().set("REDIS_USERNAME", secret("REDIS_USERNAME")),
        redis().set_file("REDIS_URL_FILE", &secret("REDIS_URL_FILE")),
        redis().set("REDIS_PASSWORD", secret("A")).set_file("REDIS_PASSWORD_FILE", &secret("B")),
        redis().set("REDIS_ALLOW_PLAINTEXT", secret("REDIS_ALLOW_PLAINTEXT")),
        new().set("REDIS_URL", raw("redis", "UNESCAPED")),
        new().set("REDIS_URL", raw("http", "SCHEME")),
        new().set("REDIS_URL", format!("redis://:{}@another.host", in_url("PLAINTEXT"))),
        new().set("REDIS_URL", format!("redis://{}@127.0.0.1", in_url("USER"))),
        new().set("REDIS_PASSWORD", secret("ALONE")),
        new().set("REDIS_SENTINEL_PASSWORD", secret("ALONE")),
        redis().set("REDIS_TLS_CA_FILE", secret("REDIS_TLS_CA_FILE")),
        redis().set_file("REDIS_TLS_CA_FILE", &secret("REDIS_TLS_CA_FILE")),
        redis().set_file("REDIS_TLS_KEY_FILE", &secret("REDIS_TLS_KEY_FILE")),
        tls().set_file("REDIS_TLS_CA_FILE", &secret("REDIS_TLS_CA_FILE")),
        tls()
            .set_file("REDIS_TLS_CERT_FILE", &secret("REDIS_TLS_CERT_FILE"))
            .set_file("REDIS_TLS_KEY_FILE", &secret("REDIS_TLS_KEY_FILE")),
        postgres().set("POSTGRES_PASSWORD", secret("POSTGRES_PASSWORD")),
        postgres().set_file("POSTGRES_PASSWORD_FILE", &secret("POSTGRES_PASSWORD_FILE")),
        postgres().set("POSTGRES_USER", secret("POSTGRES_USER")),
        postgres().set("POSTGRES_HOST", secret("POSTGRES_HOST")),
        postgres().set("POSTGRES_PORT", secret("POSTGRES_PORT")),
        postgres().set("POSTGRES_DB", secret("POSTGRES_DB")),
        postgres().set("POSTGRES_CONNECTION", url("postgres", "POSTGRES_CONNECTION")),
        postgres().set_file("DATABASE_URL_FILE", &url("postgres", "DATABASE_URL_FILE")),
        new().set("DATABASE_URL", raw("postgres", "UNESCAPED")),
        new().set("DATABASE_URL", raw("mysql", "SCHEME")),
        new().set("DATABASE_URL", format!("sqlite:{}?mode=ro", secret("SQLITE"))),
        new().set("DATABASE_URL", url("postgres", "MODE") + "?sslmode=" + MARK),
        new().set("POSTGRES_CONNECTION", format!("host=db password={}", secret("KEYWORDS"))),
        new().set("POSTGRES_HOST", secret("POSTGRES_HOST")),
        new().set("POSTGRES_PASSWORD", secret("ALONE")),
        new().set("CACHE_TTL_SECONDS", secret("CACHE_TTL_SECONDS")),
        new().set("CACHE_MEMORY_ENTRIES", secret("CACHE_MEMORY_ENTRIES")),
    ];
    for vars in &refused {
        let error = vars.stack().map(|_| format!("{:?}", vars.values)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{:?}", vars.values.keys());
        shown.error(&error);
    }
}

/// TOML: of one stack, of several, and of a text that is none.
fn texts(folder: &Path, shown: &mut Shown) {
    let file = folder.join(format!("{MARK}-password"));
    fs::write(&file, secret("FILE")).unwrap();
    let redis = [
        format!("[redis]\nurl = 'redis://:{}@127.0.0.1:1'", in_url("URL")),
        format!("[redis]\nurl = '127.0.0.1:1'\nusername = 'app'\npassword = '{}'", secret("PASSWORD")),
        format!("[redis]\nurl = '127.0.0.1:1'\npassword_file = '{}'", file.display()),
    ];
    let postgres = [
        format!("[postgres]\nurl = 'postgres://app:{}@127.0.0.1:1/app?unknown={MARK}'", in_url("URL")),
        format!("[postgres]\nhost = '127.0.0.1'\nport = 1\npassword = '{}'", secret("PASSWORD")),
        format!("[postgres]\nhost = '127.0.0.1'\nport = 1\npassword_file = '{}'", file.display()),
    ];
    for (redis, postgres) in redis.iter().zip(&postgres) {
        let text = format!("{redis}\n{postgres}");
        let config = Config::from_toml(&text).unwrap();
        only_known_fields(config.clone());
        shown.debug(&config);
        shown.debug(&Stack::new(&config).unwrap());
        let named =
            text.replace("[redis]", "[stacks.one.redis]").replace("[postgres]", "[stacks.one.postgres]");
        shown.debug(&Config::from_toml_named(&named, Some("one")).unwrap());
        shown.error(&Config::from_toml_named(&named, Some(&secret("NAME"))).unwrap_err());
        let path = folder.join(unique_name("stacks"));
        fs::write(&path, &named).unwrap();
        shown.error(&Config::from_file(&path).unwrap_err());
        for broken in [
            text.replacen('\'', "", 1),
            text.replacen(" = '", " = ['", 1),
            text.replace("password", "pasword").replace("url =", "urls ="),
            format!("{text}\n{}", secret("END")),
            format!("{text}\nrole = '{}'", secret("ROLE")),
            format!("{text}\npool_size = '{}'", secret("SIZE")),
            format!("{text}\n{text}"),
        ] {
            shown.error(&Config::from_toml(&broken).map(|_| ()).expect_err(&broken));
        }
    }
}

/// A new field of the settings does not compile here, until someone has thought of its secret above.
fn only_known_fields(config: Config) {
    let Some(RedisConfig {
        url: _,
        username: _,
        password: _,
        password_file: _,
        sentinel_username: _,
        sentinel_password: _,
        sentinel_password_file: _,
        tls_ca_file: _,
        tls_cert_file: _,
        tls_key_file: _,
        prefix: _,
        allow_plaintext: _,
        ttl_seconds: _,
        budget_ms: _,
    }) = config.redis
    else {
        panic!("no redis")
    };
    let Some(PostgresConfig {
        url: _,
        host: _,
        port: _,
        database: _,
        user: _,
        password: _,
        password_file: _,
        schema: _,
        pool_size: _,
        logged_copies: _,
        role: _,
        ttl_seconds: _,
        budget_ms: _,
    }) = config.postgres
    else {
        panic!("no postgres")
    };
}
