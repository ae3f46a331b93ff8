//! A table as text for the terminal.

use super::table::{Line, Table};

/// The table with aligned columns.
#[must_use]
pub fn text(table: &Table) -> String {
    let mut rows = vec![heading(table)];
    rows.extend(table.lines.iter().map(line));
    let widths: Vec<usize> = (0..rows[0].len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut lines = vec![format!("\n{}: {}", table.name, table.title)];
    for row in rows {
        let padded: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        lines.push(padded.join("  ").trim_end().to_owned());
    }
    lines.join("\n")
}

fn heading(table: &Table) -> Vec<String> {
    let names = ["peer".to_owned(), "used as".to_owned()].into_iter();
    names
        .chain(table.columns.iter().cloned())
        .chain(["ratio to".to_owned(), "leaves out".to_owned()])
        .collect()
}

fn line(line: &Line) -> Vec<String> {
    let names = [line.peer.name.to_owned(), line.usage.clone()].into_iter();
    let cells = line.cells.iter().map(super::table::Cell::text);
    names.chain(cells).chain([line.raw.to_owned(), line.peer.leaves_out.to_owned()]).collect()
}
