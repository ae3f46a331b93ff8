//! What a program offers to Prometheus, and the files of `deploy/` for it, checked by Prometheus's own tools.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeSet,
    convert::Infallible,
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use serde_json::Value;
use terrace::{
    Cache, Memory, Postgres, Redis, Ttl,
    telemetry::{METRICS, Telemetry},
};
use terrace_testbed::{Prometheus, promtool, shared_postgres, shared_redis, unique_name};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};

const DEPLOY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");

fn check(arguments: &[&str], input: &str) -> Output {
    let mut promtool = Command::new(promtool().unwrap());
    promtool.current_dir(DEPLOY).args(arguments);
    let pipes = promtool.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = pipes.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn assert_clean(output: &Output) {
    let text = [&*output.stdout, &output.stderr].map(String::from_utf8_lossy).join("\n");
    assert!(output.status.success(), "{text}");
    println!("{}", text.trim());
}

type Stack = Cache<u64, u64>;

/// A cache over all tiers, and some traffic of each kind.
async fn stack() -> (Stack, Telemetry) {
    let redis = Redis::new(shared_redis().await.unwrap()).unwrap();
    let postgres = Postgres::new(&shared_postgres().await.unwrap()).unwrap();
    let cache = Cache::builder(unique_name("telemetry"))
        .near(Memory::entries(100))
        .tier(redis)
        .store(postgres)
        .expire(Ttl::secs(1).stale_while_revalidate(Duration::from_secs(5)))
        .build()
        .unwrap();
    cache.ready().await.unwrap();
    let telemetry = Telemetry::new();
    telemetry.watch(&cache);
    (cache, telemetry)
}

async fn traffic(cache: &Stack) {
    for key in 0..300 {
        cache.get_or_load(&(key % 150), || async move { Ok::<_, Infallible>(key) }).await.unwrap();
        cache.get(&(1_000 + key)).await.unwrap();
        if key % 10 == 0 {
            cache.put(&key, key).await.unwrap();
            cache.invalidate(&(key / 2)).await.unwrap();
        }
    }
}

#[tokio::test]
async fn promtool_finds_the_metrics_clean() {
    let (cache, telemetry) = stack().await;
    traffic(&cache).await;
    cache.settled().await;
    assert_clean(&check(&["check", "metrics"], &telemetry.prometheus()));
    let wrong = "# TYPE terrace_reads counter\nterrace_reads 1\n";
    assert!(!check(&["check", "metrics"], wrong).status.success(), "the check can fail");
}

#[test]
fn each_alert_has_a_case_that_fires_and_one_that_stays_silent() {
    assert_clean(&check(&["check", "config", "prometheus.yml"], ""));
    assert_clean(&check(&["test", "rules", "alerts.test.yml"], ""));
    let alerts = std::fs::read_to_string(Path::new(DEPLOY).join("alerts.yml")).unwrap();
    let cases = std::fs::read_to_string(Path::new(DEPLOY).join("alerts.test.yml")).unwrap();
    let names: Vec<&str> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert_eq!(names.len(), 8);
    for name in names {
        let tests = format!("alertname: {name}\n");
        let of_alert: Vec<&str> = cases.split("- interval:").filter(|case| case.contains(&tests)).collect();
        let fires = of_alert.iter().filter(|case| case.contains("exp_labels")).count();
        let silent = of_alert.iter().filter(|case| case.contains("exp_alerts: []")).count();
        assert_eq!((fires, silent), (1, 1), "{name}");
    }
}

/// The queries of the dashboard, as Prometheus gets them.
fn queries() -> Vec<String> {
    let text = std::fs::read_to_string(Path::new(DEPLOY).join("dashboard.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let query = |target: &Value| target["expr"].as_str().unwrap().to_owned();
    targets.map(query).map(|query| query.replace("$cache", ".*").replace("$__rate_interval", "5s")).collect()
}

/// The names of metrics in a text, without the endings of a histogram.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    let names = words.filter(|word| word.starts_with("terrace_"));
    names.map(|name| name.trim_end_matches("_bucket").to_owned()).collect()
}

#[test]
fn queries_alerts_and_the_page_name_only_metrics_that_are_there() {
    let known: BTreeSet<String> = METRICS.iter().map(|metric| metric.name.to_owned()).collect();
    let alerts = std::fs::read_to_string(Path::new(DEPLOY).join("alerts.yml")).unwrap();
    let page = std::fs::read_to_string(Path::new(DEPLOY).join("../docs/telemetry.md")).unwrap();
    let spans = ["terrace_call", "terrace_load"].map(str::to_owned);
    for text in queries().into_iter().chain([alerts, page.clone()]) {
        let named = metrics_in(&text);
        let unknown: Vec<_> =
            named.iter().filter(|name| !known.contains(*name) && !spans.contains(name)).collect();
        assert!(unknown.is_empty() && !named.is_empty(), "{unknown:?}");
    }
    let named = metrics_in(&page);
    let missing: Vec<_> = known.difference(&named).collect();
    assert!(missing.is_empty(), "docs/telemetry.md does not name {missing:?}");
}

/// Sends the text of a scrape on each connection.
async fn serve(listener: TcpListener, telemetry: Telemetry) {
    loop {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = [0; 1_024];
        let _read = socket.read(&mut request).await.unwrap();
        let text = telemetry.prometheus();
        let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nConnection: close\r\n";
        let answer = format!("{head}Content-Length: {}\r\n\r\n{text}", text.len());
        let _scraper_may_have_left = socket.write_all(answer.as_bytes()).await;
    }
}

/// The number of time series that a query gives.
async fn ask(prometheus: &Prometheus, query: &str) -> usize {
    let body: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let body = format!("query={body}");
    let mut socket = TcpStream::connect(("127.0.0.1", prometheus.port())).await.unwrap();
    let head = "POST /api/v1/query HTTP/1.0\r\nContent-Type: application/x-www-form-urlencoded\r\n";
    socket.write_all(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).as_bytes()).await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    let json: Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    assert_eq!(json["status"], "success", "{query}: {json}");
    json["data"]["result"].as_array().unwrap().len()
}

/// `TERRACE_SCRAPE_SECONDS` sets for how long Prometheus scrapes at least; a few seconds are enough for a rate. On a
/// busy machine it takes longer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_panel_is_empty_on_a_real_prometheus() {
    let seconds = std::env::var("TERRACE_SCRAPE_SECONDS").map_or(6, |seconds| seconds.parse().unwrap());
    let (cache, telemetry) = stack().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(serve(listener, telemetry));
    let prometheus = Prometheus::options().scrape(port).start().await.unwrap();
    let (began, mut empty) = (Instant::now(), queries());
    assert!(empty.len() >= 12);
    while !empty.is_empty() || began.elapsed() < Duration::from_secs(seconds) {
        assert!(began.elapsed() < Duration::from_secs(seconds + 60), "no series: {empty:#?}");
        traffic(&cache).await;
        sleep(Duration::from_millis(100)).await;
        let mut still_empty = Vec::new();
        for query in empty {
            match ask(&prometheus, &query).await {
                0 => still_empty.push(query),
                series => println!("{series} series: {query}"),
            }
        }
        empty = still_empty;
    }
    assert_eq!(ask(&prometheus, "terrace_reads_total{tier=\"none\"}").await, 0, "a query can be empty");
    server.abort();
}
