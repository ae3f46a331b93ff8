//! One row of the matrix: the suite on one engine.

use std::fmt;
use std::io::{BufRead, BufReader, stdout};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::engines::Engine;
use super::{fetch, folders_before_others};
use crate::run::{
    Result, announce, cargo, cargo_program, name, root, run as run_to_end, without_own_package,
};
use crate::summary::Summary;

/// The variables that would put other servers into the place of the engine.
const OTHER_SERVERS: [&str; 5] = [
    "REDIS_URL",
    "DATABASE_URL",
    "TERRACE_TEST_REDIS_URL",
    "TERRACE_TEST_DATABASE_URL",
    "TERRACE_TEST_REDIS_SERVER",
];

/// What the suite did on one engine.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) engine: &'static str,
    pub(super) wanted: &'static str,
    /// What the server reported about itself.
    pub(super) reported: Option<String>,
    pub(super) sum: Summary,
    pub(super) duration: Duration,
    pub(super) outcome: Outcome,
}

/// Whether the suite passed, or why not.
#[derive(Debug)]
pub(super) enum Outcome {
    Passed,
    Failed(String),
    /// The engine's programs cannot be had.
    NotAvailable(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => f.write_str("passed"),
            Self::Failed(why) => write!(f, "FAILED: {why}"),
            Self::NotAvailable(why) => write!(f, "not available: {why}"),
        }
    }
}

impl Row {
    pub(super) fn without_run(engine: &'static str, wanted: &'static str, outcome: Outcome) -> Self {
        Self { engine, wanted, reported: None, sum: Summary::default(), duration: Duration::ZERO, outcome }
    }
}

/// Runs the suite on an engine. The error is one that would meet every other engine as well.
pub(super) fn run(engine: &'static Engine, with_servers: &Path, arguments: &[String]) -> Result<Row> {
    let programs = match fetch::programs(engine) {
        Ok(programs) => programs,
        Err(why) => {
            return Ok(Row::without_run(engine.name, engine.version, Outcome::NotAvailable(why)));
        }
    };
    let test = ["test", "--all-features", "--no-fail-fast", "-p", engine.suite.package()];
    // The time of the row is that of the tests.
    run_to_end(cargo(test).arg("--no-run"))?;
    let mut command = Command::new(with_servers);
    command.arg(cargo_program()).args(test).current_dir(root());
    if arguments.is_empty() && !engine.left_out.is_empty() {
        command.arg("--lib").args(files_of_tests(engine)?.iter().flat_map(|file| ["--test", file]));
        let all = files_of_tests(&Engine { left_out: &[], ..*engine })?;
        // What names no file names a test.
        let tests = engine.left_out.iter().filter(|left_out| all.iter().all(|file| file != left_out.test));
        command.arg("--").args(tests.flat_map(|left_out| ["--skip", left_out.test]));
    }
    command.args(arguments);
    without_own_package(&mut command);
    command.env(terrace_server_programs::FOLDERS_VARIABLE, folders_before_others(&programs)?);
    command.env("TERRACE_TEST_POOLER", engine.suite.pool_mode());
    for variable in OTHER_SERVERS {
        command.env_remove(variable);
    }

    announce(&command);
    let start = Instant::now();
    let spawned = command.stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| format!("{} could not be run: {error}", name(&command)))?;
    let mut output = BufReader::new(child.stdout.take().ok_or("the test run has no output")?);
    let read = reported(&mut output, engine);
    let read = read.and_then(|reported| Ok((reported, Summary::of_stream(output, stdout())?)));
    let (reported, sum) = read.map_err(|error| format!("reading the tests' output: {error}"))?;
    let status = child.wait().map_err(|error| format!("waiting for the tests: {error}"))?;
    let outcome = judge(engine, reported.as_deref(), &sum, status.success());
    Ok(Row { engine: engine.name, wanted: engine.version, reported, sum, duration: start.elapsed(), outcome })
}

/// The files of tests of an engine's suite, but for those that are left out.
fn files_of_tests(engine: &Engine) -> Result<Vec<String>> {
    let folder = root().join("crates").join(engine.suite.folder()).join("tests");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let files = entries.flatten().map(|entry| entry.path());
    let files =
        files.filter(|path| path.extension().is_some_and(|end| end == "rs") || path.join("main.rs").exists());
    let names = files.filter_map(|path| Some(path.file_stem()?.to_string_lossy().into_owned()));
    let mut names: Vec<String> =
        names.filter(|name| engine.left_out.iter().all(|left_out| left_out.test != name)).collect();
    names.sort();
    Ok(names)
}

