//! Identifiers that were renamed do not come back.

mod words;

use std::fs;
use std::path::{Path, PathBuf};

use self::words::Words;
use crate::run::{Result, root};

/// Each retired identifier, and the one that holds now.
const RETIRED: [(&str, &str); 38] = [
    ("Aboard", "ActiveFlight"),
    ("Awaited", "LeaseRef"),
    ("Boarding", "JoinMode"),
    ("Ending", "WriteGuard"),
    ("Entered", "LoadRole"),
    ("Errand", "Intent"),
    ("Everything", "AdmitAll"),
    ("Gate", "Batcher"),
    ("GateLimits", "BatchLimits"),
    ("Grounds", "ProofSource"),
    ("Herald", "LeaseNotifier"),
    ("Hold", "LeaseGuard"),
    ("Inbox", "LeaseTracker"),
    ("Keeping", "AdmitContext"),
    ("KeyWire", "KeyCodec"),
    ("Landing", "LoadOutcome"),
    ("Lead", "LeaderGuard"),
    ("Loading", "LoadContext"),
    ("Looked", "LookupOutcome"),
    ("Mark", "Watermark"),
    ("Marks", "WatermarkTracker"),
    ("OpenFills", "UnfencedFills"),
    ("Owing", "DebtGuard"),
    ("Pace", "PollInterval"),
    ("Placed", "TierConfig"),
    ("Scoped", "TenantKey"),
    ("Sight", "LeaseStatus"),
    ("Sought", "KeyLookup"),
    ("Space", "Namespace"),
    ("SpaceState", "NamespaceState"),
    ("Spaces", "NamespaceRegistry"),
    ("Trip", "BatchCall"),
    ("Undecoded", "DecodeError"),
    ("Unshared", "NoCoalescing"),
    ("Waits", "LeaseWaiter"),
    ("Wire", "TypedCodec"),
    ("Worth", "HitVerdict"),
    ("Writing", "WriteContext"),
];

/// The folders with the project's code.
const FOLDERS: [&str; 5] = ["src", "crates", "examples", "benches", "xtask"];

/// Names each retired identifier in the code of the workspace, with the identifier that holds now.
pub(crate) fn run() -> Result<()> {
    let mut files = Vec::new();
    for folder in FOLDERS {
        find(&root().join(folder), &mut files)
            .map_err(|error| format!("the folder {folder} could not be read: {error}"))?;
    }
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let source = fs::read_to_string(&file)
            .map_err(|error| format!("{} could not be read: {error}", file.display()))?;
        let name = file.strip_prefix(root()).unwrap_or(&file).display();
        found.extend(retired(&source).map(|(line, old, new)| {
            format!("{name}:{line}: the identifier `{old}` is retired, use `{new}`")
        }));
    }
    found.iter().for_each(|complaint| eprintln!("{complaint}"));
    if found.is_empty() { Ok(()) } else { Err(format!("{} retired identifiers", found.len())) }
}

/// The retired identifiers in a source: line, identifier, and the one that holds now.
fn retired(source: &str) -> impl Iterator<Item = (usize, &'static str, &'static str)> {
    Words::of(source).filter_map(|(line, word)| {
        let (old, new) = RETIRED.iter().find(|(old, _)| *old == word)?;
        Some((line, *old, *new))
    })
}

/// The Rust files below a folder, but for what is built.
fn find(folder: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                find(&path, files)?;
            }
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            files.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retired_identifier_is_named_with_its_line_and_its_successor() {
        let found: Vec<_> = retired("fn a() {}\n\nfn b(errand: Errand) -> Trip {}").collect();
        assert_eq!(found, [(3, "Errand", "Intent"), (3, "Trip", "BatchCall")]);
    }

    #[test]
    fn only_whole_words_of_code_count() {
        let source = "
            /// An Errand, /* in */ a comment
            fn errand(inner: ErrandOf) { let a = \"Trip\"; /* Gate /* Mark */ Wire */ }
        ";
        assert_eq!(retired(source).count(), 0);
    }
}
