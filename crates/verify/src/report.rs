//! The table of results.

use std::{fmt, path::Path};

use serde_json::json;

use crate::{
    real::Real,
    simulations::{Simulated, Tally},
    switched::Switched,
};

/// The results of the parts of a run that were asked for.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) simulated: Option<Simulated>,
    pub(crate) switches: Vec<Switched>,
    pub(crate) real: Option<Real>,
}

impl Report {
    pub(crate) fn is_good(&self) -> bool {
        self.simulated.as_ref().is_none_or(|simulated| simulated.is_good())
            && self.switches.iter().all(|switch| switch.holds && switch.caught)
            && self.real.as_ref().is_none_or(Real::is_good)
    }

    /// The first simulated seed that failed.
    pub(crate) fn first_failure(&self) -> Option<u64> {
        self.simulated.as_ref()?.total().failures.iter().map(|(seed, _)| *seed).min()
    }

    /// The first recording of a round that failed.
    pub(crate) fn first_recording(&self) -> Option<&Path> {
        self.real.as_ref()?.failures.iter().find_map(|(.., recording)| recording.as_deref())
    }

    pub(crate) fn json(&self) -> String {
        json!({
            "good": self.is_good(),
            "simulated": self.simulated.as_ref().map(Simulated::json),
            "switches": self.switches.iter().map(|switch| json!({
                "name": switch.name, "rule": switch.rule, "holds": switch.holds, "caught": switch.caught,
            })).collect::<Vec<_>>(),
            "real": self.real.as_ref().map(Real::json),
        })
        .to_string()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(simulated) = &self.simulated {
            writeln!(f, "{simulated}")?;
        }
        if !self.switches.is_empty() {
            let caught = self.switches.iter().filter(|switch| switch.holds && switch.caught).count();
            writeln!(f, "switches caught: {caught} of {}", self.switches.len())?;
        }
        for switch in self.switches.iter().filter(|switch| !switch.holds || !switch.caught) {
            let what = if switch.holds { "no violation without it" } else { "a violation although it is on" };
            writeln!(f, "NOT CAUGHT (rule {}) {}: {what}", switch.rule, switch.name)?;
        }
        if let Some(real) = &self.real {
            writeln!(f, "\n{real}")?;
        }
        Ok(())
    }
}

impl Simulated {
    fn is_good(&self) -> bool {
        self.total().failures.is_empty() && !self.levels.values().any(|tally| tally.decided.is_too_little())
    }

    fn total(&self) -> Tally {
        let mut total = Tally::default();
        self.levels.values().for_each(|tally| total.add(tally.clone()));
        total
    }

    fn json(&self) -> serde_json::Value {
        let row = |tally: &Tally| {
            json!({
                "reads": tally.reads, "failed_reads": tally.failed_reads, "stale_reads": tally.stale,
                "reads_at_other_levels": tally.other_levels, "writes": tally.writes,
                "violations": tally.violations, "keys_judged_linear": tally.decided.keys,
                "undecided_keys": tally.decided.undecided, "seeds": tally.seeds,
                "faults": tally.faults, "messages_lost": tally.lost, "requests_late": tally.late,
                "notices_heard": tally.notices, "gaps": tally.gaps, "rollbacks_found": tally.renewals,
                "relay_steps": tally.steps, "looks_at_leases": tally.looks,
                "leases_announced": tally.announced,
                "longest_call_ms": tally.longest_call.as_millis() as u64,
                "failed_seeds": tally.failures.iter().map(|(seed, _)| seed).collect::<Vec<_>>(),
            })
        };
        let levels: serde_json::Map<_, _> =
            self.levels.iter().map(|(level, tally)| (level.clone(), row(tally))).collect();
        json!({ "first_seed": self.from, "seconds": self.elapsed.as_secs_f64(), "levels": levels })
    }
}

impl fmt::Display for Simulated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = self.total();
        writeln!(f, "simulated from seed {}, in {:.0} s\n", self.from, self.elapsed.as_secs_f64())?;
        writeln!(
            f,
            "| level | reads checked | violations | seeds | faults | messages lost | requests late | notices heard | gaps | rollbacks found | relay steps | looks at leases | leases announced | longest call | reads failed | marked stale | at other levels | keys undecided of those judged linear |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")?;
        let levels = self.levels.iter().map(|(level, tally)| (level.as_str(), tally));
        for (level, tally) in levels.chain([("all", &total)]) {
            let Tally { reads, violations, seeds, faults, lost, late, notices, gaps, renewals, .. } = tally;
            let Tally { looks, announced, .. } = tally;
            let longest = tally.longest_call.as_millis();
            let Tally { steps, failed_reads, stale, other_levels, decided, .. } = tally;
            writeln!(
                f,
                "| {level} | {reads} | {violations} | {seeds} | {faults} | {lost} | {late} | {notices} | {gaps} | {renewals} | {steps} | {looks} | {announced} | {longest} ms | {failed_reads} | {stale} | {other_levels} | {decided} |"
            )?;
        }
        for (level, tally) in &self.levels {
            tally.decided.complaint().iter().try_for_each(|what| writeln!(f, "\n{level}: {what}"))?;
        }
        total.failures.iter().take(20).try_for_each(|(seed, what)| writeln!(f, "\nseed {seed}: {what}"))
    }
}

