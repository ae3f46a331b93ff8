//! The compose file: its form, and its Redis servers by the very command that it gives them. No container is
//! started: the installed `redis-server` runs the command.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Deserialize;
use terrace::config::{Config, Stack};
use terrace_testbed::Redis;

/// The part of the compose format that the file uses. A key that is misspelled is an error.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Compose {
    name: String,
    services: BTreeMap<String, Service>,
    volumes: BTreeMap<String, Option<()>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Service {
    image: String,
    #[serde(default)]
    profiles: Vec<String>,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    ports: Vec<String>,
    #[serde(default)]
    volumes: Vec<String>,
    healthcheck: Option<HealthCheck>,
    working_dir: Option<String>,
    #[serde(default)]
    init: bool,
    #[serde(default)]
    depends_on: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    extra_hosts: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HealthCheck {
    test: Vec<String>,
    interval: String,
    timeout: String,
    retries: u32,
}

const TEXT: &str = include_str!("../../../../deploy/compose.yaml");

fn compose() -> Compose {
    serde_saphyr::from_str(TEXT).unwrap()
}

/// The settings that the command of a Redis service gives the server: `--name value`.
fn settings(service: &Service) -> Vec<(String, String)> {
    let (program, arguments) = service.command.split_first().unwrap();
    assert_eq!(program, "redis-server");
    let pairs = arguments.chunks(2).map(|pair| match pair {
        [name, value] => (name.strip_prefix("--").expect("a name").to_owned(), value.clone()),
        _ => panic!("a setting without a value: {pair:?}"),
    });
    pairs.collect()
}

#[test]
fn servers_listen_on_loopback_have_a_check_and_keep_their_data_in_known_volumes() {
    let compose = compose();
    assert_eq!(compose.name, "terrace");
    let mut ports = BTreeSet::new();
    for (name, service) in &compose.services {
        let servers = service.ports.iter().map(|port| port.rsplit_once(':').expect("a mapping"));
        for (outside, _inside) in servers {
            assert!(outside.starts_with("127.0.0.1:"), "{name} listens beyond this machine: {outside}");
            assert!(ports.insert(outside.to_owned()), "{name} shares its port: {outside}");
        }
        if let Some(check) = &service.healthcheck {
            assert_eq!(check.test[0], "CMD", "{name}");
            assert!(["1s", "2s"].contains(&&*check.interval), "{name}");
            assert!(check.retries > 0 && check.timeout == "3s", "{name}");
        }
        let is_server = !service.ports.is_empty();
        assert_eq!(is_server, service.healthcheck.is_some(), "{name}");
        for (needed, condition) in &service.depends_on {
            assert!(compose.services[needed].healthcheck.is_some(), "{name} waits for {needed}");
            assert_eq!(condition["condition"], "service_healthy", "{name} waits for {needed}");
        }
        assert!(service.extra_hosts.iter().all(|host| host.ends_with(":host-gateway")), "{name}");
        // What is built from the sources here ends the processes that it leaves behind.
        assert_eq!(service.working_dir.is_some(), service.init, "{name}");
        assert!(service.image.contains(':'), "{name} names no version");
        for volume in &service.volumes {
            let (source, _target) = volume.split_once(':').unwrap();
            assert!(source.starts_with('.') || compose.volumes.contains_key(source), "{name}: {source}");
        }
    }
    let of_profile = |profile: &str| -> Vec<&str> {
        let services = compose.services.iter();
        let runs = services.filter(|(_, service)| service.profiles.iter().any(|known| known == profile));
        runs.map(|(name, _)| name.as_str()).collect()
    };
    assert_eq!(of_profile("durable"), ["redis-durable"]);
    assert_eq!(of_profile("tests"), ["tests"]);
    assert_eq!(of_profile("proxy"), ["proxy"]);
    assert_eq!(of_profile("observe"), ["prometheus"]);
    let always = compose.services.values().filter(|service| service.profiles.is_empty()).count();
    assert_eq!(always, 2, "redis and postgres run without a profile");
}

#[test]
fn the_variables_in_the_files_comments_are_a_stack() {
    let postgres = &compose().services["postgres"].environment;
    let login = ["POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"].map(|name| postgres[name].as_str());
    assert!(TEXT.contains(&format!("postgres://{}:{}@127.0.0.1:5432/{}", login[0], login[1], login[2])));
    let value = |line: &str| -> Option<(String, String)> {
        let line = line.trim_start_matches(['#', ' ']);
        let (name, value) = match line.strip_prefix("export ") {
            Some(export) => export.split_once('=')?,
            None => line.split_once(": ")?,
        };
        Some((name.to_owned(), value.trim_matches('"').to_owned()))
    };
    let comments = || TEXT.lines().filter(|line| line.starts_with('#')).filter_map(value);
    for (redis, allowed) in [("127.0.0.1:6379", false), ("127.0.0.1:6380", false), ("redis:6379", true)] {
        let wanted = |name: &str, value: &str| match name {
            "REDIS_URL" => value.contains(redis),
            "REDIS_ALLOW_PLAINTEXT" => allowed,
            "DATABASE_URL" => value.contains("@postgres:") == allowed,
            _ => false,
        };
        let vars: BTreeMap<_, _> = comments().filter(|(name, value)| wanted(name, value)).collect();
        assert_eq!(vars.len(), if allowed { 3 } else { 2 }, "{vars:?}");
        let config = Config::in_memory().with_vars(|name| vars.get(name).map(Into::into)).unwrap();
        assert!(config.redis.is_some() && config.postgres.is_some());
        Stack::new(&config).unwrap();
    }
}

/// Starts the installed server with the command of a service; returns the settings that it then has.
async fn run(service: &str) -> BTreeMap<String, String> {
    let compose = compose();
    let mut options = Redis::options();
    for (name, value) in settings(&compose.services[service]) {
        options = options.config(&name, if value.is_empty() { "\"\"" } else { &value });
    }
    let server = options.start().await.unwrap();
    let client = redis::Client::open(server.url()).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut found = BTreeMap::new();
    for name in ["appendonly", "appendfsync", "maxmemory", "maxmemory-policy", "save"] {
        let one: BTreeMap<String, String> =
            redis::cmd("CONFIG").arg("GET").arg(name).query_async(&mut connection).await.unwrap();
        found.extend(one);
    }
    found
}

#[tokio::test]
async fn the_durable_redis_appends_to_its_file_and_evicts_nothing() {
    let settings = run("redis-durable").await;
    assert_eq!(settings["appendonly"], "yes");
    assert_eq!(settings["appendfsync"], "everysec");
    assert_eq!((&*settings["maxmemory"], &*settings["maxmemory-policy"]), ("268435456", "noeviction"));
    let compose = compose();
    let volumes = &compose.services["redis-durable"].volumes;
    assert_eq!(volumes, &["redis:/data"], "the folder in which the image runs the server");
}

#[tokio::test]
async fn the_redis_for_a_cache_evicts_and_writes_no_file() {
    let settings = run("redis").await;
    assert_eq!((&*settings["appendonly"], &*settings["save"]), ("no", ""));
    assert_eq!((&*settings["maxmemory"], &*settings["maxmemory-policy"]), ("268435456", "allkeys-lru"));
    assert!(compose().services["redis"].volumes.is_empty());
}

/// What the durable service promises, with its settings: a killed server comes back with its data.
#[tokio::test]
async fn what_the_durable_redis_has_on_disk_outlives_a_kill() {
    let compose = compose();
    let mut options = Redis::options().durable();
    for (name, value) in settings(&compose.services["redis-durable"]) {
        options = options.config(&name, &value);
    }
    let server = options.start().await.unwrap();
    let ask = async |command: &[&str]| -> redis::Value {
        let client = redis::Client::open(server.url()).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await.unwrap()
    };
    ask(&["SET", "key", "value"]).await;
    // `everysec`: what is a second old is on the disk. A rewrite of the file waits for the disk at once.
    ask(&["BGREWRITEAOF"]).await;
    let rewritten = async || {
        let redis::Value::BulkString(info) = ask(&["INFO", "persistence"]).await else { return false };
        let info = String::from_utf8_lossy(&info).into_owned();
        info.contains("aof_rewrite_in_progress:0") && info.contains("aof_rewrite_scheduled:0")
    };
    tokio::time::timeout(Duration::from_secs(20), async {
        while !rewritten().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .unwrap();
    server.kill9().unwrap();
    server.restart().await.unwrap();
    assert_eq!(ask(&["GET", "key"]).await, redis::Value::BulkString(b"value".to_vec()));
}
