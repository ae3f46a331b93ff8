//! What the texts name is there: tests, functions and files move, and sentences about them do not.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// All files below a folder of the project, but for what is built and hidden.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') || name == "target" {
            continue;
        }
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

fn is_of(path: &Path, endings: &[&str]) -> bool {
    path.extension().is_some_and(|ending| endings.iter().any(|known| ending == *known))
}

/// What stands between single backticks, beside blocks of code.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    prose.flat_map(str::lines).flat_map(|line| line.split('`').skip(1).step_by(2))
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// A word of the code with a line in it; one that begins with a line is an ending.
fn is_name(quote: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    quote.contains('_') && !quote.starts_with('_') && quote.chars().all(plain)
}

#[test]
fn what_the_texts_name_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = Vec::new();
    files(root, &mut all);
    let code = all.iter().filter(|path| is_of(path, &["rs", "sql", "lua", "toml"]));
    let code: Vec<String> = code.map(|path| fs::read_to_string(path).unwrap()).collect();
    let known: BTreeSet<&str> = code.iter().flat_map(|text| words(text)).collect();
    let (mut names, mut missing) = (0, Vec::new());
    for text in all.iter().filter(|path| is_of(path, &["md"])) {
        for quote in quoted(&fs::read_to_string(text).unwrap()) {
            let is_path = is_of(Path::new(quote), &["rs", "md", "sql", "lua"]) && !quote.contains(['*', ' ']);
            let there = match (is_name(quote), is_path) {
                (true, _) => known.contains(quote),
                (_, true) => all.iter().any(|path| path.ends_with(quote)),
                _ => continue,
            };
            names += 1;
            if !there {
                missing.push(format!("{} in {}", quote, text.strip_prefix(root).unwrap().display()));
            }
        }
    }
    assert!(names > 200, "{names} are all that was found");
    assert!(missing.is_empty(), "not there: {missing:#?}");
}
