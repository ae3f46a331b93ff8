//! The proxy over a fake upstream server in the process, by real connections.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use serde_json::{Value, json};
use terrace::config::{Config, Stack};
use terrace_proxy::{Proxy, Scope, Settings, install_tls_provider};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

/// What the fake server answers.
#[derive(Clone)]
struct Upstream {
    calls: Arc<AtomicUsize>,
    status: u16,
    events: Vec<String>,
    pause: Duration,
    /// After how many events the connection breaks.
    cut_at: Option<usize>,
}

impl Upstream {
    fn new() -> Self {
        let content = |text| json!({"model": "m-1", "choices": [{"index": 0, "delta": {"content": text}}]});
        let mut events: Vec<Value> = ["The", " sky", " is", " blue"].map(content).into();
        events.push(json!({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}));
        events.push(json!({"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 4}}));
        let mut events: Vec<String> = events.iter().map(|event| format!("data: {event}\n\n")).collect();
        events.push("data: [DONE]\n\n".to_owned());
        Self { calls: Arc::default(), status: 200, events, pause: Duration::from_millis(10), cut_at: None }
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

async fn upstream_answer(State(upstream): State<Upstream>, request: Request) -> Response {
    upstream.calls.fetch_add(1, Ordering::SeqCst);
    assert!(!request.headers().contains_key("accept-encoding"), "a compressed answer could not be read");
    if request.uri().path().ends_with("/models") {
        return Response::new(Body::from(r#"{"data": []}"#));
    }
    let has_login = request.headers().get("authorization").is_some();
    let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap();
    let asked: Value = serde_json::from_slice(&body).unwrap();
    let response = Response::builder().status(upstream.status).header("x-request-id", "7");
    if asked["stream"] != true {
        let answer = json!({"model": "m-1", "login": has_login, "choices": [{"index": 0, "finish_reason": "stop",
            "message": {"content": "Blue."}}], "usage": {"prompt_tokens": 10, "completion_tokens": 2}});
        return response
            .header("content-type", "application/json")
            .body(Body::from(answer.to_string()))
            .unwrap();
    }
    let (pause, cut_at) = (upstream.pause, upstream.cut_at);
    let events = stream::iter(upstream.events.into_iter().enumerate()).then(move |(at, event)| async move {
        tokio::time::sleep(pause).await;
        match cut_at {
            Some(cut) if at >= cut => Err(std::io::Error::other("cut")),
            _ => Ok(Bytes::from(event)),
        }
    });
    response.header("content-type", "text/event-stream").body(Body::from_stream(events)).unwrap()
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    url
}

/// A proxy in memory before `url`, and its own URL.
async fn proxy(url: &str, change: impl FnOnce(&mut Settings)) -> (String, Proxy) {
    install_tls_provider();
    let mut settings =
        Settings { routes: [("fake".to_owned(), url.to_owned())].into(), ..Settings::default() };
    change(&mut settings);
    let proxy = Proxy::new(&Stack::new(&Config::in_memory()).unwrap(), &settings).unwrap();
    (serve(proxy.router()).await, proxy)
}

async fn start(upstream: &Upstream) -> String {
    let url = serve(Router::new().fallback(upstream_answer).with_state(upstream.clone())).await;
    proxy(&url, |_| {}).await.0
}

fn body(prompt: &str, stream: bool) -> String {
    json!({"model": "m", "stream": stream, "messages": [{"role": "user", "content": prompt}]}).to_string()
}

fn post(url: &str, body: String) -> reqwest::RequestBuilder {
    install_tls_provider();
    reqwest::Client::new().post(format!("{url}/fake/v1/chat/completions")).body(body)
}

fn outcome(response: &reqwest::Response) -> String {
    response.headers()["x-terrace-cache"].to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_streaming_callers_make_one_upstream_call_and_get_equal_bytes() {
    let upstream = Upstream::new();
    let url = start(&upstream).await;
    let calls = (0..100).map(|_| async {
        let response = post(&url, body("why", true)).send().await.unwrap();
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        (outcome(&response), response.bytes().await.unwrap())
    });
    let answers = join_all(calls).await;
    assert!(answers.iter().all(|(_, bytes)| *bytes == upstream.events.concat()));
    let joined = answers.iter().filter(|(outcome, _)| outcome == "joined").count();
    let hits = answers.iter().filter(|(outcome, _)| outcome == "hit").count();
    println!("{joined} joined, {hits} hit, {} calls of upstream", upstream.calls());
    assert_eq!((upstream.calls(), joined + hits), (1, 99));
    let hit = post(&url, body("why", true)).send().await.unwrap();
    assert_eq!((outcome(&hit), upstream.calls()), ("hit".to_owned(), 1));
    assert_eq!(hit.headers()["x-terrace-key"].len(), 64);
    assert!(hit.headers()["age"].to_str().unwrap().parse::<u64>().is_ok());
    assert!(!hit.headers().contains_key("x-request-id"));
    assert_eq!(hit.bytes().await.unwrap(), upstream.events.concat());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_is_cut_at_any_event_keeps_nothing_and_the_caller_is_told() {
    let mut upstream = Upstream::new();
    upstream.pause = Duration::ZERO;
    let server = Arc::new(parking_lot::Mutex::new(upstream.clone()));
    let shared = Arc::clone(&server);
    let now = move |request: Request| {
        let upstream = shared.lock().clone();
        async move { upstream_answer(State(upstream), request).await }
    };
    let (url, _proxy) = proxy(&serve(Router::new().fallback(now)).await, |_| {}).await;
    for cut in 0..upstream.events.len() {
        server.lock().cut_at = Some(cut);
        let response = post(&url, body("cut", true)).send().await;
        // Where not even the first line came, the proxy says so itself.
        match response {
            Ok(response) if response.status().is_success() => {
                assert!(response.bytes().await.is_err(), "cut at {cut} looks whole");
            }
            Ok(response) => assert_eq!(response.status(), 502),
            Err(error) => panic!("{error}"),
        }
        assert_eq!(upstream.calls(), cut + 1, "something was kept");
    }
    server.lock().cut_at = None;
    for expected in ["miss", "hit"] {
        let response = post(&url, body("cut", true)).send().await.unwrap();
        assert_eq!(outcome(&response), expected);
        assert_eq!(response.bytes().await.unwrap(), upstream.events.concat());
    }
}

#[tokio::test]
async fn whole_answers_are_kept_by_credential_and_the_credential_is_passed_on() {
    let upstream = Upstream::new();
    let url = start(&upstream).await;
    for (login, expected) in [("sk-1", "miss"), ("sk-1", "hit"), ("sk-2", "miss"), ("sk-1", "hit")] {
        let response = post(&url, body("why", false)).bearer_auth(login).send().await.unwrap();
        assert_eq!(outcome(&response), expected, "{login}");
        let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        assert_eq!(answer["login"], true);
    }
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn with_a_shared_scope_callers_share_answers() {
    let upstream = Upstream::new();
    let server = serve(Router::new().fallback(upstream_answer).with_state(upstream.clone())).await;
    let (url, _proxy) = proxy(&server, |settings| settings.scope = Scope::Shared).await;
    for login in ["sk-1", "sk-2"] {
        post(&url, body("why", false)).bearer_auth(login).send().await.unwrap().bytes().await.unwrap();
    }
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn bad_requests_have_clear_answers_and_keep_nothing() {
    let upstream = Upstream::new();
    let server = serve(Router::new().fallback(upstream_answer).with_state(upstream.clone())).await;
    let (url, proxy) = proxy(&server, |settings| settings.max_body_bytes = 500).await;
    let long = body(&"x".repeat(1_000), false);
    for (text, status, expected) in [
        ("{\"model\": ".to_owned(), 400, "not JSON (line 1"),
        (String::new(), 400, "not JSON"),
        ("[1, 2]".to_owned(), 400, "not an object"),
        (long.clone(), 413, "longer than 500 bytes"),
    ] {
        let response = post(&url, text).send().await.unwrap();
        assert_eq!(response.status(), status);
        let answer: Value = serde_json::from_slice(&response.bytes().await.unwrap()).unwrap();
        let message = answer["error"]["message"].as_str().unwrap();
        assert!(message.contains(expected), "{message}");
    }
    // A body without a length is counted as it comes.
    let parts = stream::iter([Ok::<_, std::io::Error>(Bytes::from(long))]);
    let unknown = post(&url, String::new()).body(reqwest::Body::wrap_stream(parts)).send().await.unwrap();
    assert_eq!(unknown.status(), 413);
    let other =
        reqwest::Client::new().post(format!("{url}/other/v1/messages")).body("{}").send().await.unwrap();
    assert_eq!(other.status(), 404);
    assert!(other.text().await.unwrap().contains("/fake"));
    assert_eq!(upstream.calls(), 0);
    assert!(proxy.cache().savings().await.unwrap().is_empty());
}

#[tokio::test]
async fn failures_of_upstream_reach_the_caller_and_are_not_kept() {
    for status in [400, 401, 404, 429, 500, 503] {
        let mut upstream = Upstream::new();
        upstream.status = status;
        let url = start(&upstream).await;
        for _ in 0..2 {
            let response = post(&url, body("why", false)).send().await.unwrap();
            assert_eq!((response.status().as_u16(), outcome(&response)), (status, "miss".to_owned()));
            assert_eq!(response.headers()["x-request-id"], "7");
            assert!(response.text().await.unwrap().contains("Blue."));
        }
        assert_eq!(upstream.calls(), 2);
    }
}

/// A server that takes each request and answers `text`, which may be nothing, before it closes the connection.
async fn raw_server(text: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut connection, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 4096];
            let _ = connection.read(&mut buffer).await;
            let _ = connection.write_all(text.as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn an_upstream_that_answers_nothing_or_half_is_an_error_for_the_caller() {
    let refused = "http://127.0.0.1:1".to_owned();
    for server in [raw_server("").await, raw_server("no http at all\r\n\r\n").await, refused] {
        let (url, proxy) = proxy(&server, |_| {}).await;
        for _ in 0..2 {
            let response = post(&url, body("why", false)).send().await.unwrap();
            assert_eq!(response.status(), 502);
            let text = response.text().await.unwrap();
            assert!(text.contains("the server of the route fake gave no answer"), "{text}");
        }
        let savings = proxy.cache().savings().await.unwrap();
        assert_eq!((savings[0].misses, savings[0].writes), (2, 0));
    }
    let half =
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{\"choices\": [";
    let (url, _proxy) = proxy(&raw_server(half).await, |_| {}).await;
    for _ in 0..2 {
        let response = post(&url, body("why", false)).send().await.unwrap();
        assert_eq!(outcome(&response), "miss");
        assert!(response.bytes().await.is_err());
    }
}

#[tokio::test]
async fn an_upstream_beyond_the_deadline_is_a_timeout() {
    let mut upstream = Upstream::new();
    upstream.pause = Duration::from_secs(5);
    let slow = move |request: Request| {
        let upstream = upstream.clone();
        async move {
            tokio::time::sleep(upstream.pause).await;
            upstream_answer(State(upstream), request).await
        }
    };
    let (url, _proxy) =
        proxy(&serve(Router::new().fallback(slow)).await, |settings| settings.deadline_seconds = 1).await;
    let response = post(&url, body("why", false)).send().await.unwrap();
    assert_eq!(response.status(), 504);
}

#[tokio::test]
async fn a_client_that_goes_away_in_its_request_or_in_the_answer_harms_nobody() {
    let upstream = Upstream::new();
    let url = start(&upstream).await;
    let address = url.strip_prefix("http://").unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    let head =
        "POST /fake/v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\n{\"model\": \"m\"";
    half.write_all(head.as_bytes()).await.unwrap();
    drop(half);
    let mut response = post(&url, body("gone", true)).send().await.unwrap();
    response.chunk().await.unwrap();
    drop(response);
    let answer = post(&url, body("gone", true)).send().await.unwrap();
    assert_ne!(outcome(&answer), "miss");
    assert_eq!(answer.bytes().await.unwrap(), upstream.events.concat());
    assert_eq!(upstream.calls(), 1, "the call went on, and its answer is kept");
}

#[tokio::test]
async fn what_the_cache_does_not_understand_is_passed_on() {
    let upstream = Upstream::new();
    let url = start(&upstream).await;
    for _ in 0..2 {
        let response = reqwest::get(format!("{url}/fake/v1/models")).await.unwrap();
        assert_eq!(outcome(&response), "bypass; reason=endpoint");
        assert_eq!(response.text().await.unwrap(), r#"{"data": []}"#);
    }
    assert_eq!(upstream.calls(), 2);
}

#[tokio::test]
async fn stats_metrics_and_health_say_what_happened() {
    let upstream = Upstream::new();
    let url = start(&upstream).await;
    for _ in 0..3 {
        post(&url, body("why", false)).send().await.unwrap().bytes().await.unwrap();
    }
    let read = async |path: &str| reqwest::get(format!("{url}/{path}")).await.unwrap().text().await.unwrap();
    let stats: Value = serde_json::from_str(&read("stats").await).unwrap();
    let model = &stats["models"][0];
    assert_eq!((model["model"].as_str(), model["hits"].as_u64()), (Some("m"), Some(2)));
    assert_eq!(model["avoided"]["input"], 20);
    assert!((model["hit_rate"].as_f64().unwrap() - 2.0 / 3.0).abs() < 1e-9);
    let metrics = read("metrics").await;
    assert!(metrics.contains("terrace_llm_requests_total{model=\"m\",kind=\"hit\"} 2"), "{metrics}");
    let health: Value = serde_json::from_str(&read("healthz").await).unwrap();
    assert_eq!(health["status"], "ok");
    assert_eq!(health["tiers"][0]["name"], "near");
}

#[tokio::test]
async fn a_credential_is_in_no_file_of_the_proxy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("proxy.db");
    let upstream = Upstream::new();
    let server = serve(Router::new().fallback(upstream_answer).with_state(upstream.clone())).await;
    let settings = Settings { routes: [("fake".to_owned(), server)].into(), ..Settings::default() };
    let toml = format!("[memory]\n[sqlite]\npath = {path:?}\nbudget_ms = 10000");
    let stack = Stack::new(&Config::from_toml(&toml).unwrap()).unwrap();
    install_tls_provider();
    let proxy = Proxy::new(&stack, &settings).unwrap();
    proxy.cache().ready().await.unwrap();
    let url = serve(proxy.router()).await;
    let ask = || post(&url, body("a planted prompt", false)).bearer_auth("sk-planted-secret").send();
    let response = ask().await.unwrap();
    response.bytes().await.unwrap();
    assert_eq!(outcome(&ask().await.unwrap()), "hit");
    proxy.cache().close().await.unwrap();
    let mut kept = 0;
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        let holds = |marker: &str| bytes.windows(marker.len()).any(|window| window == marker.as_bytes());
        assert!(!holds("sk-planted-secret") && !holds("a planted prompt"));
        kept += usize::from(holds("Blue."));
    }
    assert!(kept > 0, "the answer is in the file, so that the search is one");
}
