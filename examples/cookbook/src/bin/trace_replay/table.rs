//! The table at the end, with a column for each stack.

use std::fmt::Write;

use crate::{replay::Outcome, stacks::Stack};

/// Formats the table. `alone` is the number of hits of the near tier's engine without the cache.
pub(crate) fn of(columns: &[(Stack, Outcome)], requests: usize, near_entries: u64, alone: u64) -> String {
    let mut table = String::new();
    let mut row = |name: &str, cell: &dyn Fn(&Stack, &Outcome) -> Option<String>| {
        let cells: Vec<Option<String>> =
            columns.iter().map(|(stack, outcome)| cell(stack, outcome)).collect();
        if cells.iter().any(Option::is_some) {
            let _ = write!(table, "{name:<26}");
            for cell in cells {
                let _ = write!(table, "{:>27}", cell.unwrap_or_default());
            }
            table.push('\n');
        }
    };
    let share = |hits: u64| format!("{hits} ({:.2} %)", 100.0 * hits as f64 / requests as f64);
    let hits =
        |tier: &'static str| move |_: &Stack, outcome: &Outcome| Some(share(outcome.stats.tier(tier)?.hits));
    let at =
        |part: f64| move |_: &Stack, outcome: &Outcome| Some(micros(outcome.nanos[quantile(outcome, part)]));

    row("", &|stack, _| Some(stack.name.to_owned()));
    row("near hits", &hits("near"));
    row(&format!("  its engine alone, {near_entries}"), &|stack, _| stack.has_near.then(|| share(alone)));
    row("Redis hits", &hits("redis"));
    row("Postgres hits", &hits("postgres"));
    row("SQLite hits", &hits("sqlite"));
    row("loads", &|_, outcome| Some(share(outcome.stats.loads)));
    row("a request takes: p50", &at(0.5));
    row("  p99", &at(0.99));
    row("  p99.9", &at(0.999));
    row("  longest", &at(1.0));
    row("all requests", &|_, outcome| Some(format!("{:.1} s", outcome.elapsed.as_secs_f64())));
    table
}

fn quantile(outcome: &Outcome, part: f64) -> usize {
    ((outcome.nanos.len() - 1) as f64 * part) as usize
}

fn micros(nanos: u32) -> String {
    match f64::from(nanos) / 1000.0 {
        micros if micros < 10.0 => format!("{micros:.2} us"),
        micros if micros < 1_000.0 => format!("{micros:.0} us"),
        micros => format!("{:.1} ms", micros / 1000.0),
    }
}
