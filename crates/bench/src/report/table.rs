//! Tables for the terminal.

use super::{Report, Row};
use crate::run::Cost;

/// A number with commas between thousands.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// Microseconds with a unit that suits them.
pub(crate) fn micros(micros: f64) -> String {
    match micros {
        _ if micros < 1.0 => format!("{:.0} ns", micros * 1e3),
        _ if micros < 1e3 => format!("{micros:.1} µs"),
        _ if micros < 1e6 => format!("{:.1} ms", micros / 1e3),
        _ => format!("{:.2} s", micros / 1e6),
    }
}

/// Bytes with a unit that suits them.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes as f64 {
        few if few < 1e3 => format!("{bytes} B"),
        few if few < 1e6 => format!("{:.1} kB", few / 1e3),
        few if few < 1e9 => format!("{:.1} MB", few / 1e6),
        many => format!("{:.2} GB", many / 1e9),
    }
}

/// Columns under their heads. The first column is to the left, all others to the right.
pub(crate) fn lines(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([heads[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    let head = line(heads.to_vec());
    let rule = "-".repeat(head.chars().count());
    let body = rows.iter().map(|row| line(row.iter().map(String::as_str).collect()));
    [head, rule].into_iter().chain(body).collect::<Vec<_>>().join("\n")
}

/// The heads of the columns of [`cells`].
pub(super) const HEADS: [&str; 11] =
    ["stack", "load", "hit %", "loads", "req/s", "mean", "p50", "p99", "p99.9", "max", "errors"];

/// The heads of the columns of [`tier_cells`].
pub(super) const TIER_HEADS: [&str; 11] = [
    "stack, load, tier",
    "hits",
    "misses",
    "fills",
    "errors",
    "calls",
    "call p50",
    "call p99",
    "sent",
    "received",
    "holds",
];

/// The whole report.
pub(crate) fn of_report(report: &Report) -> String {
    let rows: Vec<Vec<String>> = report.rows.iter().map(cells).collect();
    let mut text = format!("{}\n{}\n", report.workload, lines(&HEADS, &rows));
    let tiers: Vec<Vec<String>> = report.rows.iter().flat_map(tier_cells).collect();
    text.push_str(&format!("\n{}\n", lines(&TIER_HEADS, &tiers)));
    for row in &report.rows {
        text.push_str(&format!(
            "\n{}, {}: latency of every {}. request, {:.2} allocations a request",
            row.stack,
            row.load(),
            row.latency_every,
            row.allocations
        ));
        if let Some(cost) = &row.cost {
            text.push_str(&format!("\n  {}", of_cost(cost)));
        }
    }
    for note in &report.notes {
        text.push_str(&format!("\nNote: {note}"));
    }
    if let Some(verdict) = &report.verdict {
        text.push_str(&format!("\n\n{}", verdict.sentences().join("\n")));
    }
    if report.interrupted {
        text.push_str("\n\nThe run was interrupted: the figures are of what was measured until then.");
    }
    text
}

pub(super) fn cells(row: &Row) -> Vec<String> {
    let latency = &row.latency;
    let mut cells = vec![
        row.stack.clone(),
        row.load(),
        format!("{:.2}", row.hit_ratio() * 100.0),
        thousands(row.loads),
        thousands(row.per_second().round() as u64),
    ];
    cells.extend([latency.mean, latency.p50, latency.p99, latency.p999, latency.max].map(micros));
    let errors = row.errors.iter().map(|(kind, count)| format!("{} {kind}", thousands(*count)));
    let errors = errors.collect::<Vec<_>>().join(", ");
    cells.push(if errors.is_empty() { "0".to_owned() } else { errors });
    cells
}

pub(super) fn tier_cells(row: &Row) -> Vec<Vec<String>> {
    let cells = row.tiers.iter().map(|tier| {
        let is_remote = tier.calls > 0;
        let or_dash = |text: String| if is_remote { text } else { "-".to_owned() };
        vec![
            format!("{}, {}, {}", row.stack, row.load(), tier.name),
            thousands(tier.hits),
            thousands(tier.misses),
            thousands(tier.fills),
            thousands(tier.errors),
            or_dash(thousands(tier.calls)),
            or_dash(micros(tier.call_latency.p50)),
            or_dash(micros(tier.call_latency.p99)),
            or_dash(bytes(tier.sent_bytes)),
            or_dash(bytes(tier.received_bytes)),
            tier.held_bytes.map_or_else(|| "not known".to_owned(), bytes),
        ]
    });
    cells.collect()
}

/// The parts of a cost and their sum, so that a reader can add them up.
pub(crate) fn of_cost(cost: &Cost) -> String {
    let parts = cost.parts.iter().map(|part| match (part.of.as_str(), part.quantity) {
        ("load", Some(loads)) => format!("{} loads: {:.6}", thousands(loads), part.cost),
        (tier, Some(held)) => {
            format!("{tier}, {} B for {:.6} h: {:.6}", thousands(held), cost.hours, part.cost)
        }
        (tier, None) => format!("{tier}: its bytes are not known"),
    });
    format!("cost {:.6} = {}", cost.sum, parts.collect::<Vec<_>>().join(" + "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(thousands), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([0.25, 12.34, 1_500.0, 2.5e6].map(micros), ["250 ns", "12.3 µs", "1.5 ms", "2.50 s"]);
        assert_eq!([7, 1_500, 2_000_000, 3_100_000_000].map(bytes), ["7 B", "1.5 kB", "2.0 MB", "3.10 GB"]);
        let table = lines(&["a", "b"], &[vec!["µ".to_owned(), "10".to_owned()]]);
        assert_eq!(table, "a   b\n-----\nµ  10");
    }
}
