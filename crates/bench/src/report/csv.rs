//! One line for each row.

use super::{Arrival, Report, Row};

/// The report as CSV with a header.
pub(super) fn of_report(report: &Report) -> String {
    let mut text = String::from(
        "stack,arrival,callers,rate_per_second,requests,reads,hit_ratio,loads,per_second,cpu_ns_per_request,\
         mean_us,p50_us,p90_us,p99_us,p999_us,p9999_us,max_us,allocations_per_request,errors,cost\n",
    );
    for row in &report.rows {
        text.push_str(&line(row));
        text.push('\n');
    }
    text
}

fn line(row: &Row) -> String {
    let (arrival, callers, rate) = match row.arrival {
        Arrival::Closed(callers) => ("closed", callers.to_string(), String::new()),
        Arrival::Open(rate) => ("open", String::new(), format!("{rate:.1}")),
    };
    let mut cpu: Vec<f64> = row.rounds.iter().map(|round| round.cpu_nanos).collect();
    cpu.sort_by(f64::total_cmp);
    let latency = &row.latency;
    let micros =
        [latency.mean, latency.p50, latency.p90, latency.p99, latency.p999, latency.p9999, latency.max];
    let fields = [
        format!("\"{}\"", row.stack.replace('"', "\"\"")),
        arrival.to_owned(),
        callers,
        rate,
        row.requests.to_string(),
        row.reads.to_string(),
        format!("{:.6}", row.hit_ratio()),
        row.loads.to_string(),
        format!("{:.1}", row.per_second()),
        format!("{:.1}", cpu.get(cpu.len() / 2).copied().unwrap_or_default()),
        micros.map(|micros| format!("{micros:.3}")).join(","),
        format!("{:.3}", row.allocations),
        row.errors.values().sum::<u64>().to_string(),
        row.cost.as_ref().map_or_else(String::new, |cost| format!("{}", cost.sum)),
    ];
    fields.join(",")
}
