//! The cache of answers in one process, with a fake upstream.
#![cfg(feature = "llm")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all, stream};
use http::{HeaderMap, Response};
use support::{Upstream, cache, data, memory, request, request_with};
use terrace::ErrorKind;
use terrace_agent::{
    LlmCache, LlmRequest, LlmSettings,
    llm::{Bypass, Outcome, Prices, ReplaySpeed, When},
};

#[tokio::test]
async fn a_hundred_streaming_callers_share_one_call_and_get_equal_bytes() {
    let (upstream, cache) = (Upstream::new(), cache(&memory()));
    let calls = (0..100).map(|_| {
        let (cache, upstream) = (cache.clone(), upstream.clone());
        tokio::spawn(async move {
            let reply = cache.call(&request("why"), upstream.ask()).await.unwrap();
            let outcome = reply.outcome();
            (outcome, reply.bytes().await.unwrap())
        })
    });
    let replies = join_all(calls).await;
    let mut outcomes = [0, 0];
    for reply in replies {
        let (outcome, bytes) = reply.unwrap();
        assert_eq!(bytes, upstream.whole());
        outcomes[usize::from(outcome == Outcome::Joined)] += 1;
    }
    assert_eq!((upstream.calls(), outcomes), (1, [1, 99]));
    let hit = cache.call(&request("why"), upstream.ask()).await.unwrap();
    assert_eq!((hit.outcome(), hit.status().as_u16()), (Outcome::Hit, 200));
    assert_eq!(hit.headers().get("content-type").unwrap(), "text/event-stream");
    assert!(hit.headers().get("x-request-id").is_none(), "ids of requests are not replayed");
    let parts: Vec<Bytes> = hit.map(Result::unwrap).collect().await;
    assert_eq!(parts.len(), upstream.events.len(), "a hit is a stream of the same events");
    assert_eq!(parts.concat(), upstream.whole().as_bytes());
    let savings = cache.savings().await.unwrap();
    let [model] = &savings[..] else { panic!("{savings:?}") };
    assert_eq!((model.misses, model.joined, model.hits, model.writes), (1, 99, 1, 1));
    assert_eq!((model.used.input, model.avoided.input, model.avoided.output), (10, 1_000, 500));
}

#[tokio::test]
async fn a_caller_that_comes_late_gets_the_events_so_far_at_once() {
    let (mut upstream, cache) = (Upstream::new(), cache(&memory()));
    upstream.pause = Duration::from_millis(400);
    let mut first = cache.call(&request("why"), upstream.ask()).await.unwrap();
    for _ in 0..4 {
        first.next().await.unwrap().unwrap();
    }
    let began = Instant::now();
    let mut late = cache.call(&request("why"), upstream.ask()).await.unwrap();
    assert_eq!(late.outcome(), Outcome::Joined);
    for _ in 0..4 {
        late.next().await.unwrap().unwrap();
    }
    assert!(began.elapsed() < upstream.pause, "{:?}", began.elapsed());
    assert_eq!(upstream.calls(), 1);
}

#[tokio::test]
async fn the_first_event_is_passed_on_before_the_second_comes() {
    let (mut upstream, cache) = (Upstream::new(), cache(&memory()));
    upstream.pause = Duration::from_secs(1);
    let began = Instant::now();
    let mut reply = cache.call(&request("why"), upstream.ask()).await.unwrap();
    reply.next().await.unwrap().unwrap();
    let took = began.elapsed();
    assert!(took < 2 * upstream.pause, "{took:?}");
    println!("first event {:?} after upstream's", took.saturating_sub(upstream.pause));
}

