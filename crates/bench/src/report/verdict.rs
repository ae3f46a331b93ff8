//! The answer: which stack, which capacity.

use serde::{Deserialize, Serialize};

use super::{Row, table};
use crate::analysis::Analysis;

/// Two means that differ by less are the same, and the stack with fewer tiers wins.
const SAME: f64 = 1.05;

/// The stack and the capacity that the figures speak for, with the reasons.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Verdict {
    /// The name of the stack.
    pub(crate) stack: String,
    /// Why this one.
    pub(crate) why_stack: String,
    /// The capacity of the near tier in entries, if the workload was analysed.
    pub(crate) capacity: Option<u64>,
    /// Why this capacity.
    pub(crate) why_capacity: String,
}

impl Verdict {
    /// Judges the rows of one load: the open one if there is one, else that of the most callers.
    pub(crate) fn of(rows: &[Row], analysis: Option<&Analysis>) -> Option<Self> {
        let of_each_stack = judged(rows);
        let is_priced = of_each_stack.iter().all(|row| row.cost.is_some());
        let measure = |row: &Row| match (&row.cost, is_priced) {
            (Some(cost), true) => cost.sum / row.requests.max(1) as f64 * 1e6,
            _ => row.latency.mean,
        };
        let best = of_each_stack.iter().map(|row| measure(row)).min_by(f64::total_cmp)?;
        let as_good = of_each_stack.iter().filter(|row| measure(row) <= best * SAME);
        let chosen = as_good.min_by_key(|row| row.tiers.len())?;
        let shown = |row: &Row| match is_priced {
            true => format!("{:.4} for a million requests", measure(row)),
            false => table::micros(measure(row)),
        };
        let others = of_each_stack.iter().filter(|row| row.stack != chosen.stack);
        let others: Vec<String> = others.map(|row| format!("{} for {}", shown(row), row.stack)).collect();
        let what = if is_priced { "cost" } else { "mean latency" };
        let beside =
            if others.is_empty() { String::new() } else { format!(", beside {}", others.join(", ")) };
        let hit = chosen.hit_ratio() * 100.0;
        let why_stack = format!(
            "Its {what} is {}{beside} ({}). Its tiers answer {hit:.1} % of the reads.",
            shown(chosen),
            chosen.load()
        );
        let (capacity, why_capacity) = capacity(analysis);
        Some(Self { stack: chosen.stack.clone(), why_stack, capacity, why_capacity })
    }

    /// The verdict in sentences.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let mut sentences = vec![format!("Stack: {}. {}", self.stack, self.why_stack)];
        if let Some(capacity) = self.capacity {
            sentences.push(format!(
                "Capacity: {} entries. {}",
                table::thousands(capacity),
                self.why_capacity
            ));
        }
        sentences
    }
}

/// The row of each stack that counts.
pub(crate) fn judged(rows: &[Row]) -> Vec<&Row> {
    let mut judged: Vec<&Row> = Vec::new();
    for row in rows {
        match judged.iter_mut().find(|other| other.stack == row.stack) {
            // Rows of a stack stand in the order of their load.
            Some(other) => *other = row,
            None => judged.push(row),
        }
    }
    judged
}

fn capacity(analysis: Option<&Analysis>) -> (Option<u64>, String) {
    let Some(analysis) = analysis else { return (None, String::new()) };
    let ratio = match analysis.hit_ratio_at_knee {
        Some(ratio) => format!("LRU answers {:.1} % of the reads there. ", ratio * 100.0),
        None => String::new(),
    };
    let why = format!(
        "{ratio}Doubling it adds less than 3 points; the workload has {} keys.",
        table::thousands(analysis.keys)
    );
    (Some(analysis.knee), why)
}
