//! The program of `cargo xtask bench-peers`.

use std::{path::PathBuf, process::ExitCode};

use terrace_peers::{
    Result,
    measure::effort::Effort,
    report::{file, text::text},
    rows::{ROWS, Row, stampede},
};
use tokio::runtime::Runtime;

struct Arguments {
    rows: Vec<&'static Row>,
    effort: Effort,
    /// The document whose generated section gets the tables.
    document: Option<PathBuf>,
}

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    if let Some((first, rest)) = given.split_first()
        && first == stampede::PROCESS
    {
        return ended(runtime().and_then(|runtime| runtime.block_on(stampede::process(rest))));
    }
    let Some(arguments) = parse(given.into_iter()) else {
        let names: Vec<&str> = ROWS.iter().map(|row| row.name).collect();
        eprintln!(
            "usage: bench-peers [--quick] [--rounds N] [--write FILE] [row..]\nrows: {}",
            names.join(", ")
        );
        return ExitCode::from(2);
    };
    ended(run(&arguments))
}

fn ended(outcome: Result<()>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Always two workers, so that figures of machines with more processors can be compared.
fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let (mut rows, mut quick, mut rounds, mut document) = (Vec::new(), false, None, None);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--quick" => quick = true,
            "--rounds" => rounds = Some(words.next()?.parse().ok().filter(|rounds| *rounds > 0)?),
            "--write" => document = Some(PathBuf::from(words.next()?)),
            name => rows.push(ROWS.iter().find(|row| row.name == name)?),
        }
    }
    let effort = if quick { Effort::QUICK } else { Effort::FULL };
    let effort = Effort { rounds: rounds.unwrap_or(effort.rounds), ..effort };
    let rows = if rows.is_empty() { ROWS.iter().collect() } else { rows };
    Some(Arguments { rows, effort, document })
}

fn run(arguments: &Arguments) -> Result<()> {
    let runtime = runtime()?;
    for row in &arguments.rows {
        let table = runtime.block_on((row.run)(arguments.effort))?;
        println!("{}", text(&table));
        if let Some(path) = &arguments.document {
            // After each row, so that a run which is stopped keeps what it has measured.
            file::write(path, &table, arguments.effort)?;
        }
    }
    Ok(())
}
