//! The page: the verdict first, then the charts, then all figures.

use std::fmt::Write;

use super::{
    chart::{Axis, Chart, Series},
    escape,
};
use crate::{
    analysis::CurvePoint,
    report::{Arrival, Report, Row, table, verdict::judged},
};

/// The most lines of a chart.
const MAX_LINES: usize = 8;

/// The report as one HTML file.
pub(in crate::report) fn of_report(report: &Report) -> String {
    let mut page = String::from(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <link rel=\"icon\" href=\"data:,\"><title>",
    );
    let _ = write!(
        page,
        "terrace-bench: {}</title><style>{}</style></head><body>",
        escape(&report.workload),
        STYLE
    );
    let _ = write!(page, "<header><h1>{}</h1></header>", escape(&report.workload));
    verdict(&mut page, report);
    page.push_str("<main>");
    for chart in charts(report) {
        page.push_str(&chart.render());
    }
    page.push_str("</main>");
    figures(&mut page, report);
    page.push_str("</body></html>\n");
    page
}

const STYLE: &str = include_str!("style.css");

fn verdict(page: &mut String, report: &Report) {
    page.push_str("<section class=\"verdict\">");
    if report.interrupted {
        page.push_str("<p class=\"warning\">The run was interrupted: the figures are of what was measured until then.</p>");
    }
    if let Some(verdict) = &report.verdict {
        let _ = write!(
            page,
            "<div><h2>Stack</h2><p class=\"answer\">{}</p><p>{}</p></div>",
            escape(&verdict.stack),
            escape(&verdict.why_stack)
        );
        if let Some(capacity) = verdict.capacity {
            let _ = write!(
                page,
                "<div><h2>Capacity</h2><p class=\"answer\">{} entries</p><p>{}</p></div>",
                table::thousands(capacity),
                escape(&verdict.why_capacity)
            );
        }
    }
    page.push_str("</section>");
}

fn charts(report: &Report) -> Vec<Chart> {
    let mut charts = vec![over_capacity(report), percentiles(report), over_concurrency(report)];
    let judged = judged(&report.rows);
    charts.extend(judged.iter().map(|row| over_time(report, row)));
    charts.push(slowest(report));
    charts
}

fn chart(title: &str, x: Axis, y: Axis, series: Vec<Series>) -> Chart {
    Chart { title: title.to_owned(), x, y, series, is_stacked: false, marks: Vec::new() }
}

fn line(name: impl Into<String>, points: Vec<(f64, f64)>) -> Series {
    Series { name: name.into(), points, is_dashed: false }
}

fn over_capacity(report: &Report) -> Chart {
    let mut series = Vec::new();
    if let Some(analysis) = &report.analysis {
        let points = |points: &[CurvePoint]| -> Vec<(f64, f64)> {
            points.iter().map(|point| (point.capacity as f64, point.hit_ratio * 100.0)).collect()
        };
        let name = if analysis.sample.is_some() { "LRU (sampled)" } else { "LRU" };
        series.push(line(name, points(&analysis.lru)));
        series.push(Series { is_dashed: true, ..line("best possible", points(&analysis.optimum)) });
    }
    for row in judged(&report.rows).into_iter().take(MAX_LINES - 2).filter(|row| row.near_entries > 0) {
        let memory = row.tiers.iter().find(|tier| tier.name == "memory").map_or(0, |tier| tier.hits);
        let ratio = memory as f64 / row.reads.max(1) as f64 * 100.0;
        series.push(line(format!("memory of {}", row.stack), vec![(row.near_entries as f64, ratio)]));
    }
    chart(
        "Hit ratio over capacity",
        Axis::logarithmic("capacity (entries)"),
        Axis::even("hit ratio (%)"),
        series,
    )
}

fn percentiles(report: &Report) -> Chart {
    let rows: Vec<&Row> = match report.rows.len() > MAX_LINES {
        true => judged(&report.rows),
        false => report.rows.iter().collect(),
    };
    let series = rows.into_iter().take(MAX_LINES).map(|row| {
        let latency = row.latency;
        let micros = [latency.p50, latency.p90, latency.p99, latency.p999, latency.p9999, latency.max];
        let points = micros.iter().enumerate().map(|(at, micros)| (at as f64, *micros)).collect();
        line(format!("{}, {}", row.stack, row.load()), points)
    });
    let names = ["50", "90", "99", "99.9", "99.99", "max"].map(str::to_owned).to_vec();
    let x = Axis { names, ..Axis::even("percentile (%)") };
    chart("Latency of requests", x, Axis::logarithmic("latency (µs)"), series.collect())
}

