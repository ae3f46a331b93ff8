//! `cargo xtask bench-peers`: other caches beside this one, optimized.

use crate::{
    compile_peers,
    run::{Result, cargo, root, run as run_command},
    servers,
};

/// Finds or installs the servers and runs the program of the workspace `benches/peers` with these arguments. A
/// run that is not short writes its tables into docs/benchmarks.md. With `--compile` as the first argument, it
/// compiles two applications in place of that.
pub(crate) fn run(arguments: &[String]) -> Result<()> {
    if let Some((first, rest)) = arguments.split_first()
        && first == "--compile"
    {
        return compile_peers::run(rounds(rest)?);
    }
    servers::provide_here()?;
    let mut command = cargo(["run", "--release", "--locked", "--manifest-path", "benches/peers/Cargo.toml"]);
    command.args(["-p", "terrace-peers", "--"]).args(arguments);
    if !arguments.iter().any(|argument| argument == "--quick") {
        command.arg("--write").arg(root().join("docs/benchmarks.md"));
    }
    run_command(&mut command)
}

/// The number of rounds of `--compile`: one, unless the arguments name another one.
fn rounds(arguments: &[String]) -> Result<usize> {
    match arguments {
        [] => Ok(1),
        [name, rounds] if name == "--rounds" => {
            let rounds = rounds.parse().ok().filter(|rounds| *rounds > 0);
            rounds.ok_or_else(|| "`--rounds` takes a number from 1 on".to_owned())
        }
        _ => Err("`bench-peers --compile` takes only `--rounds N`".to_owned()),
    }
}
