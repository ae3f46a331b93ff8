//! The table.

use std::fmt;

use serde_json::json;

use crate::{
    simulations::{Simulated, Tally},
    switched::Switched,
};

pub(crate) struct Report {
    pub(crate) simulated: Simulated,
    pub(crate) switches: Vec<Switched>,
}

impl Report {
    pub(crate) fn is_good(&self) -> bool {
        self.total().violations == 0 && self.switches.iter().all(|switch| switch.holds && switch.caught)
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
                "notices_heard": tally.notices, "gaps": tally.gaps, "rollbacks_found": tally.renewals,
                "relay_steps": tally.steps,
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
            "switches": self.switches.iter().map(|switch| json!({
                "name": switch.name, "rule": switch.rule, "holds": switch.holds, "caught": switch.caught,
            })).collect::<Vec<_>>(),
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
            "| level | reads checked | violations | seeds | faults | messages lost | requests late | notices heard | gaps | rollbacks found | relay steps | reads failed | keys undecided |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        for (level, tally) in
            levels.iter().map(|(level, tally)| (level.as_str(), tally)).chain([("all", &total)])
        {
            let Tally { reads, violations, seeds, faults, lost, late, notices, gaps, renewals, .. } = tally;
            let Tally { steps, failed_reads, undecided, .. } = tally;
            writeln!(
                f,
                "| {level} | {reads} | {violations} | {seeds} | {faults} | {lost} | {late} | {notices} | {gaps} | {renewals} | {steps} | {failed_reads} | {undecided} |"
            )?;
        }
        let caught = self.switches.iter().filter(|switch| switch.holds && switch.caught).count();
        writeln!(f, "\nswitches caught: {caught} of {}", self.switches.len())?;
        for switch in self.switches.iter().filter(|switch| !switch.holds || !switch.caught) {
            let what = if switch.holds { "nobody misses it" } else { "it fails while it is on" };
            writeln!(f, "NOT CAUGHT (rule {}) {}: {what}", switch.rule, switch.name)?;
        }
        for (seed, what) in total.failures.iter().take(20) {
            writeln!(f, "\nseed {seed}: {what}")?;
        }
        Ok(())
    }
}
