//! `cargo xtask bench-peers --compile`: what an application with three tiers costs to compile, on terrace and on
//! the raw engine and clients.

use std::{
    collections::BTreeSet,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use crate::{
    document,
    run::{Result, cargo, root, run as run_command},
};

/// The packages in benches/peers/compile, the raw one first.
const APPLICATIONS: [&str; 2] = ["compile-raw", "compile-terrace"];
const MANIFEST: &str = "benches/peers/Cargo.toml";

/// Compiles each application from nothing, optimized, so many times in turns, and writes what that took into
/// docs/benchmarks.md.
pub(crate) fn run(rounds: usize) -> Result<()> {
    run_command(&mut cargo(["fetch", "--locked", "--manifest-path", MANIFEST]))?;
    let mut taken = [const { Vec::new() }; 2];
    for _ in 0..rounds {
        for (application, taken) in APPLICATIONS.iter().zip(&mut taken) {
            taken.push(build(application)?);
        }
    }
    let medians = taken.map(|mut taken| {
        taken.sort_unstable();
        taken[taken.len() / 2]
    });
    let mut table =
        "| application | CPU, s | to raw | time, s | dependencies |\n|---|---|---|---|---|\n".to_owned();
    for (application, (cpu, time)) in APPLICATIONS.iter().zip(medians) {
        let (cpu, raw, time) = (cpu.as_secs_f64(), medians[0].0.as_secs_f64(), time.as_secs_f64());
        let dependencies = dependencies(application)?;
        table += &format!("| {application} | {cpu:.1} | {:.2} | {time:.1} | {dependencies} |\n", cpu / raw);
    }
    println!("{table}");
    write(&table, rounds)
}

fn write(table: &str, rounds: usize) -> Result<()> {
    let path = root().join("docs/benchmarks.md");
    let failed = |error| format!("{} could not be read or written: {error}", path.display());
    let old = fs::read_to_string(&path).map_err(failed)?;
    let text = format!(
        "### `--compile`\n\nAn application with a near tier, Redis and Postgres, compiled from nothing in release, on \
         terrace and on moka, redis and sqlx (which leave out all that terrace does: fences, versions, logs, single \
         flight, outages). CPU is the processor time of all compilers; medians of {rounds} rounds.\n\n{table}"
    );
    let new = document::with_part(&old, None, "compile", &text);
    fs::write(&path, new).map_err(failed)
}

/// The processor time and the time of a build from nothing.
fn build(application: &str) -> Result<(Duration, Duration)> {
    let folder = root().join("benches/peers/target/compile");
    // There is no folder before the first build.
    let _gone = fs::remove_dir_all(&folder);
    let (cpu, began) = (cpu_of_ended_children()?, Instant::now());
    let mut command =
        cargo(["build", "--release", "--locked", "--manifest-path", MANIFEST, "-p", application]);
    run_command(command.arg("--target-dir").arg(&folder))?;
    Ok((cpu_of_ended_children()?.saturating_sub(cpu), began.elapsed()))
}

/// The processor time of all processes that this one has started and that have ended, their own children
/// included.
fn cpu_of_ended_children() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")
        .map_err(|error| format!("only Linux tells the processor time of children: {error}"))?;
    // The name of the program in brackets is the second field and may hold spaces; in clock ticks of 10 ms.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields).split_whitespace();
    let ticks: Vec<u64> = fields.skip(13).take(2).filter_map(|field| field.parse().ok()).collect();
    Ok(Duration::from_millis(10 * ticks.iter().sum::<u64>()))
}

/// How many packages an application depends on, those that only a build needs included.
fn dependencies(application: &str) -> Result<usize> {
    let tree = ["tree", "--locked", "--manifest-path", MANIFEST, "-p", application];
    let mut command = cargo(tree);
    command.args(["--edges", "normal,build", "--prefix", "none", "--no-dedupe", "--format", "{p}"]);
    let lines = output(&mut command)?;
    Ok(lines.lines().collect::<BTreeSet<_>>().len().saturating_sub(1))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| format!("cargo could not be run: {error}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_processor_time_of_a_child_counts_once_it_has_ended() {
        let before = cpu_of_ended_children().unwrap();
        let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done";
        assert!(Command::new("sh").args(["-c", script]).status().unwrap().success());
        assert!(cpu_of_ended_children().unwrap() > before);
    }
}
