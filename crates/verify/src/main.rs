//! `cargo xtask verify`: simulations until enough reads were checked, every switch, and one table.

mod arguments;
mod replay;
mod report;
mod simulations;
mod switched;

use std::process::ExitCode;

use arguments::{Arguments, Wanted};

fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("{error}\n\n{}", arguments::USAGE);
            return ExitCode::from(2);
        }
    };
    let good = match arguments.wanted {
        Wanted::Replay(seed) => replay::replay(seed),
        Wanted::All { time, reads } => {
            let simulated = simulations::run(arguments.from, time, reads);
            let report = report::Report { simulated, switches: switched::run() };
            if arguments.json {
                println!("{}", report.json());
            } else {
                println!("{report}");
            }
            if let Some(seed) = report.first_failure() {
                eprintln!("\nthe smallest part of seed {seed} that fails too:");
                replay::replay(seed);
            }
            report.is_good()
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
