//! The same application code on every stack that a configuration can choose. No server is needed,
//! because backends connect when they are first used.

use std::{
    ffi::OsString,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use terrace::{
    Cache, Clock, ErrorKind, Level,
    config::{Config, Stack},
};

const REDIS: &str = "redis://:secret@127.0.0.1:1/0";
const POSTGRES: &str = "postgres://app:secret@127.0.0.1:1/app";

fn from_vars(vars: &[(&'static str, &'static str)]) -> terrace::Result<Stack> {
    let vars = vars.to_vec();
    let config = Config::in_memory().with_vars(move |name| {
        vars.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    })?;
    Stack::new(&config)
}

/// The debug text of a cache of copies and of a cache of records on this stack, or the kind of the error.
async fn shape(stack: &Stack) -> (Result<String, ErrorKind>, Result<String, ErrorKind>) {
    let near = if format!("{stack:?}").contains("near_entries: 0,") { "" } else { "near " };
    let copies = stack.builder::<u64, String>("copies").build();
    let records = stack.records::<u64, String>("records").and_then(|builder| builder.build());
    let shown = |cache: terrace::Result<Cache<u64, String>>| match cache {
        Ok(cache) => Ok(format!("{near}{cache:?}")),
        Err(error) => Err(error.kind()),
    };
    (shown(copies), shown(records))
}

fn copies(near: &str, tiers: &str) -> String {
    format!("{near}Cache {{ namespace: \"copies\", tiers: {tiers}, store: None, .. }}")
}

fn records(near: &str, tiers: &str) -> String {
    format!("{near}Cache {{ namespace: \"records\", tiers: {tiers}, store: Some(\"postgres\"), .. }}")
}

#[tokio::test]
async fn embedded() -> terrace::Result<()> {
    let folder = tempfile::tempdir().map_err(terrace::Error::load)?;
    let stack = Stack::new(&Config::embedded(folder.path().join("shop.db")))?;
    let store = records("near ", "[]").replace("postgres", "sqlite");
    assert_eq!(shape(&stack).await, (Ok(copies("near ", "[\"sqlite\"]")), Ok(store)));
    Ok(())
}

#[tokio::test]
async fn records_of_an_embedded_stack_outlive_it_and_copies_too() -> terrace::Result<()> {
    let folder = tempfile::tempdir().map_err(terrace::Error::load)?;
    let config = Config::embedded(folder.path().join("shop.db"));
    for run in 0..2 {
        let stack = Stack::new(&config)?;
        let users: Cache<u64, String> = stack.records("users")?.build()?;
        let pages: Cache<u64, String> = stack.builder("pages").build()?;
        if run == 0 {
            users.put(&1, "Ada".to_owned()).await?;
            pages.put(&1, "home".to_owned()).await?;
        } else {
            assert_eq!(users.get(&1).await?.as_deref(), Some(&"Ada".to_owned()));
            assert_eq!(pages.get(&1).await?.as_deref(), Some(&"home".to_owned()));
        }
        users.close().await;
        pages.close().await;
    }
    Ok(())
}

#[tokio::test]
async fn sqlite_in_memory_keeps_copies_and_no_records() {
    let stack = from_vars(&[("DATABASE_URL", "sqlite::memory:")]).unwrap();
    assert_eq!(shape(&stack).await, (Ok(copies("near ", "[\"sqlite\"]")), Err(ErrorKind::Config)));
}

#[tokio::test]
async fn memory_alone() {
    let expected = (Ok(copies("near ", "[]")), Err(ErrorKind::Config));
    assert_eq!(shape(&from_vars(&[]).unwrap()).await, expected);
    assert_eq!(shape(&Stack::from_toml("[memory]\nentries = 5").unwrap()).await, expected);
}

#[tokio::test]
async fn redis_alone() {
    let expected = (Ok(copies("", "[\"redis\"]")), Err(ErrorKind::Config));
    let stack = from_vars(&[("REDIS_URL", "127.0.0.1:1"), ("CACHE_MEMORY_ENTRIES", "0")]).unwrap();
    assert_eq!(shape(&stack).await, expected);
    let stack = Stack::from_toml(&format!("[redis]\nurl = '{REDIS}'")).unwrap();
    assert_eq!(shape(&stack).await, expected);
}

#[tokio::test]
async fn memory_and_redis() {
    let expected = (Ok(copies("near ", "[\"redis\"]")), Err(ErrorKind::Config));
    assert_eq!(shape(&from_vars(&[("REDIS_URL", REDIS)]).unwrap()).await, expected);
}

#[tokio::test]
async fn memory_and_postgres() {
    let expected = (Ok(copies("near ", "[\"postgres\"]")), Ok(records("near ", "[]")));
    assert_eq!(shape(&from_vars(&[("DATABASE_URL", POSTGRES)]).unwrap()).await, expected);
}

#[tokio::test]
async fn redis_and_postgres() {
    let text = format!("[redis]\nurl = '{REDIS}'\n[postgres]\nurl = '{POSTGRES}'");
    let expected = (Ok(copies("", "[\"redis\", \"postgres\"]")), Ok(records("", "[\"redis\"]")));
    assert_eq!(shape(&Stack::from_toml(&text).unwrap()).await, expected);
}

#[tokio::test]
async fn memory_redis_and_postgres() {
    let stack = from_vars(&[("REDIS_URL", REDIS), ("DATABASE_URL", POSTGRES), ("CACHE_TTL_SECONDS", "60")]);
    let expected = (Ok(copies("near ", "[\"redis\", \"postgres\"]")), Ok(records("near ", "[\"redis\"]")));
    assert_eq!(shape(&stack.unwrap()).await, expected);
}

#[tokio::test]
async fn a_role_narrows_what_a_database_is_used_as() {
    let stack = |role| Stack::from_toml(&format!("[postgres]\nurl = '{POSTGRES}'\nrole = '{role}'")).unwrap();
    assert_eq!(shape(&stack("store")).await, (Ok(copies("", "[]")), Ok(records("", "[]"))));
    assert_eq!(shape(&stack("tier")).await, (Ok(copies("", "[\"postgres\"]")), Err(ErrorKind::Config)));
    assert_eq!(shape(&stack("both")).await, (Ok(copies("", "[\"postgres\"]")), Ok(records("", "[]"))));
}

#[tokio::test]
async fn caches_of_a_stack_share_its_backends() {
    let stack = Stack::from_toml(&format!("[redis]\nurl = '{REDIS}'")).unwrap();
    let _names: Cache<u64, String> = stack.builder("users").build().unwrap();
    let numbers = stack.clone().builder::<u64, u64>("users").level(Level::Ttl).build();
    assert_eq!(numbers.unwrap_err().kind(), ErrorKind::NamespaceInUse);
}

#[tokio::test]
async fn the_settings_of_expiry_reach_the_caches() {
    let stack =
        Stack::from_toml("ttl_seconds = 60\nnegative_ttl_seconds = 2\n[memory]\nentries = 5").unwrap();
    let cache: Cache<u64, String> = stack.builder("users").build().unwrap();
    cache.put(&1, "Ada".to_owned()).await.unwrap();
    let life = cache.ttl(&1).await.unwrap().unwrap();
    assert!(life <= Duration::from_secs(60) && life > Duration::from_secs(50), "{life:?}");
}

/// Whether a cache of copies and a cache of records build on the stack of `text`, or the error.
async fn built(text: &str) -> (Result<(), String>, Result<(), String>) {
    let stack = Stack::from_toml(text).unwrap();
    let why = |built: terrace::Result<Cache<u64, String>>| match built {
        Ok(_) => Ok(()),
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Config, "{text}");
            Err(error.to_string())
        }
    };
    (why(stack.builder("copies").build()), why(stack.records("records").and_then(terrace::Builder::build)))
}

