//! `terrace-bench curve`: the analysis of a workload without a cache.

use serde::{Deserialize, Serialize};

use super::{Curve, CurvePoint, Optimum, Shards, knee};
use crate::{
    failure::{Result, refuse},
    report::{Files, table},
    workload::{Action, Workload},
};

/// Options of the analysis.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct AnalysisOptions {
    /// The capacities in entries, such as 250,500,1000; steps of doubling unless set
    #[arg(long, value_delimiter = ',', value_name = "ENTRIES", help_heading = "Analysis")]
    pub(crate) capacities: Vec<u64>,
    /// Analyses a sample of the keys, such as 0.1, by SHARDS: for traces with very many keys
    #[arg(long, value_name = "RATE", help_heading = "Analysis", value_parser = rate)]
    pub(crate) sample: Option<f64>,
    /// Leaves out the clairvoyant optimum, which takes 4 bytes a read
    #[arg(long, help_heading = "Analysis")]
    pub(crate) no_optimum: bool,
}

/// Prints the hit ratio of LRU over capacities, and the best ratio that any cache can have
#[derive(Debug, clap::Args)]
pub(crate) struct CurveCommand {
    #[command(flatten)]
    workload: Workload,
    #[command(flatten)]
    analysis: AnalysisOptions,
    /// With --sample: computes the exact curve as well, and prints the largest difference
    #[arg(long, requires = "sample", help_heading = "Analysis")]
    exact: bool,
    #[command(flatten)]
    files: Files,
}

/// What the analysis found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Analysis {
    /// The number of reads.
    pub(crate) reads: u64,
    /// The number of keys, or of sampled keys divided by the rate.
    pub(crate) keys: u64,
    /// The rate of the sample, if there was one.
    pub(crate) sample: Option<f64>,
    /// The smallest capacity for which the sample is large enough.
    pub(crate) least_capacity: u64,
    /// The hit ratio of LRU, exact or from the sample.
    pub(crate) lru: Vec<CurvePoint>,
    /// The best hit ratio.
    pub(crate) optimum: Vec<CurvePoint>,
    /// The capacity beyond which doubling adds less than 3 points.
    pub(crate) knee: u64,
    /// The hit ratio of LRU there.
    pub(crate) hit_ratio_at_knee: Option<f64>,
    /// The exact curve beside a sampled one.
    #[serde(skip)]
    exact: Vec<CurvePoint>,
}

fn rate(text: &str) -> std::result::Result<f64, String> {
    let rate: f64 = text.parse().map_err(|error| format!("{error}"))?;
    let is_valid = rate > 0.0 && rate <= 1.0;
    is_valid.then_some(rate).ok_or_else(|| "a rate is above 0 and at most 1".to_owned())
}

/// The parts of the analysis that are fed with each request.
struct Parts {
    curve: Option<Curve>,
    shards: Option<Shards>,
    optimum: Option<Optimum>,
}

impl Parts {
    fn feed(&mut self, action: Action, key: u64) {
        match action {
            Action::Read => {
                self.curve.iter_mut().for_each(|curve| curve.read(key));
                self.shards.iter_mut().for_each(|shards| shards.read(key));
                if self.optimum.as_mut().is_some_and(|optimum| !optimum.read(key)) {
                    self.optimum = None;
                }
            }
            Action::Write => {
                self.curve.iter_mut().for_each(|curve| curve.write(key));
                self.shards.iter_mut().for_each(|shards| shards.write(key));
            }
            Action::Remove | Action::Invalidate => {
                self.curve.iter_mut().for_each(|curve| curve.remove(key));
                self.shards.iter_mut().for_each(|shards| shards.remove(key));
            }
        }
    }
}

impl Analysis {
    /// Reads the workload once.
    pub(crate) fn of(workload: &Workload, options: &AnalysisOptions, exact: bool) -> Result<Self> {
        let shards = options.sample.map(|rate| Shards::new(rate, workload.seed));
        let mut parts = Parts {
            curve: (exact || shards.is_none()).then(Curve::default),
            shards,
            optimum: (!options.no_optimum).then(Optimum::default),
        };
        let (mut requests, mut reads, mut has_writes) = (workload.open()?, 0, false);
        while let Some(request) = requests.next()? {
            parts.feed(request.action, request.key);
            reads += u64::from(request.action == Action::Read);
            has_writes |= request.action != Action::Read;
        }
        if reads == 0 {
            refuse!("{}: the workload has no read", workload.name());
        }
        // The optimum is known for workloads of reads alone.
        let optimum = parts.optimum.take().filter(|_| !has_writes);
        Ok(Self { reads, ..Self::from_parts(&parts, optimum.as_ref(), options) })
    }

    fn from_parts(parts: &Parts, optimum: Option<&Optimum>, options: &AnalysisOptions) -> Self {
        let Parts { curve, shards, .. } = parts;
        let keys = match (curve, shards, options.sample) {
            (Some(curve), ..) => curve.keys(),
            (None, Some(shards), Some(rate)) => (shards.keys() as f64 / rate) as u64,
            _ => 0,
        };
        let least_capacity = shards.as_ref().map_or(1, Shards::least_capacity);
        let capacities = match options.capacities.is_empty() {
            true => doublings(keys),
            false => options.capacities.clone(),
        };
        let lru = |capacity| match (shards, curve) {
            (Some(shards), _) => shards.hit_ratio(capacity),
            (None, curve) => curve.as_ref().map(|curve| curve.hit_ratio(capacity)),
        };
        let points = |ratio: &dyn Fn(u64) -> Option<f64>| -> Vec<CurvePoint> {
            let point = |&capacity| Some(CurvePoint { capacity, hit_ratio: ratio(capacity)? });
            capacities.iter().filter_map(point).collect()
        };
        let knee = knee(keys, |capacity| lru(capacity).unwrap_or_default()).max(least_capacity.min(keys));
        Self {
            reads: 0,
            keys,
            sample: options.sample,
            least_capacity,
            lru: points(&lru),
            optimum: points(&|capacity| optimum.map(|optimum| optimum.hit_ratio(capacity))),
            knee,
            hit_ratio_at_knee: lru(knee),
            exact: points(&|capacity| curve.as_ref().map(|curve| curve.hit_ratio(capacity))),
        }
    }