/// What the server of the suite reported: the first line is `servers: redis 7.0.15, postgres 15.18`.
fn reported(output: &mut impl BufRead, engine: &Engine) -> std::io::Result<Option<String>> {
    let mut line = String::new();
    output.read_line(&mut line)?;
    print!("{line}");
    let servers = line.trim_end().strip_prefix("servers: ").unwrap_or_default();
    Ok(servers
        .split(", ")
        .find(|server| engine.suite.uses(server))
        .map(str::to_owned)
        .filter(|text| !text.is_empty()))
}

fn judge(engine: &Engine, reported: Option<&str>, sum: &Summary, success: bool) -> Outcome {
    match reported {
        None => Outcome::Failed("no server reported its version".to_owned()),
        Some(reported) if !engine.is_version(reported) => {
            Outcome::Failed(format!("another server ran than {}", engine.version))
        }
        Some(_) if sum.passed() == 0 => Outcome::Failed("no test ran".to_owned()),
        Some(_) if sum.failed() > 0 => Outcome::Failed(format!("{} failed", sum.failed())),
        Some(_) if !success => Outcome::Failed("a test program was ended before its end".to_owned()),
        Some(_) => Outcome::Passed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::matrix::engines::{ENGINES, LeftOut};

    fn engine(name: &str) -> &'static Engine {
        ENGINES.iter().find(|engine| engine.name == name).unwrap()
    }

    #[test]
    fn what_an_engine_cannot_do_is_left_out_and_nothing_else() {
        let all = files_of_tests(engine("redis-7.0")).unwrap();
        let without = files_of_tests(engine("redis-6.2")).unwrap();
        assert!(all.contains(&"tls".to_owned()) && all.contains(&"conformance".to_owned()));
        assert!(all.contains(&"faults".to_owned()), "a folder with a main.rs");
        let left: Vec<&String> = all.iter().filter(|name| !without.contains(name)).collect();
        assert_eq!(left, ["tls"]);
        for engine in &ENGINES {
            let files = files_of_tests(&Engine { left_out: &[], ..*engine }).unwrap();
            let folder = root().join("crates").join(engine.suite.folder()).join("tests");
            let has_test = |file: &String, test: &str| {
                let text =
                    std::fs::read_to_string(folder.join(file).with_extension("rs")).unwrap_or_default();
                text.contains(&format!("fn {test}("))
            };
            let known = |left_out: &LeftOut| {
                files.iter().any(|file| file == left_out.test || has_test(file, left_out.test))
            };
            assert!(engine.left_out.iter().all(known), "{}: {:?}", engine.name, engine.left_out);
        }
    }

    fn sum(passed: u64, failed: u64) -> Summary {
        let line = format!("test result: ok. {passed} passed; {failed} failed; 0 ignored\n");
        Summary::of_stream(line.as_bytes(), std::io::sink()).unwrap()
    }

    #[test]
    fn the_first_line_says_which_server_ran() {
        let of = |line: &str, name: &str| reported(&mut line.as_bytes(), engine(name)).unwrap();
        let line = "servers: valkey 9.1.2, postgres 15.18\nrunning 3 tests\n";
        assert_eq!(of(line, "valkey-9").as_deref(), Some("valkey 9.1.2"));
        assert_eq!(of(line, "postgres-15").as_deref(), Some("postgres 15.18"));
        assert_eq!(of("running 3 tests\n", "redis-6.2"), None);
        assert_eq!(of("servers: \n", "redis-6.2"), None);
    }

    #[test]
    fn a_row_passes_only_with_tests_on_the_right_server() {
        let postgres = engine("postgres-13");
        let judged = |reported, sum: Summary, success| judge(postgres, reported, &sum, success).to_string();
        assert_eq!(judged(Some("postgres 13.23"), sum(5, 0), true), "passed");
        for (reported, sum, success) in [
            (None, sum(5, 0), true),
            (Some("postgres 15.18"), sum(5, 0), true),
            (Some("postgres 13.23"), sum(0, 0), true),
            (Some("postgres 13.23"), sum(5, 1), false),
            (Some("postgres 13.23"), sum(5, 0), false),
        ] {
            assert!(judged(reported, sum, success).starts_with("FAILED"), "{reported:?}");
        }
    }
}
