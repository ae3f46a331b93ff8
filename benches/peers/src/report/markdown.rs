//! A table as a part of a Markdown document.

use super::table::{Line, Table};

/// The part of a table: heading, origin, and the table itself. terrace's own lines are bold.
#[must_use]
pub fn markdown(table: &Table, origin: &str) -> String {
    let mut text = format!("### `{}`\n\n{} {origin}\n\n", table.name, table.title);
    let columns = table.columns.join(" | ");
    text += &format!("| peer | used as | {columns} | ratio to | leaves out |\n");
    text += &format!("|---|---|{}---|---|\n", "---|".repeat(table.columns.len()));
    for each in &table.lines {
        text += &line(each);
    }
    text
}

fn line(line: &Line) -> String {
    let name = if line.peer.package == "terrace" {
        format!("**{}**", line.peer.name)
    } else {
        line.peer.name.into()
    };
    let cells: Vec<String> = line.cells.iter().map(|cell| escaped(&cell.text())).collect();
    let (usage, cells) = (escaped(&line.usage), cells.join(" | "));
    format!("| {name} | {usage} | {cells} | {} | {} |\n", line.raw, line.peer.leaves_out)
}

/// Without what would end the cell.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}
