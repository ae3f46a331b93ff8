//! Each line that a published crate logs has the fields `cache` and `tier`.
#![allow(clippy::expect_used, reason = "a test that cannot read the sources fails")]

use std::path::{Path, PathBuf};

/// The sources of the published crates.
const SOURCES: [&str; 9] = [
    "src",
    "crates/core/src",
    "crates/tier/src",
    "crates/policies/src",
    "crates/conformance/src",
    "crates/tier-memory/src",
    "crates/tier-redis/src",
    "crates/tier-postgres/src",
    "crates/tier-sqlite/src",
];

const LEVELS: [&str; 5] = ["error!(", "warn!(", "info!(", "debug!(", "trace!("];

fn rust_files(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// The arguments of each call of a log macro.
fn log_lines(source: &str) -> Vec<&str> {
    let mut lines = Vec::new();
    for (at, _) in source.match_indices("tracing::") {
        let rest = &source[at + "tracing::".len()..];
        if let Some(level) = LEVELS.iter().find(|level| rest.starts_with(**level)) {
            let arguments = &rest[level.len()..];
            let end = arguments.find(");").or_else(|| arguments.find("),")).expect("the end of a call");
            lines.push(&arguments[..end]);
        }
    }
    lines
}

#[test]
fn each_log_line_has_the_fields_cache_and_tier() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    SOURCES.iter().for_each(|folder| rust_files(&root.join(folder), &mut files));
    let mut count = 0;
    for file in files {
        let source = std::fs::read_to_string(&file).expect("a source file");
        for line in log_lines(&source) {
            count += 1;
            let has = |field: &str| {
                line.split(',').any(|part| {
                    let part = part.trim();
                    let name = part.split('=').next().unwrap_or(part).trim();
                    name.trim_start_matches(['%', '?']) == field
                })
            };
            assert!(has("cache") && has("tier"), "{}: a log line without fields: {line}", file.display());
        }
    }
    assert!(count >= 20, "only {count} log lines were found");
}