#[tokio::test]
async fn an_upstream_that_is_cut_at_any_event_keeps_nothing_and_tells_all() {
    let cache = cache(&memory());
    let mut upstream = Upstream::new();
    upstream.pause = Duration::ZERO;
    let whole = upstream.events.len();
    for cut in 0..whole {
        upstream.cut_at = Some(cut);
        let (first, second) = (request("cut"), request("cut"));
        let (one, two) =
            tokio::join!(cache.call(&first, upstream.ask()), cache.call(&second, upstream.ask()));
        for reply in [one.unwrap(), two.unwrap()] {
            let error = reply.bytes().await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Load, "{error}");
        }
        assert_eq!(upstream.calls(), cut + 1, "an earlier answer was kept, or the call was not shared");
    }
    // An end of the connection without an error is a cut too, as long as the mark is missing.
    let full = upstream.events.clone();
    upstream.cut_at = None;
    for cut in 0..whole - 1 {
        upstream.events = full[..cut].to_vec().into();
        let reply = cache.call(&request("cut"), upstream.ask()).await.unwrap();
        assert_eq!(reply.outcome(), Outcome::Miss);
        reply.bytes().await.unwrap();
    }
    upstream.events = full;
    let before = upstream.calls();
    for expected in [Outcome::Miss, Outcome::Hit] {
        let reply = cache.call(&request("cut"), upstream.ask()).await.unwrap();
        assert_eq!(reply.outcome(), expected);
        reply.bytes().await.unwrap();
    }
    assert_eq!(upstream.calls(), before + 1);
}

#[tokio::test]
async fn an_answer_is_kept_although_its_caller_went_away() {
    let (upstream, cache) = (Upstream::new(), cache(&memory()));
    drop(cache.call(&request("why"), upstream.ask()).await.unwrap());
    let reply = cache.call(&request("why"), upstream.ask()).await.unwrap();
    assert_eq!(reply.outcome(), Outcome::Joined);
    assert_eq!(reply.bytes().await.unwrap(), upstream.whole());
    let reply = cache.call(&request("why"), upstream.ask()).await.unwrap();
    assert_eq!((reply.outcome(), upstream.calls()), (Outcome::Hit, 1));
}

#[tokio::test]
async fn a_status_of_failure_reaches_all_callers_and_is_not_kept() {
    let cache = cache(&memory());
    let mut upstream = Upstream::new();
    for status in [400, 401, 429, 500, 503] {
        upstream.status = status;
        let before = upstream.calls();
        for _ in 0..2 {
            let reply = cache.call(&request("why"), upstream.ask()).await.unwrap();
            assert_eq!((reply.status().as_u16(), reply.outcome()), (status, Outcome::Miss));
            assert!(reply.headers().contains_key("x-request-id"), "a miss has the headers of upstream");
            assert_eq!(reply.bytes().await.unwrap(), upstream.whole());
        }
        assert_eq!(upstream.calls(), before + 2);
    }
}

#[tokio::test]
async fn an_upstream_that_cannot_be_reached_is_a_typed_error() {
    let cache = cache(&memory());
    let refuse = || async {
        type Body = stream::Empty<Result<Bytes, std::io::Error>>;
        Err::<Response<Body>, _>(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
    };
    let error = cache.call(&request("why"), refuse).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.cache(), error.operation()),
        (ErrorKind::Load, Some("llm"), Some("call"))
    );
    assert!(error.load_error::<std::io::Error>().is_some(), "{error}");
}

#[tokio::test]
async fn tenants_never_meet() {
    let (upstream, cache) = (Upstream::new(), cache(&memory()));
    for (tenant, expected) in [("ann", Outcome::Miss), ("bob", Outcome::Miss), ("ann", Outcome::Hit)] {
        let reply = cache.call(&request("why").tenant(tenant), upstream.ask()).await.unwrap();
        assert_eq!(reply.outcome(), expected, "{tenant}");
        reply.bytes().await.unwrap();
    }
    cache.clear_tenant("ann").await.unwrap();
    let outcome = |tenant| {
        let (cache, upstream) = (cache.clone(), upstream.clone());
        async move { cache.call(&request("why").tenant(tenant), upstream.ask()).await.unwrap().outcome() }
    };
    assert_eq!((outcome("bob").await, outcome("ann").await), (Outcome::Hit, Outcome::Miss));
}