impl Real {
    fn json(&self) -> serde_json::Value {
        let rows = self.rows.iter().map(|((stack, demand), row)| {
            json!({
                "stack": stack.to_string(), "level": format!("{demand:?}"), "reads": row.reads,
                "near_reads": row.near, "failed_reads": row.failed_reads, "writes": row.writes,
                "violations": row.violations, "keys_judged_linear": row.decided.keys,
                "undecided_keys": row.decided.undecided, "rounds": row.rounds,
                "processes": row.processes, "stalest_near_read_ms": row.stalest.as_millis() as u64,
            })
        });
        let faults: serde_json::Map<_, _> =
            self.faults.iter().map(|(fault, count)| (format!("{fault:?}"), (*count).into())).collect();
        json!({
            "first_seed": self.from,
            "seconds": self.elapsed.as_secs_f64(),
            "stacks": rows.collect::<Vec<_>>(),
            "faults": faults,
            "faults_missing": self.missing.iter().map(|fault| format!("{fault:?}")).collect::<Vec<_>>(),
            "left_out": self.left_out.iter().map(|(defence, caught)| json!({
                "name": format!("{defence:?}"), "caught": caught,
            })).collect::<Vec<_>>(),
            "failures": self.failures.iter().map(|(seed, what, recording)| json!({
                "seed": seed, "what": what, "recording": recording,
            })).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Real {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "real servers from seed {}, in {:.0} s\n", self.from, self.elapsed.as_secs_f64())?;
        writeln!(
            f,
            "| stack | level | reads checked | violations | rounds | processes | writes | near reads | stalest near read | reads failed | keys undecided of those judged linear |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|---|---|")?;
        for ((stack, demand), row) in &self.rows {
            let stalest = row.stalest.as_millis();
            writeln!(
                f,
                "| {stack} | {demand:?} | {} | {} | {} | {} | {} | {} | {stalest} ms | {} | {} |",
                row.reads,
                row.violations,
                row.rounds,
                row.processes,
                row.writes,
                row.near,
                row.failed_reads,
                row.decided
            )?;
        }
        for ((stack, demand), row) in &self.rows {
            row.decided
                .complaint()
                .iter()
                .try_for_each(|what| writeln!(f, "\n{stack}, {demand:?}: {what}"))?;
        }
        writeln!(f, "\n| fault | times |\n|---|---|")?;
        self.faults.iter().try_for_each(|(fault, count)| writeln!(f, "| {fault:?} | {count} |"))?;
        for fault in &self.missing {
            writeln!(f, "\nNEVER INJECTED {fault:?}")?;
        }
        for (defence, caught) in &self.left_out {
            let what = if *caught { "caught" } else { "NOT CAUGHT: no violation without it" };
            writeln!(f, "\nwithout {defence:?}, on real servers: {what}")?;
        }
        for (seed, what, recording) in self.failures.iter().take(20) {
            writeln!(f, "\nround {seed}: {what}")?;
            if let Some(recording) = recording {
                writeln!(f, "recorded in {}", recording.display())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        decided::Decided,
        real::{Demand, Row, Stack},
    };

    #[test]
    fn what_was_hardly_decided_is_not_good() {
        for (undecided, good) in [(0, true), (5, true), (6, false)] {
            let decided = Decided::new(100, undecided);
            let rows = [((Stack::RedisStore, Demand::Strong), Row { decided, ..Row::default() })];
            let real = Some(Real { rows: rows.into(), ..Real::default() });
            let levels = [("Strong".to_owned(), Tally { decided, ..Tally::default() })].into();
            let simulated = Some(Simulated { levels, from: 0, elapsed: Duration::ZERO });
            for report in [Report { real, ..Report::default() }, Report { simulated, ..Report::default() }] {
                assert_eq!(report.is_good(), good, "{undecided} of 100");
                assert_eq!(report.to_string().contains("TOO LITTLE DECIDED"), !good);
            }
        }
    }
}