#[tokio::test]
async fn a_level_is_refused_where_the_same_code_would_be() {
    let postgres = format!("[memory]\nentries = 5\n[postgres]\nurl = '{POSTGRES}'\nrole = 'store'");
    let redis = format!("{postgres}\n[redis]\nurl = '{REDIS}'");
    let sqlite = format!("[memory]\nentries = 5\n[redis]\nurl = '{REDIS}'\n[sqlite]\npath = 'FILE'");
    let folder = tempfile::tempdir().unwrap();
    let sqlite = sqlite.replace("FILE", folder.path().join("shop.db").to_str().unwrap());
    for (level, tiers, copies, records) in [
        ("level = 'ttl'", &postgres, None, Some("immutable values belong in a tier")),
        ("level = 'fenced'", &redis, None, None),
        ("level = 'strong'", &redis, Some("asks the store: add one"), None),
        ("level = 'bounded'\nbound_ms = 99", &postgres, Some("at least 100 ms"), Some("at least 100 ms")),
        ("level = 'bounded'\nbound_ms = 100", &redis, Some("needs a store"), None),
        ("level = 'bounded'\nbound_ms = 1000\nttl_seconds = 1", &redis, None, None),
        (
            "level = 'bounded'\nbound_ms = 500",
            &sqlite,
            Some("needs a store"),
            Some("can be relayed (Postgres)"),
        ),
    ] {
        let (for_copies, for_records) = built(&format!("{level}\n{tiers}")).await;
        for (built, refused) in [(for_copies, copies), (for_records, records)] {
            match refused {
                None => assert_eq!(built, Ok(()), "{level}"),
                Some(why) => {
                    assert!(built.as_ref().is_err_and(|error| error.contains(why)), "{level}: {built:?}")
                }
            }
        }
    }
}

