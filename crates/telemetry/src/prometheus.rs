//! The text format of Prometheus, version 0.0.4.

use std::{fmt::Write, time::Duration};

use terrace_core::{LATENCY_BOUNDS, Latencies};

use crate::{
    Telemetry,
    table::{Kind, METRICS, Metric, Reading},
};

impl Telemetry {
    /// The metrics of all watched caches in the text format of Prometheus. An endpoint answers with the content
    /// type `text/plain; version=0.0.4`.
    ///
    /// # Cost
    /// The call makes no round trip. It reads each counter of each cache once, and allocates the text.
    ///
    /// Source: <https://prometheus.io/docs/instrumenting/exposition_formats/>
    pub fn prometheus(&self) -> String {
        let caches = self.read();
        let mut text = String::with_capacity(16_384 * (caches.len() + 1));
        for metric in METRICS {
            let mut has_header = false;
            for (cache, stats) in &caches {
                (metric.read)(stats, &mut |values, reading| {
                    if !has_header {
                        header(&mut text, metric);
                        has_header = true;
                    }
                    series(&mut text, metric, &labels(metric, cache, values), reading);
                });
            }
        }
        text
    }
}

fn header(text: &mut String, metric: &Metric) {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let (name, help) = (metric.name, metric.help);
    // Writing to a string cannot fail, here and below.
    let _infallible = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

/// The labels without their braces.
fn labels(metric: &Metric, cache: &str, values: &[&str]) -> String {
    let mut labels = format!("cache=\"{}\"", escaped(cache));
    for (label, value) in metric.labels.iter().zip(values) {
        let _infallible = write!(labels, ",{label}=\"{}\"", escaped(value));
    }
    labels
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn series(text: &mut String, metric: &Metric, labels: &str, reading: Reading) {
    let name = metric.name;
    let _infallible = match reading {
        Reading::Count(count) => writeln!(text, "{name}{{{labels}}} {count}"),
        Reading::Number(number) => writeln!(text, "{name}{{{labels}}} {number}"),
        Reading::Times(times) => {
            for (bound, count) in cumulative(&times) {
                let _infallible = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            let (sum, count) = (times.sum.as_secs_f64(), times.count());
            writeln!(text, "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {count}")
        }
    };
}

/// The upper bounds in seconds, each with the number of calls that took no longer.
pub(crate) fn cumulative(times: &Latencies) -> impl Iterator<Item = (String, u64)> {
    let bounds = LATENCY_BOUNDS.iter().map(Duration::as_secs_f64).map(|bound| bound.to_string());
    bounds.chain(["+Inf".to_owned()]).zip(times.counts).scan(0, |below, (bound, count)| {
        *below += count;
        Some((bound, *below))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_counts_what_is_below_each_bound() {
        let mut times = Latencies::default();
        (times.counts[1], times.counts[10], times.sum) = (2, 1, Duration::from_millis(7_500));
        let mut text = String::new();
        let metric = METRICS.iter().find(|metric| metric.name == "terrace_load_duration_seconds").unwrap();
        series(&mut text, metric, "cache=\"a\"", Reading::Times(times));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 13);
        assert_eq!(lines[0], "terrace_load_duration_seconds_bucket{cache=\"a\",le=\"0.0001\"} 0");
        assert_eq!(lines[9], "terrace_load_duration_seconds_bucket{cache=\"a\",le=\"5\"} 2");
        assert_eq!(lines[10], "terrace_load_duration_seconds_bucket{cache=\"a\",le=\"+Inf\"} 3");
        assert_eq!(lines[11], "terrace_load_duration_seconds_sum{cache=\"a\"} 7.5");
        assert_eq!(lines[12], "terrace_load_duration_seconds_count{cache=\"a\"} 3");
    }

    #[test]
    fn a_name_with_quotes_and_line_ends_stays_one_label() {
        assert_eq!(escaped("a\"b\\c\nd"), "a\\\"b\\\\c\\nd");
    }
}
