//! Writes tables into a document.

use std::{fs, io::ErrorKind, path::Path};

use super::{document, markdown::markdown, table::Table, versions};
use crate::{Result, measure::effort::Effort, peers::ALL};

/// Writes a table into the generated section of a document; the tables of other rows stay.
///
/// # Errors
/// The file cannot be written.
pub fn write(path: &Path, table: &Table, effort: Effort) -> Result<()> {
    let old = match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        read => read?,
    };
    let origin = format!(
        "Medians of {} rounds at commit {}, on {}{}.",
        effort.rounds,
        versions::commit(),
        versions::machine(),
        table.servers.iter().map(|server| format!(", {server}")).collect::<String>()
    );
    let part = markdown(table, &origin);
    Ok(fs::write(path, document::with_part(&old, Some(&head()), table.name, &part))?)
}

/// What is said of all rows.
fn head() -> String {
    let mut versions: Vec<String> = ALL
        .iter()
        .filter(|peer| peer.package != "terrace")
        .filter_map(|peer| Some(format!("{} {}", peer.package, versions::version(peer.package)?)))
        .collect();
    versions.dedup();
    format!(
        "## Beside other caches\n\n\
         Each figure is the median of rounds in which all sides take one short turn each, in an order that changes. \
         In brackets is the median of the ratios to the side that 'ratio to' names, in the same rounds. 'Leaves \
         out' says what terrace does in the same figures and the peer does not.\n\n\
         Versions: {}.",
        versions.join(", ")
    )
}