#[tokio::test]
async fn the_level_reaches_the_caches() {
    let reads = async |level: &str, asked| {
        let stack = Stack::from_toml(&format!("{level}\n[memory]\nentries = 5")).unwrap();
        let cache: Cache<u64, String> = stack.builder("users").build().unwrap();
        cache.with(asked).get(&1).await.map_err(|error| error.kind())
    };
    let unsupported = Err(ErrorKind::Unsupported);
    assert_eq!(reads("", Level::Fenced).await, Ok(None));
    assert_eq!(
        reads("level = 'ttl'", Level::Fenced).await,
        unsupported,
        "a cache at level Ttl cannot read at a higher one"
    );
    let bounded = "level = 'bounded'\nbound_ms = 1500\nttl_seconds = 1";
    assert_eq!(reads(bounded, Level::Bounded(Duration::from_millis(10))).await, Ok(None));
    assert_eq!(reads(bounded, Level::Strong).await, unsupported);
}

#[tokio::test]
async fn the_stampede_policy_reaches_the_caches() {
    let loads = async |policy: &str| {
        let stack = Stack::from_toml(&format!("{policy}\n[memory]\nentries = 5")).unwrap();
        let cache: Cache<u64, u64> = stack.builder("users").build().unwrap();
        let loads = AtomicU64::new(0);
        let load = || {
            let load = loads.fetch_add(1, Ordering::SeqCst);
            async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                Ok::<_, std::io::Error>(load)
            }
        };
        let (first, second) = tokio::join!(cache.get_or_load(&1, load), cache.get_or_load(&1, load));
        assert!(first.is_ok() && second.is_ok());
        loads.into_inner()
    };
    for shares in ["", "stampede = 'single_flight'", "stampede = 'lease'", "stampede = 'lease_or_stale'"] {
        assert_eq!(loads(shares).await, 1, "{shares}");
    }
    assert_eq!(loads("stampede = 'unshared'").await, 2);
}

#[test]
fn a_bound_belongs_to_its_level() {
    let error = |text| Stack::from_toml(text).unwrap_err().to_string();
    assert!(error("level = 'bounded'\n[memory]\nentries = 5").contains("needs bound_ms"));
    assert!(error("bound_ms = 500\n[memory]\nentries = 5").contains("set that level"));
    assert!(error("level = 'eventual'\n[memory]\nentries = 5").contains("`fenced`"));
    assert!(error("stampede = 'herd'\n[memory]\nentries = 5").contains("`lease_or_stale`"));
}

