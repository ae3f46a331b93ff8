//! The same application code on three stacks of tiers, side by side.
//!
//! The example replays a trace of real requests, in order, through memory + Postgres, Redis + Postgres
//! and memory + Redis + Postgres. It prints the hits of each tier and how long the requests took.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin trace_replay -- ../shared/data/OLTP.lis.zst --near 1000
//! ```
//!
//! If `REDIS_URL` and `DATABASE_URL` are both set, the example uses those servers. Otherwise it starts
//! private servers if they are installed. If they are not installed, or without a trace, the stacks are
//! memory, SQLite and memory + SQLite. Without a trace the example generates a small one.

mod replay;
mod stacks;
mod table;
mod trace;

use std::{error::Error, path::PathBuf};

use indicatif::{ProgressBar, ProgressStyle};

const USAGE: &str = "usage: three_stacks [TRACE] [--near ENTRIES]";

struct Arguments {
    trace: Option<PathBuf>,
    near_entries: u64,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = parse(std::env::args().skip(1)).ok_or(USAGE)?;
    let trace = match &arguments.trace {
        Some(path) => trace::read(path)?,
        None => trace::generated(),
    };
    let records = replay::records(&trace);
    println!("{} requests for {} blocks", trace.len(), trace::distinct(&trace));
    let near_entries = arguments.near_entries;
    let servers = stacks::Servers::find(arguments.trace.is_some()).await?;
    println!("{servers}\n");

    let mut columns = Vec::new();
    for stack in servers.stacks()? {
        if let Some(store) = stack.store_alone()? {
            let bar = bar(&format!("{}: records", stack.name), records.len());
            replay::put_records(&store, &records, &bar).await?;
            bar.finish_and_clear();
        }
        let cache = stack.cache(near_entries)?;
        cache.ready().await?;
        let bar = bar(stack.name, trace.len());
        let outcome = replay::replay(&cache, &trace, &bar).await?;
        bar.finish();
        cache.clear().await?;
        columns.push((stack, outcome));
    }
    servers.tidy().await?;
    let alone = replay::engine_alone(&trace, near_entries);
    println!("\n{}", table::of(&columns, trace.len(), near_entries, alone));
    Ok(())
}

fn parse(arguments: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut parsed = Arguments { trace: None, near_entries: 1_000 };
    let mut arguments = arguments;
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--near" => parsed.near_entries = arguments.next()?.parse().ok()?,
            option if option.starts_with('-') => return None,
            path => parsed.trace = Some(path.into()),
        }
    }
    Some(parsed)
}

fn bar(name: &str, len: usize) -> ProgressBar {
    let style = "{prefix:<27} [{bar:40}] {human_pos:>9} of {human_len} {per_sec:>14} {elapsed:>4}";
    let style = ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::new(len as u64).with_style(style.progress_chars("=> "));
    bar.set_prefix(name.to_owned());
    bar
}