fn over_concurrency(report: &Report) -> Chart {
    let mut series: Vec<Series> = Vec::new();
    for row in &report.rows {
        let Arrival::Closed(callers) = row.arrival else { continue };
        let point = (callers as f64, row.per_second());
        match series.iter_mut().find(|series| series.name == row.stack) {
            Some(series) => series.points.push(point),
            None => series.push(line(row.stack.clone(), vec![point])),
        }
    }
    series.truncate(MAX_LINES);
    let y = Axis::even("throughput (requests/s)");
    chart("Throughput over concurrency", Axis::logarithmic("callers"), y, series)
}

/// Which tier answered, in shares of the reads of each moment.
fn over_time(report: &Report, row: &Row) -> Chart {
    let names: Vec<&str> = row
        .slices
        .first()
        .map(|slice| slice.hits.iter().map(|(name, _)| name.as_str()).collect())
        .unwrap_or_default();
    let share = |of: &dyn Fn(&crate::run::Slice) -> u64| -> Vec<(f64, f64)> {
        let busy = row.slices.iter().filter(|slice| slice.requests > 0);
        let point = |slice: &crate::run::Slice| {
            let answers = slice.hits.iter().map(|(_, hits)| hits).sum::<u64>() + slice.loads;
            (slice.seconds, of(slice) as f64 / answers.max(1) as f64 * 100.0)
        };
        busy.map(point).collect()
    };
    let mut series: Vec<Series> = names
        .iter()
        .enumerate()
        .map(|(place, name)| {
            let shown = if *name == "near" { "memory" } else { name };
            line(shown, share(&|slice| slice.hits.get(place).map_or(0, |(_, hits)| *hits)))
        })
        .collect();
    series.push(line("loader", share(&|slice| slice.loads)));
    let title = format!("Who answered over time: {}, {}", row.stack, row.load());
    let axes = (Axis::even("time (s)"), Axis::even("share of reads (%)"));
    Chart { is_stacked: true, marks: marks(report, row), ..chart(&title, axes.0, axes.1, series) }
}

fn slowest(report: &Report) -> Chart {
    let rows: Vec<&Row> = match report.rows.len() > MAX_LINES {
        true => judged(&report.rows),
        false => report.rows.iter().collect(),
    };
    let series: Vec<Series> = rows
        .iter()
        .take(MAX_LINES)
        .map(|row| {
            let slices = row.slices.iter().filter(|slice| slice.slowest_ms > 0.0);
            line(
                format!("{}, {}", row.stack, row.load()),
                slices.map(|slice| (slice.seconds, slice.slowest_ms)).collect(),
            )
        })
        .collect();
    let marked = rows.iter().map(|row| marks(report, row)).max_by_key(Vec::len).unwrap_or_default();
    let y = Axis::logarithmic("slowest request (ms)");
    Chart { marks: marked, ..chart("Slowest request over time", Axis::even("time (s)"), y, series) }
}

/// The faults that a row had.
fn marks(report: &Report, row: &Row) -> Vec<(f64, String)> {
    let end = row.slices.last().map_or(0.0, |slice| slice.seconds);
    let had = report.faults.iter().filter(|fault| {
        fault.at.as_secs_f64() <= end && row.tiers.iter().any(|tier| tier.name == fault.tier)
    });
    had.map(|fault| (fault.at.as_secs_f64(), format!("fault {fault}"))).collect()
}

fn figures(page: &mut String, report: &Report) {
    page.push_str("<section><h2>All figures</h2>");
    rows(page, &table::HEADS, report.rows.iter().map(table::cells));
    page.push_str("<h2>Tiers</h2>");
    rows(page, &table::TIER_HEADS, report.rows.iter().flat_map(table::tier_cells));
    page.push_str("<ul class=\"notes\">");
    for row in &report.rows {
        let cost = row.cost.as_ref().map(|cost| format!("; {}", table::of_cost(cost))).unwrap_or_default();
        let _ = write!(
            page,
            "<li>{}, {}: the latency of one request in {} was measured; {:.2} allocations a request{}</li>",
            escape(&row.stack),
            escape(&row.load()),
            row.latency_every,
            row.allocations,
            escape(&cost)
        );
    }
    for note in &report.notes {
        let _ = write!(page, "<li>{}</li>", escape(note));
    }
    let _ = write!(
        page,
        "<li>A call is one round trip, which concurrent calls may share. `holds` of memory is the growth of the \
         process's heap. A load takes {} ms at the origin.</li>\
         <li>terrace-bench {} on {}, {} cores</li></ul></section>",
        report.origin_ms,
        escape(&report.version),
        escape(&report.machine.system),
        report.machine.cores
    );
}

fn rows(page: &mut String, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    page.push_str("<div class=\"wide\"><table><thead><tr>");
    for head in heads {
        let _ = write!(page, "<th>{}</th>", escape(head));
    }
    page.push_str("</tr></thead><tbody>");
    for row in rows {
        page.push_str("<tr>");
        for cell in row {
            let _ = write!(page, "<td>{}</td>", escape(&cell));
        }
        page.push_str("</tr>");
    }
    page.push_str("</tbody></table></div>");
}