#[test]
fn what_cannot_work_is_a_config_error_without_the_secret() {
    for text in [
        String::new(),
        "[memory]\nentries = 0".to_owned(),
        "ttl_seconds = 0\n[memory]\nentries = 1".to_owned(),
        "ttl_seconds = -1\n[memory]\nentries = 1".to_owned(),
        "jitter = 1.5\n[memory]\nentries = 1".to_owned(),
        "jitter = nan\n[memory]\nentries = 1".to_owned(),
        "[memory]\nentries = 1\nttl_seconds = 0".to_owned(),
        "[memory]\nentries = 1\nbytes = 7".to_owned(),
        format!("[sqlite]\npath = ':memory:'\n[postgres]\nurl = '{POSTGRES}'"),
        "[sqlite]\npath = '/no/such/folder/shop.db'".to_owned(),
        format!("[redis]\nurl = '{REDIS}'\nbudget_ms = 0"),
        format!("[redis]\nurl = '{REDIS}'\npassword = 'another-secret'"),
        format!("[redis]\nurl = '{REDIS}'\npasword = 'secret'"),
        "[redis]\nprefix = 'shop'".to_owned(),
        "[redis]\nurl = 'redis://secret@localhost'".to_owned(),
        "[redis]\nurl = 'localhost'\npassword_file = '/no/secret/there'".to_owned(),
        "[postgres]\npool_size = 3".to_owned(),
        format!("[postgres]\nurl = '{POSTGRES}'\npassword = 'another-secret'"),
        format!("[postgres]\nurl = '{POSTGRES}'\nhost = 'secret'"),
        "[postgres]\nhost = 'app:secret@localhost'".to_owned(),
        "[redis]\nurl = 'http://:secret@localhost'".to_owned(),
        "[redis]\nurl = 'redis://:secret@localhost:port'".to_owned(),
        "[redis]\nurl = 'redis://:secret@cache.example'".to_owned(),
        "[postgres]\nurl = 'mysql://app:secret@localhost'".to_owned(),
        "[postgres]\nurl = 'postgres://app:secret@localhost:port'".to_owned(),
        format!("[postgres]\nurl = '{POSTGRES}'\npool_size = 0"),
        format!("[postgres]\nurl = '{POSTGRES}'\nrole = 'secret'"),
    ] {
        let error = Stack::from_toml(&text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config, "{text}");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error}");
    }
}

