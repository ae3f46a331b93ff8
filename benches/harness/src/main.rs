//! The bench report: `cargo xtask bench-report [--json] [--quick] [group..]`.

use std::process::ExitCode;

use terrace_bench::{
    Effort, Result, database, levels, load, near, remote,
    report::{Report, heading, line},
};
use terrace_testbed::{shared_postgres, shared_redis};

const GROUPS: [&str; 4] = ["near", "redis", "postgres", "load"];
const USAGE: &str = "usage: cargo xtask bench-report [--json] [--quick] [near] [redis] [postgres] [load]";

struct Arguments {
    json: bool,
    quick: bool,
    groups: Vec<String>,
}

fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(given: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments { json: false, quick: false, groups: Vec::new() };
    for argument in given {
        match argument.as_str() {
            "--json" => arguments.json = true,
            "--quick" => arguments.quick = true,
            group if GROUPS.contains(&group) => arguments.groups.push(argument),
            _ => return None,
        }
    }
    Some(arguments)
}

fn run(arguments: &Arguments) -> Result<()> {
    // Two workers, whatever the machine has: the same figures mean the same thing elsewhere.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(measure(arguments))
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let effort = Effort { quick: arguments.quick };
    let wanted =
        |group: &str| arguments.groups.is_empty() || arguments.groups.iter().any(|name| name == group);
    let mut rows = Vec::new();
    let mut say = |row| {
        if !arguments.json {
            println!("{}", line(&row));
        }
        rows.push(row);
    };
    if !arguments.json {
        println!("{}", heading());
    }
    if wanted("near") {
        near::rows(effort, &mut say).await?;
    }
    if wanted("redis") {
        remote::rows(effort, &shared_redis().await?, &mut say).await?;
        levels::rows(effort, &shared_redis().await?, &mut say).await?;
    }
    if wanted("postgres") {
        database::rows(effort, &shared_postgres().await?, &mut say).await?;
    }
    if wanted("load") {
        load::rows(effort, &shared_redis().await?, &mut say).await?;
    }
    if arguments.json {
        let processors = std::thread::available_parallelism()?.get();
        println!("{}", serde_json::to_string_pretty(&Report { quick: arguments.quick, processors, rows })?);
    }
    Ok(())
}
