//! The cache of the results of tools, on real calls of agents.
#![cfg(feature = "llm")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use support::{data, memory};
use terrace_agent::{ToolCache, ToolSettings};

const READS: [&str; 6] = [
    "get_reservation_details",
    "search_direct_flight",
    "get_user_details",
    "calculate",
    "search_onestop_flight",
    "list_all_airports",
];

/// The calls of tools in the chats, with what the tools answered.
fn calls(chats: &Value) -> Vec<(String, String, String)> {
    let mut calls = Vec::new();
    for chat in chats.as_array().unwrap() {
        let messages = chat["traj"].as_array().unwrap();
        for (at, message) in messages.iter().enumerate() {
            for (after, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
                let answer = messages.get(at + 1 + after).filter(|answer| answer["role"] == "tool");
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let function = &call["function"];
                let output = answer.map(|answer| text(&answer["content"])).unwrap_or_default();
                calls.push((text(&function["name"]), text(&function["arguments"]), output));
            }
        }
    }
    calls
}

#[tokio::test]
async fn reads_of_real_agents_hit_481_of_774_times_with_no_wrong_result() {
    let Some(bytes) = data("tau_gpt-4o-airline.json.gz") else { return };
    let calls = calls(&serde_json::from_slice(&bytes).unwrap());
    let settings =
        READS.iter().fold(ToolSettings::new(), |s, tool| s.reads(*tool, Duration::from_secs(3600)));
    let tools = ToolCache::new(&memory(), settings).unwrap();
    let mut raw: HashMap<(String, String), usize> = HashMap::new();
    let (mut reads, mut hits, mut raw_hits, mut wrong, mut other) = (0, 0, 0, 0, 0);
    for (tool, arguments, output) in calls {
        let given = output.clone();
        let result =
            tools.call("tau", &tool, &arguments, || async { Ok::<_, std::io::Error>(given) }).await.unwrap();
        if !READS.contains(&tool.as_str()) {
            assert!(!result.hit, "{tool} is not declared to read");
            other += 1;
            continue;
        }
        let seen = raw.entry((tool, arguments)).or_default();
        raw_hits += usize::from(*seen > 0);
        *seen += 1;
        reads += 1;
        hits += usize::from(result.hit);
        wrong += usize::from(result.output != output);
    }
    println!("{hits} of {reads} reads hit ({raw_hits} by raw arguments), {wrong} wrong, {other} others ran");
    assert_eq!((reads, raw_hits, hits, wrong, other), (774, 459, 481, 0, 390));
}

fn counted(
    runs: &Arc<AtomicUsize>,
) -> impl FnOnce() -> std::future::Ready<Result<String, std::io::Error>> + use<> {
    let runs = Arc::clone(runs);
    move || std::future::ready(Ok(runs.fetch_add(1, Ordering::SeqCst).to_string()))
}

#[tokio::test]
async fn a_write_drops_what_it_changes_for_its_tenant_alone() {
    let life = Duration::from_secs(60);
    let settings = ToolSettings::new().reads("get", life).reads("list", life).writes("set", &["get"]);
    let (tools, runs) = (ToolCache::new(&memory(), settings).unwrap(), Arc::default());
    let hit =
        async |tenant: &str, tool: &str| tools.call(tenant, tool, "{}", counted(&runs)).await.unwrap().hit;
    for (tenant, tool, expected) in [
        ("a", "get", false),
        ("a", "list", false),
        ("b", "get", false),
        ("a", "get", true),
        ("a", "set", false),
        ("a", "get", false),
        ("a", "list", true),
        ("b", "get", true),
        ("a", "undeclared", false),
        ("a", "undeclared", false),
    ] {
        assert_eq!(hit(tenant, tool).await, expected, "{tenant} {tool}");
    }
    tools.invalidate("b", "get").await.unwrap();
    assert!(!hit("b", "get").await);
}

#[tokio::test]
async fn a_write_that_fails_or_panics_drops_too_and_its_error_is_the_callers() {
    let settings = ToolSettings::new().reads("get", Duration::from_secs(60)).writes("set", &["get"]);
    let (tools, runs) = (ToolCache::new(&memory(), settings).unwrap(), Arc::default());
    let fails = || async { Err::<String, _>(std::io::Error::other("refused")) };
    let nothing: Vec<String> = Vec::new();
    let panics = move || async move { Ok::<_, std::io::Error>(nothing[0].clone()) };
    assert!(!tools.call("a", "get", "1", counted(&runs)).await.unwrap().hit);
    let error = tools.call("a", "set", "1", fails).await.unwrap_err();
    assert!(error.to_string().starts_with("cache tools: call: the loader failed: refused"), "{error}");
    assert!(!tools.call("a", "get", "1", counted(&runs)).await.unwrap().hit);
    let error = tools.call("a", "set", "1", panics).await.unwrap_err();
    assert_eq!(error.kind(), terrace::ErrorKind::Panicked);
    assert!(!tools.call("a", "get", "1", counted(&runs)).await.unwrap().hit);
    // A read that fails is not kept.
    let error = tools.call("a", "get", "2", fails).await.unwrap_err();
    assert_eq!(error.kind(), terrace::ErrorKind::Load);
    assert!(!tools.call("a", "get", "2", counted(&runs)).await.unwrap().hit);
}

#[tokio::test]
async fn arguments_that_are_not_json_or_not_exact_run_each_time() {
    let settings = ToolSettings::new().reads("get", Duration::from_secs(60));
    let (tools, runs) = (ToolCache::new(&memory(), settings).unwrap(), Arc::default());
    for arguments in ["not json", "", r#"{"id": 9007199254740993}"#] {
        for _ in 0..2 {
            assert!(!tools.call("a", "get", arguments, counted(&runs)).await.unwrap().hit, "{arguments}");
        }
    }
}

#[tokio::test]
async fn concurrent_equal_calls_run_the_tool_once() {
    let settings = ToolSettings::new().reads("get", Duration::from_secs(60));
    let (tools, runs) = (ToolCache::new(&memory(), settings).unwrap(), Arc::<AtomicUsize>::default());
    let calls = (0..50).map(|_| {
        let (tools, runs) = (tools.clone(), Arc::clone(&runs));
        let slow = || async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok::<_, std::io::Error>(runs.fetch_add(1, Ordering::SeqCst).to_string())
        };
        async move { tools.call("a", "get", "{}", slow).await.unwrap() }
    });
    let results = futures_util::future::join_all(calls).await;
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(results.iter().filter(|result| !result.hit).count(), 1);
}

#[test]
fn contradictions_in_the_settings_are_errors() {
    let life = Duration::from_secs(1);
    let table: BTreeMap<&str, ToolSettings> = [
        ("to read and to write", ToolSettings::new().reads("a", life).writes("a", &[])),
        ("not declared to read", ToolSettings::new().writes("b", &["a"])),
        ("longer than zero", ToolSettings::new().reads("a", Duration::ZERO)),
    ]
    .into();
    for (expected, settings) in table {
        let error = ToolCache::new(&memory(), settings).unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains("tools"), "{error}");
    }
}