    fn print(&self, capacities: &[u64]) {
        let percent = |points: &[CurvePoint], capacity: u64| {
            let found = points.iter().find(|point| point.capacity == capacity);
            found.map(|point| format!("{:.2}", point.hit_ratio * 100.0))
        };
        let too_small = || "sample too small".to_owned();
        let all: Vec<u64> = match capacities.is_empty() {
            true => self.exact.iter().chain(&self.lru).map(|point| point.capacity).collect(),
            false => capacities.to_vec(),
        };
        let mut rows = Vec::new();
        for capacity in all.into_iter().collect::<std::collections::BTreeSet<_>>() {
            let mut row = vec![table::thousands(capacity)];
            row.push(percent(&self.lru, capacity).unwrap_or_else(too_small));
            if self.sample.is_some() && !self.exact.is_empty() {
                row.push(percent(&self.exact, capacity).unwrap_or_default());
            }
            row.push(percent(&self.optimum, capacity).unwrap_or_else(|| "-".to_owned()));
            rows.push(row);
        }
        let lru = if self.sample.is_some() { "sampled LRU %" } else { "LRU %" };
        let mut heads = vec!["entries", lru, "optimum %"];
        if rows.first().is_some_and(|row| row.len() == 4) {
            heads.insert(2, "exact LRU %");
        }
        println!("{}", table::lines(&heads, &rows));
        if let Some(rate) = self.sample {
            println!(
                "The sample has {rate} of the keys; below {} entries it is too small to say anything.",
                table::thousands(self.least_capacity)
            );
        }
        if let (Some(_), Some(largest)) = (self.sample, self.largest_difference()) {
            println!("The largest difference to the exact curve is {:.2} points.", largest * 100.0);
        }
        println!(
            "{} reads of {} keys. Beyond {} entries, doubling the capacity adds less than 3 points.",
            table::thousands(self.reads),
            table::thousands(self.keys),
            table::thousands(self.knee)
        );
    }

    /// The largest difference of the sampled curve to the exact one, if both are there.
    fn largest_difference(&self) -> Option<f64> {
        let of = |point: &CurvePoint| {
            let exact = self.exact.iter().find(|exact| exact.capacity == point.capacity)?;
            Some((exact.hit_ratio - point.hit_ratio).abs())
        };
        self.lru.iter().filter_map(of).max_by(f64::total_cmp)
    }
}

/// Capacities that double, up to all keys: at most 12.
fn doublings(keys: u64) -> Vec<u64> {
    let mut capacities: Vec<u64> =
        std::iter::successors(Some(keys.max(1)), |capacity| (*capacity > 1).then_some(capacity / 2))
            .take(12)
            .collect();
    capacities.reverse();
    capacities
}

impl CurveCommand {
    /// Prints the analysis.
    pub(crate) fn run(&self) -> Result<()> {
        let analysis = Analysis::of(&self.workload, &self.analysis, self.exact)?;
        analysis.print(&self.analysis.capacities);
        self.files.write_json(&analysis)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        curve: CurveCommand,
    }

    fn analysis(line: &str) -> Analysis {
        let words = ["curve"].into_iter().chain(line.split(' '));
        let curve = Line::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).curve;
        Analysis::of(&curve.workload, &curve.analysis, curve.exact).unwrap()
    }

    /// The published hit ratios of LRU, and the optimum that another implementation gives.
    #[test]
    fn the_oltp_trace_has_its_published_hit_ratios() {
        let Some(folder) = crate::workload::data_folder() else { return };
        let trace = folder.join("OLTP.lis.zst");
        let found = analysis(&format!("{} --capacities 250,500,1000,1500,2000", trace.display()));
        let percents: Vec<String> =
            found.lru.iter().map(|point| format!("{:.2}", point.hit_ratio * 100.0)).collect();
        assert_eq!(percents, ["16.47", "23.45", "32.83", "38.70", "42.47"]);
        assert_eq!(format!("{:.2}", found.optimum[2].hit_ratio * 100.0), "53.62");
        assert_eq!((found.reads, found.keys), (914_145, 186_880));
    }

    #[test]
    fn a_sample_says_where_it_is_too_small() {
        let found =
            analysis("--synthetic uniform:keys=2000 --requests 20000 --sample 0.5 --capacities 999,1000");
        assert_eq!(found.least_capacity, 1_000);
        assert_eq!(found.lru.len(), 1);
        assert!((found.lru[0].hit_ratio - 0.475).abs() < 0.03, "{found:?}");
    }

    #[test]
    fn the_optimum_is_left_out_where_the_workload_writes() {
        let found = analysis("--synthetic zipf:keys=100 --requests 1000 --mix read=1,write=1");
        assert!(found.optimum.is_empty() && !found.lru.is_empty());
    }
}
