//! The tables at the end. Every number in them was measured by this run.

use std::{fmt::Write, time::Duration};

use crate::measure::Column;

const LABEL: usize = 46;
const COLUMN: usize = 28;

/// What each scenario measured, with a column for each stack.
pub(crate) fn scenarios(columns: &[Column]) -> String {
    let mut text = String::new();
    line(&mut text, "", columns.iter().map(|column| column.stack.to_owned()));
    let mut row = |label: &str, cell: &dyn Fn(&Column) -> String| {
        line(&mut text, label, columns.iter().map(cell));
    };
    row("1. one instance", &|_| String::new());
    row("   requests per second", &|of| format!("{:.0}", of.one.per_second()));
    row("   read: half / 99 % end within", &|of| pair(of.one.reads.within(0.5), of.one.reads.within(0.99)));
    row("2. three instances", &|_| String::new());
    row("   requests per second", &|of| format!("{:.0}", of.several.per_second()));
    row("   read: half / 99 % end within", &|of| {
        pair(of.several.reads.within(0.5), of.several.reads.within(0.99))
    });
    row("   a change is read elsewhere: half / all within", &|of| {
        pair(of.delays.within(0.5), of.delays.within(1.0))
    });
    row("3. many sessions, 64 callers", &|of| format!("{} sessions", of.restart.sessions));
    row("   requests per second", &|of| format!("{:.0}", of.many.per_second()));
    row("   read: half / 99 % end within", &|of| pair(of.many.reads.within(0.5), of.many.reads.within(0.99)));
    row("   database reads per 1,000 requests", &|of| {
        format!("{:.0}", of.many.database_reads_per_thousand())
    });
    row("4. restart of the application", &|_| String::new());
    row("   sessions that were lost", &|of| of.restart.lost.to_string());
    row("   first / second read, half end within", &|of| {
        pair(of.restart.first.within(0.5), of.restart.second.within(0.5))
    });
    row("   database reads", &|of| of.restart.database_reads.to_string());
    row("   sessions lost when Redis lost its data", &|of| {
        of.restart.lost_with_redis.map_or_else(|| "-".to_owned(), |lost| lost.to_string())
    });
    row("5. each request to the next instance", &|_| String::new());
    row("   visits that were lost", &|of| format!("{} of {}", of.balanced.lost_visits, of.balanced.visits));
    row("   reads older than the last visit", &|of| {
        format!("{} of {}", of.balanced.old_reads, of.balanced.visits)
    });
    row("   changes that were tried again", &|of| of.balanced.retries.to_string());
    text
}

/// A question of a user, what was measured for it, and whether less of it is better.
struct Question {
    whom: &'static str,
    unit: fn(f64) -> String,
    measured: fn(&Column) -> f64,
}

/// Which stack is for whom: of each question the stack with the least of what was measured.
pub(crate) fn verdicts(columns: &[Column]) -> String {
    let questions = [
        Question {
            whom: "one instance, quick reads",
            unit: micros,
            measured: |of| of.one.reads.within(0.5).as_secs_f64(),
        },
        Question {
            whom: "several instances, quick reads",
            unit: micros,
            measured: |of| of.several.reads.within(0.5).as_secs_f64(),
        },
        Question {
            whom: "each request sees the one before it",
            unit: |count| format!("{count:.0} old reads"),
            measured: |of| f64::from(of.balanced.old_reads),
        },
        Question {
            whom: "a database that is to be spared",
            unit: |count| format!("{count:.0} reads of it per 1,000"),
            measured: |of| of.many.database_reads_per_thousand(),
        },
        Question {
            whom: "frequent restarts: few reads of the database",
            unit: |count| format!("{count:.0} reads of it"),
            measured: |of| of.restart.database_reads as f64,
        },
    ];
    let mut text = String::new();
    line(&mut text, "Which stack for whom", ["the stack".to_owned(), "by this run".to_owned()].into_iter());
    for Question { whom, unit, measured } in questions {
        let least = columns.iter().map(measured).fold(f64::INFINITY, f64::min);
        // Stacks within a tenth of the best answer a question alike.
        let alike = columns.iter().filter(|of| measured(of) <= least * 1.1);
        for (index, column) in alike.enumerate() {
            let label = if index == 0 { whom } else { "" };
            line(&mut text, label, [column.stack.to_owned(), unit(measured(column))].into_iter());
        }
    }
    text
}

fn line(text: &mut String, label: &str, cells: impl Iterator<Item = String>) {
    let cells: String = cells.map(|cell| format!("{cell:>COLUMN$}")).collect();
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "{}", format!("{label:<LABEL$}{cells}").trim_end());
}

fn micros(seconds: f64) -> String {
    format!("half end within {}", human(Duration::from_secs_f64(seconds)))
}

fn pair(one: Duration, other: Duration) -> String {
    format!("{} / {}", human(one), human(other))
}

fn human(time: Duration) -> String {
    match time.as_secs_f64() * 1e6 {
        micros if micros < 10.0 => format!("{micros:.1} us"),
        micros if micros < 1_000.0 => format!("{micros:.0} us"),
        micros => format!("{:.1} ms", micros / 1_000.0),
    }
}
