//! The table.

use std::fmt;

use serde_json::json;

use crate::simulations::{Simulated, Tally};

pub(crate) struct Report {
    pub(crate) simulated: Simulated,
}

impl Report {
    pub(crate) fn is_good(&self) -> bool {
        self.total().violations == 0
    }

    pub(crate) fn first_failure(&self) -> Option<u64> {
        self.total().failures.iter().map(|(seed, _)| *seed).min()
    }

    fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.simulated.levels.values().for_each(|tally| total.add(tally.clone()));
        total
    }

    pub(crate) fn json(&self) -> String {
        let row = |tally: &Tally| {
            json!({
                "reads": tally.reads, "failed_reads": tally.failed_reads, "writes": tally.writes,
                "violations": tally.violations, "undecided_keys": tally.undecided, "seeds": tally.seeds,
                "faults": tally.faults, "messages_lost": tally.lost, "requests_late": tally.late,
                "failed_seeds": tally.failures.iter().map(|(seed, _)| seed).collect::<Vec<_>>(),
            })
        };
        let levels: serde_json::Map<_, _> =
            self.simulated.levels.iter().map(|(level, tally)| (level.clone(), row(tally))).collect();
        json!({
            "good": self.is_good(),
            "first_seed": self.simulated.from,
            "seconds": self.simulated.elapsed.as_secs_f64(),
            "simulated": levels,
        })
        .to_string()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Simulated { levels, from, elapsed } = &self.simulated;
        let total = self.total();
        writeln!(f, "simulated from seed {from}, in {:.0} s\n", elapsed.as_secs_f64())?;
        writeln!(
            f,
            "| level | reads checked | violations | seeds | faults | messages lost | requests late | reads failed | keys undecided |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for (level, tally) in
            levels.iter().map(|(level, tally)| (level.as_str(), tally)).chain([("all", &total)])
        {
            let Tally { reads, violations, seeds, faults, lost, late, failed_reads, undecided, .. } = tally;
            writeln!(
                f,
                "| {level} | {reads} | {violations} | {seeds} | {faults} | {lost} | {late} | {failed_reads} | {undecided} |"
            )?;
        }
        for (seed, what) in total.failures.iter().take(20) {
            writeln!(f, "\nseed {seed}: {what}")?;
        }
        Ok(())
    }
}
