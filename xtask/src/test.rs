//! `cargo xtask test`: every test, on one set of private servers.

use std::io::{BufReader, stdout};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use crate::run::{self, Result, announce, cargo};
use crate::summary::Summary;
use crate::{flagged, model, servers};

/// How many tests of one program run at a time.
const THREADS: &str = "RUST_TEST_THREADS";
/// Many tests wait for a server most of the time.
const THREADS_PER_CORE: usize = 2;

/// Builds, starts the servers, runs all tests, and prints one line of results at the end.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let servers::Plan::InContainer(mut command) = servers::provide()? {
        return run::run(command.args(arguments));
    }
    let start = Instant::now();
    let test = test_arguments(arguments);
    let with_servers = build(&test)?;

    let mut command = Command::new(with_servers);
    command.arg(run::cargo_program()).args(&test).current_dir(run::root());
    run::without_own_package(&mut command);
    if std::env::var_os(THREADS).is_none() {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        command.env(THREADS, (THREADS_PER_CORE * cores).to_string());
    }
    let (mut sum, mut good) = counted(&mut command)?;
    if arguments.is_empty() {
        for mut command in [model::command(), flagged::switches(), flagged::journal_switches()] {
            let (more, all_good) = counted(&mut command)?;
            sum.add(more);
            good &= all_good;
        }
    }

    let verdict = if good { "ok" } else { "FAILED" };
    println!("\ntest summary: {verdict}. {sum}, {} s", start.elapsed().as_secs());
    if good { Ok(()) } else { Err("the tests failed".to_owned()) }
}

/// The whole workspace unless a package is named; a failure stops no other tests.
fn test_arguments(arguments: &[String]) -> Vec<String> {
    let cargo_part = arguments.iter().take_while(|argument| *argument != "--");
    let names_package = cargo_part.into_iter().any(|argument| {
        argument.starts_with("-p") || argument == "--package" || argument.starts_with("--package=")
    });
    let scope = if names_package { &[][..] } else { &["--workspace"] };
    ["test"]
        .iter()
        .chain(scope)
        .chain(&["--all-features", "--no-fail-fast"])
        .map(ToString::to_string)
        .chain(arguments.iter().cloned())
        .collect()
}

/// Builds all tests, and returns the program that runs a command beside servers. The same build makes
/// that program, so that nothing is compiled twice.
fn build(test: &[String]) -> Result<PathBuf> {
    let cargo_part = test.iter().map(String::as_str).take_while(|argument| *argument != "--");
    let built = programs(cargo(cargo_part).args(["--no-run"]))?;
    if let Some(program) = built {
        return Ok(program);
    }
    with_servers()
}

/// Builds the program that runs a command beside servers.
pub(crate) fn with_servers() -> Result<PathBuf> {
    let alone = programs(&mut cargo(["build", "-p", "terrace-testbed", "--bin", "with-servers"]))?;
    alone.ok_or_else(|| "cargo built no `with-servers` program".to_owned())
}

/// Runs a cargo build; returns the `with-servers` program if the build made it.
fn programs(command: &mut Command) -> Result<Option<PathBuf>> {
    command.arg("--message-format=json-render-diagnostics").stdout(Stdio::piped());
    announce(command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cargo could not be run: {error}"))?;
    if !output.status.success() {
        return Err(format!("the build failed ({})", output.status));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let wanted = message["target"]["name"] == "with-servers" && message["profile"]["test"] == false;
        wanted.then(|| message["executable"].as_str().map(PathBuf::from))?
    }))
}

/// Runs tests and copies their output; returns the sum of results, and whether all passed.
fn counted(command: &mut Command) -> Result<(Summary, bool)> {
    announce(command);
    let spawned = command.stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("{} could not be run: {error}", run::name(command)))?;
    let output = child.stdout.take().ok_or("the test run has no output")?;
    let sum = Summary::of_stream(BufReader::new(output), stdout())
        .map_err(|error| format!("passing the tests' output on: {error}"));
    let status = child.wait().map_err(|error| format!("waiting for the tests: {error}"))?;
    Ok((sum?, status.success()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(given: &[&str]) -> Vec<String> {
        test_arguments(&given.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn the_whole_workspace_is_tested_unless_a_package_is_named() {
        assert_eq!(arguments(&[]), ["test", "--workspace", "--all-features", "--no-fail-fast"]);
        for named in [&["-p", "a"][..], &["-pa"], &["--package", "a"], &["--package=a"]] {
            assert!(!arguments(named).contains(&"--workspace".to_owned()), "{named:?}");
        }
    }

    #[test]
    fn arguments_for_the_test_programs_name_no_package() {
        let all = arguments(&["--", "-p", "a"]);
        assert!(all.contains(&"--workspace".to_owned()));
        assert_eq!(all[all.len() - 3..], ["--", "-p", "a"]);
    }
}
