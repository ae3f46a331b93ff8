//! The exporters give what the text of Prometheus gives.
#![cfg(all(feature = "metrics", feature = "opentelemetry"))]
#![allow(clippy::unwrap_used, reason = "a panic in a helper fails the test")]

mod support;

use std::collections::BTreeMap;

use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{
    InMemoryMetricExporter, PeriodicReader, SdkMeterProvider,
    data::{AggregatedMetrics, MetricData},
};
use support::{samples, stack};
use terrace_conformance::Fake;
use terrace_telemetry::Telemetry;

/// The series of the text, with the labels in the order of their names.
fn expected(telemetry: &Telemetry) -> BTreeMap<String, f64> {
    let sorted = |series: &str| {
        let (name, labels) = series.strip_suffix('}').unwrap().split_once('{').unwrap();
        let mut labels: Vec<&str> = labels.split(',').collect();
        labels.sort_unstable();
        format!("{name}{{{}}}", labels.join(","))
    };
    samples(telemetry).into_iter().map(|(series, value)| (sorted(&series), value)).collect()
}

fn series<'l>(name: &str, labels: impl Iterator<Item = (String, String)> + 'l) -> String {
    let mut labels: Vec<String> = labels.map(|(label, value)| format!("{label}=\"{value}\"")).collect();
    labels.sort_unstable();
    format!("{name}{{{}}}", labels.join(","))
}

async fn watched() -> (Telemetry, support::Stack) {
    let telemetry = Telemetry::new();
    let cache = stack("users", &Fake::named("redis"), &Fake::named("postgres"));
    telemetry.watch(&cache);
    for key in 0..20 {
        cache.put(&key, key).await.unwrap();
        cache.get(&(key / 2)).await.unwrap();
        cache.get(&(100 + key)).await.unwrap();
    }
    cache.settled().await;
    (telemetry, cache)
}

#[tokio::test]
async fn a_recorder_gets_the_series_of_the_text() {
    let (telemetry, _cache) = watched().await;
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || telemetry.record());
    let mut recorded = BTreeMap::new();
    for (key, _, _, value) in snapshotter.snapshot().into_vec() {
        let key = key.key();
        let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned()));
        let value = match value {
            DebugValue::Counter(count) => count as f64,
            DebugValue::Gauge(number) => number.into_inner(),
            DebugValue::Histogram(_) => panic!("no histogram is handed over"),
        };
        recorded.insert(series(key.name(), labels), value);
    }
    assert_eq!(recorded, expected(&telemetry));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_meter_gets_the_series_of_the_text() {
    let (telemetry, _cache) = watched().await;
    let exporter = InMemoryMetricExporter::default();
    let reader = PeriodicReader::builder(exporter.clone()).build();
    let provider = SdkMeterProvider::builder().with_reader(reader).build();
    telemetry.instrument(&provider.meter("terrace"));
    provider.force_flush().unwrap();
    let mut exported = BTreeMap::new();
    let batches = exporter.get_finished_metrics().unwrap();
    let metrics = batches[0].scope_metrics().flat_map(|scope| scope.metrics().collect::<Vec<_>>());
    for metric in metrics {
        let mut point = |attributes: Vec<(String, String)>, value: f64| {
            exported.insert(series(metric.name(), attributes.into_iter()), value);
        };
        let labels = |attributes: &mut dyn Iterator<Item = &opentelemetry::KeyValue>| {
            attributes.map(|pair| (pair.key.to_string(), pair.value.to_string())).collect::<Vec<_>>()
        };
        match metric.data() {
            AggregatedMetrics::U64(MetricData::Sum(sum)) => {
                sum.data_points().for_each(|p| point(labels(&mut p.attributes()), p.value() as f64));
            }
            AggregatedMetrics::F64(MetricData::Sum(sum)) => {
                sum.data_points().for_each(|p| point(labels(&mut p.attributes()), p.value()));
            }
            AggregatedMetrics::F64(MetricData::Gauge(gauge)) => {
                gauge.data_points().for_each(|p| point(labels(&mut p.attributes()), p.value()));
            }
            other => panic!("{} is {other:?}", metric.name()),
        }
    }
    assert_eq!(exported, expected(&telemetry));
}
