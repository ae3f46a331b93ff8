//! `cargo xtask matrix`: the suites of the server tiers on each engine and version that is supported.
//!
//! It fetches the servers' programs into `target/matrix` and tells the testbed to use them. Each row of its
//! table shows the version that the server itself reported, so that a wrong program shows.

mod engines;
mod fetch;
mod row;
mod table;

use std::ffi::OsString;

use crate::run::Result;
use crate::test;
use engines::{ENGINES, Engine};
use row::{Outcome, Row};

const USAGE: &str = "\
usage: cargo xtask matrix [--allow-missing] [--list] [engine..] [-- arguments of cargo test]

An engine is a name of the list, or the start of several: redis-6.2, postgres. Without one, all run.
What cannot be had counts as not passed, unless --allow-missing is given.";

/// What the command line asks for.
struct Request {
    engines: Vec<&'static Engine>,
    allow_missing: bool,
    /// They go to `cargo test`, for instance `-- --test conformance`.
    arguments: Vec<String>,
}

/// Runs the suites on the engines that are asked for, and prints one table.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--list") {
        ENGINES.iter().for_each(|engine| println!("{:16}{}", engine.name, engine.origin));
        return Ok(());
    }
    let request = Request::parse(arguments)?;
    let with_servers = test::with_servers()?;
    let mut rows = Vec::new();
    for engine in &request.engines {
        let row = row::run(engine, &with_servers, &request.arguments)?;
        eprintln!("{}: {}", engine.name, row.outcome);
        rows.push(row);
    }
    println!("\n{}", table::of(&rows));
    verdict(&rows, request.allow_missing)
}

impl Request {
    fn parse(arguments: &[String]) -> Result<Self> {
        let (own, rest) = match arguments.iter().position(|argument| argument == "--") {
            Some(at) => (&arguments[..at], &arguments[at + 1..]),
            None => (arguments, &[][..]),
        };
        let (options, names): (Vec<&String>, Vec<&String>) =
            own.iter().partition(|argument| argument.starts_with('-'));
        if let Some(unknown) = options.iter().find(|option| **option != "--allow-missing") {
            return Err(format!("unknown option {unknown}\n{USAGE}"));
        }
        if let Some(unknown) = names.iter().find(|name| !ENGINES.iter().any(|engine| engine.is_called(name)))
        {
            return Err(format!("unknown engine {unknown}; `--list` names them\n{USAGE}"));
        }
        let wanted = |engine: &&Engine| names.is_empty() || names.iter().any(|name| engine.is_called(name));
        Ok(Self {
            engines: ENGINES.iter().filter(wanted).collect(),
            allow_missing: !options.is_empty(),
            arguments: rest.to_vec(),
        })
    }
}

/// An error that names the rows that did not pass, if there are any.
fn verdict(rows: &[Row], allow_missing: bool) -> Result<()> {
    let allowed = |row: &&Row| match row.outcome {
        Outcome::Passed => true,
        Outcome::NotAvailable(_) => allow_missing,
        Outcome::Failed(_) => false,
    };
    let bad: Vec<&str> = rows.iter().filter(|row| !allowed(row)).map(|row| row.engine).collect();
    if bad.is_empty() { Ok(()) } else { Err(format!("the matrix did not pass on {}", bad.join(", "))) }
}

/// The folders before those that `TERRACE_TEST_PROGRAMS` names already.
fn folders_before_others(folder: &std::path::Path) -> Result<OsString> {
    let others = std::env::var_os(terrace_server_programs::FOLDERS_VARIABLE).unwrap_or_default();
    let folders = [folder.to_owned()].into_iter().chain(std::env::split_paths(&others));
    std::env::join_paths(folders).map_err(|error| format!("the path of {}: {error}", folder.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Request> {
        Request::parse(&arguments.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    fn names(arguments: &[&str]) -> Vec<&'static str> {
        parse(arguments).unwrap().engines.iter().map(|engine| engine.name).collect()
    }

    #[test]
    fn engines_are_chosen_by_the_start_of_their_names() {
        assert_eq!(names(&[]).len(), ENGINES.len());
        assert_eq!(names(&["redis-6.2"]), ["redis-6.2"]);
        assert_eq!(names(&["postgres-13", "valkey"]), ["valkey-9", "postgres-13"]);
        assert_eq!(names(&["postgres"]).len(), 6, "PgBouncer is asked for by its own name");
        assert!(parse(&["mysql"]).is_err_and(|error| error.contains("mysql")));
        assert!(parse(&["--alow-missing"]).is_err_and(|error| error.contains("--alow-missing")));
    }

    #[test]
    fn what_follows_two_dashes_goes_to_cargo_test() {
        let request = parse(&["redis", "--allow-missing", "--", "--test", "conformance"]).unwrap();
        assert_eq!(request.arguments, ["--test", "conformance"]);
        assert!(request.allow_missing);
    }

    #[test]
    fn what_is_not_available_is_not_passed() {
        let rows = |outcome| [Row::without_run("redis-6.2", "6.2", outcome)];
        let missing = || rows(Outcome::NotAvailable("no network".into()));
        assert!(verdict(&missing(), false).is_err_and(|error| error.contains("redis-6.2")));
        assert!(verdict(&missing(), true).is_ok());
        for allow_missing in [true, false] {
            assert!(verdict(&rows(Outcome::Failed("1 test".into())), allow_missing).is_err());
            assert!(verdict(&rows(Outcome::Passed), allow_missing).is_ok());
        }
    }
}
