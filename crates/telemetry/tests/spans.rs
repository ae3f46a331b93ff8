//! Spans of calls and loads reach an OpenTelemetry exporter, with their parents.
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

use std::{convert::Infallible, time::Duration};

use opentelemetry::trace::{SpanId, TracerProvider};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use terrace_conformance::Fake;
use terrace_core::Cache;
use terrace_tier_memory::Memory;
use tracing::{Instrument, Subscriber};
use tracing_subscriber::layer::SubscriberExt;

fn collector() -> (impl Subscriber + Send + Sync, InMemorySpanExporter) {
    let exporter = InMemorySpanExporter::default();
    let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("tests"));
    (tracing_subscriber::registry().with(layer), exporter)
}

async fn cold_read(spans: bool) {
    let builder = Cache::builder("users").near(Memory::<u64, u64>::entries(10)).tier(Fake::named("redis"));
    let builder = if spans { builder.spans() } else { builder };
    let cache = builder.build().unwrap();
    let load = || async {
        // The load goes on in a task of its own.
        tokio::time::sleep(Duration::from_millis(5)).await;
        Ok::<_, Infallible>(1)
    };
    cache.get_or_load(&1, load).instrument(tracing::info_span!("request")).await.unwrap();
    cache.settled().await;
}

/// The name of a span, with its operation where it is a call.
fn name(span: &SpanData) -> String {
    let operation = span.attributes.iter().find(|pair| pair.key.as_str() == "operation");
    operation.map_or(span.name.to_string(), |pair| format!("{} {}", span.name, pair.value))
}

#[tokio::test(flavor = "current_thread")]
async fn the_spans_of_a_cold_read_are_children_of_the_callers_span() {
    let (subscriber, exporter) = collector();
    let _on = tracing::subscriber::set_default(subscriber);
    cold_read(true).await;
    let mut spans = exporter.get_finished_spans().unwrap();
    spans.sort_by_key(|span| span.start_time);
    let names: Vec<String> = spans.iter().map(name).collect();
    assert_eq!(names, ["request", "terrace_call lease", "terrace_load", "terrace_call fill"]);
    let request = spans[0].span_context.span_id();
    assert_eq!(spans[0].parent_span_id, SpanId::INVALID);
    assert!(spans[1..].iter().all(|span| span.parent_span_id == request), "{spans:#?}");
    assert!(spans.iter().all(|span| span.span_context.trace_id() == spans[0].span_context.trace_id()));
    assert!(spans[2].end_time.duration_since(spans[2].start_time).unwrap() >= Duration::from_millis(4));
}

#[tokio::test(flavor = "current_thread")]
async fn a_cache_makes_no_spans_unless_it_is_told_to() {
    let (subscriber, exporter) = collector();
    let _on = tracing::subscriber::set_default(subscriber);
    cold_read(false).await;
    let names: Vec<String> = exporter.get_finished_spans().unwrap().iter().map(name).collect();
    assert_eq!(names, ["request"]);
}
