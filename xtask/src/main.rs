//! The project's own commands: `cargo xtask <command>`.

mod bench_peers;
mod bench_report;
mod check_features;
mod ci;
mod compile_peers;
mod dashboard;
mod document;
mod failover;
mod flagged;
mod install;
mod matrix;
mod model;
mod retired;
mod run;
mod servers;
mod summary;
mod test;
mod verify;

use std::process::ExitCode;

const USAGE: &str = "\
usage: cargo xtask <command> [arguments]

  test [cargo test arguments]   every test of the workspace, on one set of private servers;
                                finds redis-server and postgres or installs them;
                                without arguments also the model check and the switches
  model                         the model check of the single flight (shuttle)
  switches                      the test that leaves out each defence of the cache once
  check-features                each feature of `terrace` alone, and none
  ci                            formatting, clippy, docs, check-features, retired identifiers,
                                cargo-deny where installed
  verify [arguments]            simulations, switches and fault runs, in about five minutes;
                                `--seed N` replays, `--minutes N` soaks, `--json` for machines
  matrix [engine..]             the suites of Redis and Postgres on each supported version;
                                `--list` names the engines
  failover [--runs N] [case..]  how long failovers of real servers take
  dashboard                     writes deploy/dashboard.json from the list of its panels
  bench-report [arguments]      the bench table: ours, raw and ratio
  bench-peers [row..]           other caches beside this one, into docs/benchmarks.md;
                                `--quick` for a short run that writes nothing, `--rounds N`;
                                `--compile` for the time that applications take to compile

REDIS_URL and DATABASE_URL, where set, name the servers that `test` shares among tests.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match arguments.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", &[][..]),
    };
    let outcome = match command {
        "test" => test::run(rest),
        "model" => model::run(),
        "switches" => run::run(&mut flagged::switches()),
        "check-features" => check_features::run(),
        "ci" => ci::run(),
        "verify" => verify::run(rest),
        "matrix" => matrix::run(rest),
        "failover" => failover::run(rest),
        "dashboard" => dashboard::run(),
        "bench-peers" => bench_peers::run(rest),
        "bench-report" => bench_report::run(rest),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            Ok(())
        }
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
