//! The counters as observable instruments of an OpenTelemetry meter.

use opentelemetry::{KeyValue, metrics::Meter};

use crate::{
    Kind, Telemetry,
    prometheus::cumulative,
    table::{METRICS, Metric, Reading},
};

/// Gives the points of one reading of a metric.
type Points = fn(Reading, Vec<KeyValue>, &mut dyn FnMut(u64, &[KeyValue]));

impl Telemetry {
    /// Gives the meter an observable instrument for each metric. The meter reads the watched caches whenever it
    /// exports, also those that are watched later. Call it once for each meter.
    ///
    /// OpenTelemetry has no observable histogram. A histogram is therefore three instruments: the counters
    /// `.._bucket`, with the attribute `le`, `.._count`, and `.._sum`.
    ///
    /// # Cost
    /// Each export reads the counters of each cache once for each instrument, and makes no round trip.
    #[cfg_attr(docsrs, doc(cfg(feature = "opentelemetry")))]
    pub fn instrument(&self, meter: &Meter) {
        for metric in METRICS {
            match metric.kind {
                Kind::Counter => self.observe_counter(meter, metric, metric.name.to_owned(), count),
                Kind::Gauge => self.observe_gauge(meter, metric),
                Kind::Histogram => {
                    self.observe_counter(meter, metric, format!("{}_bucket", metric.name), buckets);
                    self.observe_counter(meter, metric, format!("{}_count", metric.name), times_count);
                    self.observe_sum(meter, metric);
                }
            }
        }
    }

    fn observe_counter(&self, meter: &Meter, metric: &'static Metric, name: String, points: Points) {
        let telemetry = self.clone();
        let callback = move |observer: &dyn opentelemetry::metrics::AsyncInstrument<u64>| {
            telemetry.each(metric, |attributes, reading| {
                points(reading, attributes, &mut |value, attributes| observer.observe(value, attributes));
            });
        };
        let _kept_by_the_meter =
            meter.u64_observable_counter(name).with_description(metric.help).with_callback(callback).build();
    }

    fn observe_gauge(&self, meter: &Meter, metric: &'static Metric) {
        let telemetry = self.clone();
        let _kept_by_the_meter = meter
            .f64_observable_gauge(metric.name)
            .with_description(metric.help)
            .with_callback(move |observer| {
                telemetry.each(metric, |attributes, reading| observer.observe(number(reading), &attributes));
            })
            .build();
    }

    fn observe_sum(&self, meter: &Meter, metric: &'static Metric) {
        let telemetry = self.clone();
        let _kept_by_the_meter = meter
            .f64_observable_counter(format!("{}_sum", metric.name))
            .with_description(metric.help)
            .with_callback(move |observer| {
                telemetry.each(metric, |attributes, reading| observer.observe(number(reading), &attributes));
            })
            .build();
    }

    /// Gives each time series of a metric, with its attributes.
    fn each(&self, metric: &'static Metric, mut point: impl FnMut(Vec<KeyValue>, Reading)) {
        for (cache, stats) in self.read() {
            (metric.read)(&stats, &mut |values, reading| {
                let mut attributes = vec![KeyValue::new("cache", cache.to_string())];
                let values = metric.labels.iter().zip(values);
                attributes.extend(values.map(|(label, value)| KeyValue::new(*label, (*value).to_owned())));
                point(attributes, reading);
            });
        }
    }
}

fn count(reading: Reading, attributes: Vec<KeyValue>, point: &mut dyn FnMut(u64, &[KeyValue])) {
    if let Reading::Count(count) = reading {
        point(count, &attributes);
    }
}

fn times_count(reading: Reading, attributes: Vec<KeyValue>, point: &mut dyn FnMut(u64, &[KeyValue])) {
    if let Reading::Times(times) = reading {
        point(times.count(), &attributes);
    }
}

fn buckets(reading: Reading, attributes: Vec<KeyValue>, point: &mut dyn FnMut(u64, &[KeyValue])) {
    let Reading::Times(times) = reading else { return };
    for (bound, count) in cumulative(&times) {
        let mut attributes = attributes.clone();
        attributes.push(KeyValue::new("le", bound));
        point(count, &attributes);
    }
}

/// The value of a gauge, or the sum of a histogram in seconds.
fn number(reading: Reading) -> f64 {
    match reading {
        Reading::Count(count) => count as f64,
        Reading::Number(number) => number,
        Reading::Times(times) => times.sum.as_secs_f64(),
    }
}
