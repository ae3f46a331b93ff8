//! Runs a command while one set of servers runs, and exits with the status of the command.
//!
//! `with-servers <command> [arguments]`: the command finds the servers in
//! `TERRACE_TEST_REDIS_URL` and `TERRACE_TEST_DATABASE_URL`. The first line of the output says what the
//! servers report as their versions: `servers: redis 7.0.15, postgres 15.18`.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, ExitCode},
};

use terrace_testbed::SharedSet;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("usage: with-servers <command> [arguments]");
        return ExitCode::from(2);
    };
    let started = async {
        let set = SharedSet::start().await?;
        let versions = set.versions().await?;
        Ok::<_, terrace_testbed::Error>((set, versions))
    };
    let set = match started.await {
        Ok((set, versions)) => {
            println!("servers: {}", versions.join(", "));
            set
        }
        Err(error) => {
            eprintln!("the servers for the tests could not be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    let status = Command::new(&program).args(arguments).envs(set.variables()).status();
    drop(set);
    match status {
        // As in a shell, 128 and the number of the signal that ended the command.
        Ok(status) => {
            let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
            ExitCode::from(u8::try_from(code).unwrap_or(1))
        }
        Err(error) => {
            eprintln!("{} could not be run: {error}", program.display());
            ExitCode::from(127)
        }
    }
}