#[test]
fn an_address_in_a_compose_network_needs_one_setting_which_the_error_names() {
    let stack = |vars: &[(&'static str, &'static str)]| from_vars(vars);
    let url = ("REDIS_URL", "redis://redis:6379/0");
    let error = stack(&[url]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
    assert!(error.to_string().contains("REDIS_ALLOW_PLAINTEXT=true"), "{error}");
    assert!(stack(&[url, ("REDIS_ALLOW_PLAINTEXT", "true")]).is_ok());
    let text = "[redis]\nurl = 'redis://:secret@redis:6379/0'";
    let error = Stack::from_toml(text).unwrap_err().to_string();
    assert!(error.contains("allow_plaintext = true") && !error.contains("secret"), "{error}");
    assert!(Stack::from_toml(&format!("{text}\nallow_plaintext = true")).is_ok());
    // Other faults of a URL keep their own text.
    let error = stack(&[("REDIS_URL", "redis://redis:6379/zero")]).unwrap_err().to_string();
    assert!(error.contains("database number"), "{error}");
}

/// The blocks of TOML in a text, which begin a line with this mark of comments.
fn toml_blocks(text: &str, mark: &str) -> Vec<String> {
    let lines: Vec<&str> = text.lines().map(|line| line.strip_prefix(mark).unwrap_or(line)).collect();
    let text = lines.join("\n");
    let blocks = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.map(str::to_owned).collect()
}

#[test]
fn the_toml_of_the_documents_is_valid() {
    let named = toml_blocks(include_str!("../../../../docs/configuration.md"), "");
    for stack in ["development", "production"] {
        assert!(Config::from_toml_named(&named[0], Some(stack)).is_ok(), "{stack}");
    }
    let single = toml_blocks(include_str!("../../../../src/config/mod.rs"), "//!");
    let config = Config::from_toml(&single[0]).unwrap();
    assert!(config.redis.is_some() && config.postgres.is_some() && config.sqlite.is_some());
    assert_eq!((named.len(), single.len()), (1, 1));
}

#[tokio::test]
async fn a_database_in_parts_is_the_same_stack_as_its_url() {
    let expected = (Ok(copies("near ", "[\"postgres\"]")), Ok(records("near ", "[]")));
    for vars in [
        &[("POSTGRES_HOST", "127.0.0.1"), ("POSTGRES_PORT", "1"), ("POSTGRES_PASSWORD", "secret")][..],
        &[("POSTGRES_CONNECTION", "postgresql+psycopg://app:secret@127.0.0.1:1/app")],
        &[("DATABASE_URL", "postgresql+asyncpg://127.0.0.1:1/app?ssl=disable"), ("POSTGRES_USER", "app")],
    ] {
        assert_eq!(shape(&from_vars(vars).unwrap()).await, expected, "{vars:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_limit_of_loads_and_the_soft_timeout_reach_the_caches() {
    let text = "ttl_seconds = 1\nstale_if_error_seconds = 600\nmax_loads = 1\nsoft_timeout_ms = 200\n[memory]\nentries = 5";
    let clock = Clock::manual();
    let stack = Stack::from_toml(text).unwrap();
    let cache: Cache<u64, u64> = stack.builder("users").clock(&clock).build().unwrap();
    let never = || std::future::pending::<Result<u64, std::io::Error>>();
    cache.put(&1, 1).await.unwrap();
    clock.advance(Duration::from_secs(2));
    let began = tokio::time::Instant::now();
    assert_eq!(cache.get_or_load(&1, never).await.unwrap(), 1);
    assert_eq!(began.elapsed(), Duration::from_millis(200));
    // The load that hangs is the only one that may run.
    assert_eq!(cache.get_or_load(&2, never).await.unwrap_err().kind(), ErrorKind::Busy);
    for (text, why) in [("max_loads = 0", "max_loads is at least 1"), ("soft_timeout_ms = 0", "at least one")]
    {
        let error = Stack::from_toml(&format!("{text}\n[memory]\nentries = 5")).unwrap_err();
        assert!(error.kind() == ErrorKind::Config && error.to_string().contains(why), "{error}");
    }
}

#[tokio::test]
async fn neither_settings_nor_stacks_show_a_secret() {
    let text = format!("[redis]\nurl = '{REDIS}'\n[postgres]\nurl = '{POSTGRES}'");
    let config = Config::from_toml(&text).unwrap();
    let stack = Stack::new(&config).unwrap();
    let shown = format!("{config:?} {stack:?} {:?}", stack.builder::<u64, String>("users").build().unwrap());
    assert!(!shown.contains("secret"), "{shown}");
}

#[tokio::test]
async fn a_long_life_does_not_overflow() {
    let text = format!(
        "ttl_seconds = {0}\nstale_if_error_seconds = {0}\n[memory]\nentries = 5\nttl_seconds = {0}",
        i64::MAX
    );
    let cache: Cache<u64, String> = Stack::from_toml(&text).unwrap().builder("users").build().unwrap();
    cache.put(&1, "Ada".to_owned()).await.unwrap();
    assert!(cache.contains(&1).await.unwrap());
}

/// The process runs itself, because a test may not change its own environment.
#[test]
fn variables_of_the_process_choose_the_stack_of_a_file_and_change_it() {
    const TEST: &str = "stacks::variables_of_the_process_choose_the_stack_of_a_file_and_change_it";
    const FILE: &str = "TERRACE_TEST_STACK_FILE";
    if let Some(path) = std::env::var_os(FILE) {
        println!("outcome: {:?}", Stack::from_file(path).map_err(|error| error.to_string()));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cache.toml");
    std::fs::write(&path, "[stacks.small.memory]\nentries = 7\n[stacks.large.memory]\nentries = 70").unwrap();
    let outcome = |vars: &[(&str, &str)]| {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        child.args(["--exact", TEST, "--nocapture"]).env_clear().env(FILE, &path);
        let output = child.envs(vars.iter().copied()).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert!(outcome(&[("CACHE_STACK", "small")]).contains("near_entries: 7,"));
    assert!(outcome(&[("CACHE_STACK", "large")]).contains("near_entries: 70,"));
    let changed = outcome(&[("CACHE_STACK", "large"), ("REDIS_URL", "localhost")]);
    assert!(changed.contains("near_entries: 70,") && changed.contains("redis: true"), "{changed}");
    for vars in [&[("CACHE_STACK", "medium")][..], &[]] {
        let refused = outcome(vars);
        assert!(refused.contains("Err(") && refused.contains("large, small"), "{refused}");
    }
}
