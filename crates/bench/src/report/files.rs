//! The files of a report.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{Report, csv, html};
use crate::failure::{Failure, Result, refuse};

/// Where a report goes beside the terminal.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Files {
    /// Writes all figures as JSON, which `compare` and `report` read
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,
    /// Writes one line for each row as CSV
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) csv: Option<PathBuf>,
    /// Writes one HTML file with charts, which needs no network
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) html: Option<PathBuf>,
}

impl Files {
    /// Refuses folders that are missing, before a long run.
    pub(crate) fn check(&self) -> Result<()> {
        for path in [&self.json, &self.csv, &self.html].into_iter().flatten() {
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            if folder.is_some_and(|folder| !folder.is_dir()) || path.is_dir() {
                refuse!("{}: there is no folder for this file, or it is itself a folder", path.display());
            }
        }
        Ok(())
    }

    /// Writes the report in each form that is wanted. A file that fails does not stop the others.
    pub(crate) fn write(&self, report: &Report) -> Result<()> {
        let json = self.write_json(report);
        let text = |path: &Option<PathBuf>, make: fn(&Report) -> String| match path {
            Some(path) => write(path, make(report).as_bytes()),
            None => Ok(()),
        };
        let (csv, html) = (text(&self.csv, csv::of_report), text(&self.html, html::of_report));
        json.and(csv).and(html)
    }

    /// Writes `data` as JSON, if that is wanted.
    pub(crate) fn write_json(&self, data: &impl Serialize) -> Result<()> {
        let Some(path) = &self.json else { return Ok(()) };
        let mut text = serde_json::to_vec_pretty(data).map_err(Failure::new)?;
        text.push(b'\n');
        write(path, &text)
    }
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.flush()
    });
    written
        .map_err(|error| Failure::new(format_args!("{}: the report is not written: {error}", path.display())))
}

/// Reads a report from its JSON.
pub(crate) fn read(path: &Path) -> Result<Report> {
    let fault = |error: &dyn std::fmt::Display| Failure::new(format_args!("{}: {error}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| fault(&error))?;
    serde_json::from_str(&text).map_err(|error| fault(&format_args!("no report of terrace-bench: {error}")))
}
