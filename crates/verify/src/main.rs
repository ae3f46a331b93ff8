//! `cargo xtask verify`: simulations until enough reads were checked, every switch, rounds on real
//! servers under faults, and one table.
//!
//! A whole run leaves defences of the cache out, which takes a build with `--cfg terrace_simulation`.
//! Without the flag the program replays seeds, runs rounds on real servers and judges recordings.

mod arguments;
mod check;
mod decided;
mod real;
mod replay;
mod report;
mod simulations;
mod story;
mod switched;

use std::process::ExitCode;

use arguments::{Arguments, Wanted};
use real::Until;
use report::Report;

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if let (Some(real::ARGUMENT), Some(place)) = (words.next().as_deref(), words.next()) {
        return match real::work(&place) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("a worker: {error}");
                ExitCode::FAILURE
            }
        };
    }
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    if !cfg!(terrace_simulation) && matches!(arguments.wanted, Wanted::All { .. }) {
        eprintln!("{NEEDS_THE_FLAG}");
        return ExitCode::from(2);
    }
    if !matches!(arguments.wanted, Wanted::Check(_)) {
        eprintln!("verify: seeds from {}", arguments.from);
    }
    match verify(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("verify: {error}");
            ExitCode::FAILURE
        }
    }
}

const NEEDS_THE_FLAG: &str = "\
verify: this build cannot leave a defence of the cache out. Run `cargo xtask verify`, or build with
RUSTFLAGS='--cfg terrace_simulation'; --seed, --real and check work in this build too";

/// Returns whether no promise was broken and every switch was caught.
fn verify(arguments: &Arguments) -> Result<bool, terrace::BoxError> {
    let Arguments { from, keep, .. } = arguments;
    let mut report = Report::default();
    match &arguments.wanted {
        Wanted::Replay(seed) => return Ok(replay::replay(*seed)),
        Wanted::Check(file) => return check::check(file),
        Wanted::Real(until) => report.real = Some(real::run(*from, *until, keep)?),
        Wanted::All { time, reads } => {
            report.simulated = Some(simulations::run(*from, *time, *reads));
            report.switches = switched::run();
            report.real = Some(real::run(*from, Until::Time(*time), keep)?);
        }
    }
    if arguments.json {
        println!("{}", report.json());
    } else {
        println!("{report}");
    }
    if let Some(seed) = report.first_failure() {
        eprintln!("\nthe smallest part of seed {seed} that fails too:");
        replay::replay(seed);
    }
    if let Some(file) = report.first_recording() {
        check::check(file)?;
    }
    Ok(report.is_good())
}
