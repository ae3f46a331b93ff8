//! The counters for a recorder of the crate `metrics`.

use std::sync::Arc;

use metrics::{Label, counter, gauge};

use crate::{
    Telemetry,
    prometheus::cumulative,
    table::{METRICS, Metric, Reading},
};

impl Telemetry {
    /// Hands the metrics of all watched caches to the recorder of the crate `metrics`. Call it before each scrape,
    /// or once in a few seconds.
    ///
    /// The facade has no way to hand over a histogram that was counted elsewhere. A histogram is therefore handed
    /// over as counters named `.._bucket`, with the label `le`, and `.._count`, and as a gauge named `.._sum`, which
    /// are the series that Prometheus has of a histogram.
    ///
    /// # Cost
    /// The call makes no round trip. It reads each counter of each cache once, and makes one call of the recorder
    /// for each time series.
    #[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
    pub fn record(&self) {
        for (cache, stats) in self.read() {
            for metric in METRICS {
                (metric.read)(&stats, &mut |values, reading| record(metric, &cache, values, reading));
            }
        }
    }
}

fn record(metric: &'static Metric, cache: &Arc<str>, values: &[&str], reading: Reading) {
    let name = metric.name;
    let mut labels = vec![Label::new("cache", Arc::clone(cache))];
    labels.extend(
        metric.labels.iter().zip(values).map(|(label, value)| Label::new(*label, (*value).to_owned())),
    );
    match (reading, metric.kind) {
        (Reading::Count(count), crate::Kind::Counter) => counter!(name, labels).absolute(count),
        (Reading::Count(count), _) => gauge!(name, labels).set(count as f64),
        (Reading::Number(number), _) => gauge!(name, labels).set(number),
        (Reading::Times(times), _) => {
            for (bound, count) in cumulative(&times) {
                let mut labels = labels.clone();
                labels.push(Label::new("le", bound));
                counter!(format!("{name}_bucket"), labels).absolute(count);
            }
            counter!(format!("{name}_count"), labels.clone()).absolute(times.count());
            gauge!(format!("{name}_sum"), labels).set(times.sum.as_secs_f64());
        }
    }
}
