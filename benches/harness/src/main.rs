//! The bench report: `cargo xtask bench-report [--json] [--quick] [group..]`.

use std::process::ExitCode;

use terrace_bench_harness::{
    Effort, Result, database, delivery, levels, load,
    measure::report::{Report, heading, latency_heading, latency_line, line},
    near, near_levels, near_mixed, outbox, remote,
};
use terrace_testbed::{shared_postgres, shared_redis};

const GROUPS: [&str; 7] = ["near", "levels", "redis", "postgres", "load", "outbox", "delivery"];
const USAGE: &str = "usage: cargo xtask bench-report [--json] [--quick] [near] [levels] [redis] [postgres] [load] [outbox] [delivery]";

struct Arguments {
    json: bool,
    quick: bool,
    groups: Vec<String>,
}

fn main() -> ExitCode {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match given.split_first() {
        Some((first, rest)) if first == delivery::WRITER => run(delivery::write(rest)),
        _ => match parse(given.into_iter()) {
            Some(arguments) => run(measure(&arguments)),
            None => {
                eprintln!("{USAGE}");
                return ExitCode::from(2);
            }
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench-report: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse(words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments { json: false, quick: false, groups: Vec::new() };
    for argument in words {
        match argument.as_str() {
            "--json" => arguments.json = true,
            "--quick" => arguments.quick = true,
            group if GROUPS.contains(&group) => arguments.groups.push(argument),
            _ => return None,
        }
    }
    Some(arguments)
}

fn run(work: impl Future<Output = Result<()>>) -> Result<()> {
    // Always two workers, so that figures of machines with more processors can be compared.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(work)
}

async fn measure(arguments: &Arguments) -> Result<()> {
    let effort = Effort { quick: arguments.quick };
    let wanted =
        |group: &str| arguments.groups.is_empty() || arguments.groups.iter().any(|name| name == group);
    let print = |text: String| {
        if !arguments.json {
            println!("{text}");
        }
    };
    let (mut rows, mut latencies) = (Vec::new(), Vec::new());
    let mut emit = |row| {
        print(line(&row));
        rows.push(row);
    };
    let mut emit_latency = |row| latencies.push(row);
    if GROUPS[..6].iter().any(|group| wanted(group)) {
        print(heading());
    }
    if wanted("near") {
        near::rows(effort, &mut emit).await?;
        near_mixed::rows(effort, &mut emit)?;
    }
    if wanted("redis") {
        remote::rows(effort, &shared_redis().await?, &mut emit).await?;
    }
    if wanted("levels") {
        levels::rows(effort, &shared_redis().await?, &mut emit).await?;
        near_levels::rows(effort, &shared_redis().await?, &shared_postgres().await?, &mut emit).await?;
    }
    if wanted("postgres") {
        database::rows(effort, &shared_postgres().await?, &mut emit).await?;
    }
    if wanted("load") {
        load::rows(effort, &shared_redis().await?, &mut emit).await?;
    }
    if wanted("outbox") {
        outbox::rows(effort, &mut emit, &mut emit_latency).await?;
    }
    if wanted("delivery") {
        delivery::rows(effort, &mut emit_latency).await?;
    }
    if !latencies.is_empty() {
        print(latency_heading());
        latencies.iter().for_each(|row| print(latency_line(row)));
    }
    if arguments.json {
        let processors = std::thread::available_parallelism()?.get();
        let report = Report { quick: arguments.quick, processors, rows, latencies };
        println!("{}", serde_json::to_string_pretty(&report)?);
    }
    Ok(())
}
