//! The table of the matrix.

use super::engines::ENGINES;
use super::row::{Outcome, Row};

/// The rows as text, each column as wide as its widest cell.
pub(super) fn of(rows: &[Row]) -> String {
    let head = ["engine", "wanted", "reported", "passed", "failed", "ignored", "seconds", "result"];
    let mut lines = vec![head.map(str::to_owned)];
    lines.extend(rows.iter().map(cells));
    let widths: Vec<usize> = (0..head.len())
        .map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0))
        .collect();
    let line = |cells: &[String; 8]| {
        let padded = cells.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    lines.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn cells(row: &Row) -> [String; 8] {
    let ran = !matches!(row.outcome, Outcome::NotAvailable(_));
    let number = |number: u64| if ran { number.to_string() } else { "-".to_owned() };
    [
        row.engine.to_owned(),
        row.wanted.to_owned(),
        row.reported.clone().unwrap_or_else(|| "-".to_owned()),
        number(row.sum.passed()),
        number(row.sum.failed()),
        number(row.sum.ignored()),
        number(row.duration.as_secs()),
        [row.outcome.to_string()]
            .into_iter()
            .chain(left_out(row.engine).filter(|_| ran))
            .collect::<Vec<_>>()
            .join("; "),
    ]
}

/// What did not run on this engine, and why.
fn left_out(name: &str) -> impl Iterator<Item = String> {
    let engine = ENGINES.iter().find(|engine| engine.name == name);
    let left_out = engine.into_iter().flat_map(|engine| engine.left_out);
    left_out.map(|left_out| format!("without {}: {}", left_out.test, left_out.why))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_available_has_no_numbers_and_a_reason() {
        let mut ran = Row::without_run("redis-6.2", "redis 6.2", Outcome::Passed);
        ran.reported = Some("redis 6.2.5".to_owned());
        assert!(of(&[ran]).ends_with("passed; without tls: this server is built without TLS"));
        let rows = [
            Row::without_run("redis-6.2", "redis 6.2", Outcome::NotAvailable("pip could not be run".into())),
            Row::without_run("redis-7.0", "redis 7.0", Outcome::Failed("no test ran".into())),
        ];
        let text = of(&rows);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[1].starts_with("redis-6.2  redis 6.2  -"), "{text}");
        assert!(lines[1].ends_with("-        not available: pip could not be run"), "{text}");
        assert!(lines[2].ends_with("FAILED: no test ran") && lines[2].contains("  0  "), "{text}");
    }
}
