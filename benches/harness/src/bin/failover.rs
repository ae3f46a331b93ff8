//! How long a failover takes: `cargo xtask failover [--runs N] [case..]`, ten runs of each case unless set.
//!
//! Twenty readers and one writer use a cache while its server is replaced. The servers are private, and share
//! this machine with the callers. [`terrace_bench_harness::failover`] says what the columns are.

use terrace_bench_harness::failover::{self, CASES};

const USAGE: &str = "usage: failover [--runs N] [case..]";

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> terrace_bench_harness::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (mut runs, mut cases) = (10, Vec::new());
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--runs" => runs = arguments.next().ok_or(USAGE)?.parse()?,
            "--list" => {
                CASES.iter().for_each(|case| println!("{case:?}"));
                return Ok(());
            }
            name => {
                let known = CASES.into_iter().find(|case| format!("{case:?}").eq_ignore_ascii_case(name));
                cases.push(known.ok_or_else(|| format!("unknown case {name}; --list names them\n{USAGE}"))?);
            }
        }
    }
    let cases = if cases.is_empty() { CASES.to_vec() } else { cases };
    failover::run(&cases, runs).await
}
