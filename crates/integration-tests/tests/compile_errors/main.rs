//! Mistakes that people make in their first hour give errors that name the cure, and the cures compile.
//!
//! Each file of `mistakes` is compiled alone, against the library that this test was built with. A line
//! `//~ words` names words that the compiler's error must have. A file without such a line must compile.
//! Only words of the library are asked for: the compiler's own change from version to version.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The folder of the compiled libraries.
fn libraries() -> PathBuf {
    env::current_exe().unwrap().parent().unwrap().to_owned()
}

/// The library `terrace` that was built last. There may be several, with other features.
fn library() -> PathBuf {
    let files = fs::read_dir(libraries()).unwrap().map(|entry| entry.unwrap().path());
    let is_library = |path: &PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with("libterrace-") && name.ends_with(".rlib")
    };
    files.filter(is_library).max_by_key(|path| fs::metadata(path).unwrap().modified().unwrap()).unwrap()
}

/// What the compiler says of a program, or `None` if it compiles.
fn errors_of(program: &Path) -> Option<String> {
    let into = tempfile::tempdir().unwrap();
    let mut rustc = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    // The compiler quotes lines of the library, whose paths begin at the workspace.
    rustc.current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
    rustc.args(["--edition=2024", "--crate-type=lib", "--emit=metadata", "--out-dir"]).arg(into.path());
    rustc.arg("--extern").arg(format!("terrace={}", library().display()));
    rustc.arg("-L").arg(format!("dependency={}", libraries().display())).arg(program);
    let output = rustc.output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(!errors.contains("error[E0463]") && !errors.contains("error[E0514]"), "{errors}");
    (!output.status.success()).then_some(errors)
}

/// Compiles each program whose name has this beginning, and returns how many there are.
fn check(beginning: &str) -> usize {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_errors/mistakes");
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if !path.file_name().unwrap().to_string_lossy().starts_with(beginning) {
            continue;
        }
        count += 1;
        let text = fs::read_to_string(&path).unwrap();
        let words: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("//~ ")).collect();
        match errors_of(&path) {
            None => assert!(words.is_empty(), "{} compiles", path.display()),
            Some(errors) => {
                assert!(!words.is_empty(), "{} must compile: {errors}", path.display());
                for word in words {
                    assert!(errors.contains(word), "{} lacks '{word}': {errors}", path.display());
                }
            }
        }
    }
    count
}

#[test]
fn the_error_of_a_mistake_names_the_cure() {
    assert_eq!(check("mistake_"), 10);
}

#[test]
fn the_cures_compile() {
    assert_eq!(check("cure_"), 2);
}
