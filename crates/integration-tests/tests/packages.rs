//! What is published has what its readers need, and the first command compiles little.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

fn cargo(arguments: &[&str]) -> String {
    let mut cargo = Command::new(env!("CARGO"));
    let output = cargo.current_dir(ROOT).args(arguments).args(["--locked", "--offline"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The packages of the workspace, as cargo describes them.
fn packages() -> Vec<Value> {
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let metadata: Value = serde_json::from_str(&text).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

fn is_published(package: &Value) -> bool {
    package["publish"].is_null()
}

#[test]
fn a_published_crate_has_a_readme_licences_keywords_categories_and_metadata_for_docs_rs() {
    let published: Vec<Value> = packages().into_iter().filter(is_published).collect();
    assert!(published.len() >= 10, "{} crates are published", published.len());
    for package in published {
        let name = &package["name"];
        let folder = Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap();
        for file in ["README.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            assert!(folder.join(file).is_file(), "{name} has no {file}");
        }
        assert_eq!(package["readme"], "README.md", "{name}");
        assert_eq!(package["license"], "MIT OR Apache-2.0", "{name}");
        assert!(package["description"].as_str().is_some_and(|text| !text.is_empty()), "{name}");
        assert!(package["rust_version"].is_string(), "{name}");
        for list in ["keywords", "categories"] {
            let count = package[list].as_array().unwrap().len();
            assert!((1..=5).contains(&count), "{name} has {count} {list}");
        }
        assert_eq!(package["metadata"]["docs"]["rs"]["all-features"], true, "{name}");
    }
}

#[test]
fn dependencies_among_our_crates_let_each_be_packed_alone() {
    let packages = packages();
    for package in &packages {
        for dependency in package["dependencies"].as_array().unwrap() {
            let name = dependency["name"].as_str().unwrap();
            let Some(ours) = packages.iter().find(|package| package["name"] == name) else { continue };
            let dependent = &package["name"];
            let has_version = dependency["req"] != "*";
            if dependency["kind"] == "dev" {
                assert!(
                    !is_published(package) || !has_version,
                    "{dependent} dev-depends on a version of {name}"
                );
            } else {
                assert!(has_version, "{dependent} depends on {name} without a version");
                assert!(is_published(ours), "{dependent} depends on {name}, which is not published");
            }
        }
    }
}

/// Such a file is not in the archive that `cargo package` makes.
#[test]
fn no_package_includes_a_file_of_another_by_its_path() {
    for package in packages() {
        let folder =
            Path::new(package["manifest_path"].as_str().unwrap()).parent().unwrap().canonicalize().unwrap();
        for target in package["targets"].as_array().unwrap() {
            let sources = Path::new(target["src_path"].as_str().unwrap()).parent().unwrap().to_owned();
            for file in rust_files(&sources) {
                let text = std::fs::read_to_string(&file).unwrap();
                for path in text.lines().filter_map(|line| line.trim().strip_prefix("#[path = \"")) {
                    let path = path.split('"').next().unwrap();
                    let included = file.parent().unwrap().join(path).canonicalize().unwrap();
                    assert!(included.starts_with(&folder), "{} includes {path}", file.display());
                }
            }
        }
    }
}

/// The Rust files in a folder and its folders.
fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

#[test]
fn the_first_command_compiles_few_crates_and_no_server() {
    let tree = ["tree", "-p", "terrace", "-e", "normal,build,dev", "--prefix", "none", "--no-dedupe"];
    let text = cargo(&tree);
    let crates: BTreeSet<String> =
        text.lines().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect();
    assert!((50..=165).contains(&crates.len()), "{} crates: {crates:?}", crates.len());
    for unwanted in ["sqlx-postgres", "redis", "rustls", "axum", "proptest", "terrace-testbed"] {
        let found = crates.iter().find(|name| name.split(' ').next() == Some(unwanted));
        assert_eq!(found, None, "the quickstart compiles {unwanted}");
    }
}

#[test]
fn the_first_command_of_the_readme_is_the_quick_one() {
    let readme = std::fs::read_to_string(Path::new(ROOT).join("README.md")).unwrap();
    let block = readme.split("```sh\n").nth(1).unwrap();
    assert!(block.starts_with("cargo run --release --example quickstart"), "{block}");
}