#[tokio::test]
async fn a_retired_model_is_asked_anew_also_by_a_call_that_began_before() {
    let (upstream, cache) = (Upstream::new(), cache(&memory()));
    let ask = || async { cache.call(&request("why"), upstream.ask()).await.unwrap() };
    ask().await.bytes().await.unwrap();
    assert_eq!(ask().await.outcome(), Outcome::Hit);
    assert_eq!(cache.retire("m*").await.unwrap(), ["m"]);
    let under_way = ask().await;
    assert_eq!(under_way.outcome(), Outcome::Miss);
    cache.retire("m").await.unwrap();
    under_way.bytes().await.unwrap();
    assert_eq!(ask().await.outcome(), Outcome::Miss);
    assert_eq!(cache.retire("other*").await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn cache_control_is_obeyed_for_each_request() {
    let (upstream, cache) = (Upstream::new(), cache(&memory()));
    let ask = |control: &'static str| {
        let mut headers = HeaderMap::new();
        headers.insert("cache-control", control.parse().unwrap());
        let (cache, upstream) = (cache.clone(), upstream.clone());
        async move {
            let reply = cache.call(&request_with("why", &headers), upstream.ask()).await.unwrap();
            let outcome = reply.outcome();
            reply.bytes().await.unwrap();
            outcome
        }
    };
    assert_eq!(ask("no-store").await, Outcome::Bypass(Bypass::NoStore));
    assert_eq!(ask("max-age=60").await, Outcome::Miss, "what no-store brought was not kept");
    assert_eq!(ask("max-age=60").await, Outcome::Hit);
    assert_eq!(ask("no-cache").await, Outcome::Miss);
    assert_eq!(ask("public").await, Outcome::Hit);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(ask("max-age=0").await, Outcome::Miss);
    assert_eq!(upstream.calls(), 4);
}

#[tokio::test]
async fn requests_that_depend_on_state_or_are_not_understood_go_past_the_cache() {
    let upstream = Upstream::new();
    let settings = LlmSettings { when: When::Deterministic, ..LlmSettings::default() };
    let cache = LlmCache::new(&memory(), settings).unwrap();
    for (path, body, reason) in [
        ("/v1/responses", r#"{"model":"m","seed":1,"previous_response_id":"r"}"#, Bypass::Stateful),
        ("/v1/responses", r#"{"model":"m","seed":1,"background":true}"#, Bypass::Stateful),
        ("/v1/messages/batches", r#"{"model":"m","seed":1}"#, Bypass::Endpoint),
        ("/v1/chat/completions", r#"{"model":"m"}"#, Bypass::NotDeterministic),
        ("/v1/chat/completions", r#"{"model":"m","temperature":0.2}"#, Bypass::NotDeterministic),
        ("/v1/chat/completions", r#"{"model":"m","seed":9007199254740993}"#, Bypass::Number),
    ] {
        let request = LlmRequest::new("fake", path, &HeaderMap::new(), body).unwrap();
        for _ in 0..2 {
            let reply = cache.call(&request, upstream.ask()).await.unwrap();
            assert_eq!(reply.outcome(), Outcome::Bypass(reason), "{body}");
            assert_eq!(reply.bytes().await.unwrap(), upstream.whole());
        }
    }
    let zero = r#"{"model":"m","temperature":0}"#;
    let request = LlmRequest::new("fake", "/v1/chat/completions", &HeaderMap::new(), zero).unwrap();
    let reply = cache.call(&request, upstream.ask()).await.unwrap();
    assert_eq!(reply.outcome(), Outcome::Miss);
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_passed_on_and_not_kept() {
    let upstream = Upstream::new();
    let settings = LlmSettings { max_answer_bytes: 100, ..LlmSettings::default() };
    let cache = LlmCache::new(&memory(), settings).unwrap();
    for _ in 0..2 {
        let reply = cache.call(&request("why"), upstream.ask()).await.unwrap();
        assert_eq!(reply.outcome(), Outcome::Miss);
        assert_eq!(reply.bytes().await.unwrap(), upstream.whole());
    }
}

#[tokio::test]
async fn a_call_beyond_its_deadline_is_an_error_for_its_callers() {
    let mut upstream = Upstream::new();
    upstream.pause = Duration::from_millis(300);
    let settings = LlmSettings { deadline: Duration::from_millis(450), ..LlmSettings::default() };
    let cache = LlmCache::new(&memory(), settings).unwrap();
    let reply = cache.call(&request("why"), upstream.ask()).await.unwrap();
    let error = reply.bytes().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
}

#[tokio::test]
async fn a_kept_stream_can_be_replayed_with_its_pauses() {
    let mut upstream = Upstream::new();
    upstream.pause = Duration::from_millis(20);
    let settings = LlmSettings { replay_speed: ReplaySpeed::Recorded, ..LlmSettings::default() };
    let cache = LlmCache::new(&memory(), settings).unwrap();
    cache.call(&request("why"), upstream.ask()).await.unwrap().bytes().await.unwrap();
    let began = Instant::now();
    let hit = cache.call(&request("why"), upstream.ask()).await.unwrap();
    assert_eq!(hit.outcome(), Outcome::Hit);
    assert_eq!(hit.bytes().await.unwrap(), upstream.whole());
    assert!(began.elapsed() >= upstream.pause * 7, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_warm_up_asks_for_each_request_once_and_within_its_bound() {
    let (upstream, cache) = (Upstream::new(), cache(&memory()));
    let requests: Vec<_> = (0..20).map(|number| request(&format!("prompt {}", number % 10))).collect();
    let ask = {
        let upstream = upstream.clone();
        move |_: LlmRequest| upstream.ask()()
    };
    let warmed = cache.warm(requests.clone(), 4, ask.clone()).await;
    assert_eq!((warmed.present + warmed.loaded, warmed.failed, upstream.calls()), (20, 0, 10));
    let warmed = cache.warm(requests, 4, ask).await;
    assert_eq!((warmed.present, warmed.loaded), (20, 0));
}

#[tokio::test]
async fn savings_have_money_where_a_price_is_known() {
    let upstream = Upstream::new();
    let prices = Prices::from_toml("[models.m]\ninput = 1000.0\noutput = 2000.0\n").unwrap();
    let cache = LlmCache::new(&memory(), LlmSettings { prices, ..LlmSettings::default() }).unwrap();
    for _ in 0..4 {
        cache.call(&request("why"), upstream.ask()).await.unwrap().bytes().await.unwrap();
    }
    let savings = cache.savings().await.unwrap();
    // One call has 10 tokens in and 5 out: two cents.
    assert!((savings[0].spent.unwrap() - 0.02).abs() < 1e-9, "{savings:?}");
    assert!((savings[0].saved.unwrap() - 0.06).abs() < 1e-9, "{savings:?}");
}

/// The four sampling configurations of each prompt have a key of their own: 700 outputs, 400 keys.
#[tokio::test]
async fn no_answer_crosses_sampling_parameters_in_the_sampling_report() {
    let Some(text) = data("oasst_pythia-3b_sampling_report.json.gz") else { return };
    let report: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let cache = cache(&memory());
    let (mut keys, mut outputs) = (std::collections::HashMap::new(), 0);
    for prompt in report["prompts"].as_array().unwrap() {
        for result in prompt["results"].as_array().unwrap() {
            let mut body = result["sampling_params"].as_object().cloned().unwrap_or_default();
            body.insert("model".into(), report["model_name"].clone());
            body.insert("prompt".into(), prompt["prompt"].clone());
            let body = serde_json::Value::Object(body);
            let request =
                LlmRequest::new("report", "/v1/completions", &HeaderMap::new(), body.to_string()).unwrap();
            let key = cache.key(&request).await.unwrap().unwrap();
            outputs += result["outputs"].as_array().unwrap().len();
            let before = keys.insert(key, (result["sampling_config"].clone(), prompt["prompt"].clone()));
            let same = (result["sampling_config"].clone(), prompt["prompt"].clone());
            assert!(before.is_none_or(|before| before == same), "a key stands for two configurations");
        }
    }
    println!("{outputs} outputs, {} keys", keys.len());
    assert_eq!((outputs, keys.len()), (700, 400));
}
