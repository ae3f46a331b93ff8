//! `terrace-bench report`: shows a report that was written before.

use std::path::PathBuf;

use super::{Files, files, table};
use crate::failure::Result;

/// Shows a report that a run has written as JSON, as a table, CSV or HTML
#[derive(Debug, clap::Args)]
pub(crate) struct ReportCommand {
    /// The JSON file
    report: PathBuf,
    #[command(flatten)]
    files: Files,
}

impl ReportCommand {
    /// Prints the table and writes the files.
    pub(crate) fn run(&self) -> Result<()> {
        let report = files::read(&self.report)?;
        println!("{}", table::of_report(&report));
        self.files.write(&report)
    }
}
