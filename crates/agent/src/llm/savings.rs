//! What the cache has spared, for each model, added up over all processes.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

use parking_lot::RwLock;
use serde::Serialize;
use terrace::{Result, tier::Counters};

use super::{answer::Usage, prices::Prices};
use crate::counts::SharedCounts;

/// The most models that a process counts apart. Further ones are counted as `other`.
const MAX_MODELS: usize = 150;
const MAX_NAME_BYTES: usize = 128;
const OTHER_MODEL: &str = "other";

/// What happened to the requests of one model, in all processes that share the counters.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelSavings {
    /// The name of the model that the requests asked.
    pub model: String,
    /// Requests that the cache answered.
    pub hits: u64,
    /// Requests that went upstream, to be kept if their answers may be.
    pub misses: u64,
    /// Requests that shared the call of another one that was under way.
    pub joined: u64,
    /// Requests that the cache did not look at.
    pub bypassed: u64,
    /// Answers that were kept.
    pub writes: u64,
    /// The tokens that upstream billed, as far as it reported them.
    pub used: Usage,
    /// The tokens of the answers that hits and joined requests got without a call.
    pub avoided: Usage,
    /// What the avoided tokens would have cost, in the currency of the prices. It is `None` for a model without a
    /// price.
    pub saved: Option<f64>,
    /// What the used tokens cost.
    pub spent: Option<f64>,
}

impl ModelSavings {
    /// The part of requests, from 0 to 1, that the cache answered without a call of its own. Requests that it did not
    /// look at do not count.
    pub fn hit_rate(&self) -> f64 {
        let answered = self.hits + self.joined;
        let all = answered + self.misses;
        #[allow(clippy::cast_precision_loss, reason = "a ratio for people")]
        let ratio = answered as f64 / all.max(1) as f64;
        ratio
    }
}

/// What is counted of each model.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Count {
    Hits,
    Misses,
    Joined,
    Bypassed,
    Writes,
    UsedInput,
    UsedCached,
    UsedOutput,
    AvoidedInput,
    AvoidedCached,
    AvoidedOutput,
}

/// The names, in the order of [`Count`].
const NAMES: [&str; 11] = [
    "hits",
    "misses",
    "joined",
    "bypassed",
    "writes",
    "used_input",
    "used_cached_input",
    "used_output",
    "avoided_input",
    "avoided_cached_input",
    "avoided_output",
];

/// The counters of one model.
pub(crate) struct ModelCounts([Arc<AtomicI64>; NAMES.len()]);

impl ModelCounts {
    pub(crate) fn add(&self, count: Count, number: u64) {
        let number = i64::try_from(number).unwrap_or(i64::MAX);
        self.0[count as usize].fetch_add(number, Ordering::Relaxed);
    }

    pub(crate) fn add_used(&self, usage: &Usage) {
        self.add(Count::UsedInput, usage.input);
        self.add(Count::UsedCached, usage.cached_input);
        self.add(Count::UsedOutput, usage.output);
    }

    /// Counts tokens that `times` requests got without a call.
    pub(crate) fn add_avoided(&self, usage: &Usage, times: u64) {
        self.add(Count::AvoidedInput, usage.input.saturating_mul(times));
        self.add(Count::AvoidedCached, usage.cached_input.saturating_mul(times));
        self.add(Count::AvoidedOutput, usage.output.saturating_mul(times));
    }
}

/// The counters of all models.
pub(crate) struct Savings {
    counts: Arc<SharedCounts>,
    models: RwLock<HashMap<String, Arc<ModelCounts>>>,
}

impl Savings {
    pub(crate) fn new(shared: Option<Arc<dyn Counters>>) -> Self {
        Self { counts: SharedCounts::new("llm", shared), models: RwLock::default() }
    }

    pub(crate) fn of(&self, model: Option<&str>) -> Arc<ModelCounts> {
        self.counts.start();
        let model = model.filter(|name| name.len() <= MAX_NAME_BYTES).unwrap_or(OTHER_MODEL);
        if let Some(counts) = self.models.read().get(model) {
            return Arc::clone(counts);
        }
        let mut models = self.models.write();
        let model = if models.len() < MAX_MODELS || models.contains_key(model) { model } else { OTHER_MODEL };
        let new = || {
            let counter = |name| self.counts.counter(&format!("{model}:{name}"));
            Arc::new(ModelCounts(NAMES.map(counter)))
        };
        Arc::clone(models.entry(model.to_owned()).or_insert_with(new))
    }

    pub(crate) async fn flush(&self) -> Result<()> {
        self.counts.flush().await
    }

    pub(crate) async fn read(&self, prices: &Prices) -> Result<Vec<ModelSavings>> {
        let mut models: BTreeMap<String, [u64; NAMES.len()]> = BTreeMap::new();
        for (name, sum) in self.counts.read().await? {
            let Some((model, count)) = name.rsplit_once(':') else { continue };
            if let Some(at) = NAMES.iter().position(|name| *name == count) {
                models.entry(model.to_owned()).or_default()[at] = u64::try_from(sum).unwrap_or(0);
            }
        }
        Ok(models.into_iter().map(|(model, sums)| savings_of(model, sums, prices)).collect())
    }
}

fn savings_of(model: String, sums: [u64; NAMES.len()], prices: &Prices) -> ModelSavings {
    let [hits, misses, joined, bypassed, writes, used @ .., _, _, _] = sums;
    let [.., input, cached_input, output] = sums;
    let avoided = Usage { input, cached_input, output };
    let used = Usage { input: used[0], cached_input: used[1], output: used[2] };
    let (saved, spent) = (prices.cost(&model, &avoided), prices.cost(&model, &used));
    ModelSavings { model, hits, misses, joined, bypassed, writes, used, avoided, saved, spent }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn savings_of_a_fixed_trace_equal_a_sum_by_hand() {
        let savings = Savings::new(None);
        let usage = Usage { input: 600_000, cached_input: 400_000, output: 100_000 };
        let model = savings.of(Some("a"));
        model.add(Count::Misses, 1);
        model.add_used(&usage);
        model.add(Count::Hits, 3);
        model.add_avoided(&usage, 3);
        let prices =
            Prices::from_toml("[models.a]\ninput = 2.0\ncached_input = 0.5\noutput = 10.0\n").unwrap();
        let read = savings.read(&prices).await.unwrap();
        let [of_a] = &read[..] else { panic!("{read:?}") };
        // One call costs 1.2 + 0.2 + 1.0.
        assert!((of_a.spent.unwrap() - 2.4).abs() < 1e-9, "{of_a:?}");
        assert!((of_a.saved.unwrap() - 7.2).abs() < 1e-9, "{of_a:?}");
        assert_eq!((of_a.hits, of_a.misses, of_a.avoided.output), (3, 1, 300_000));
        assert!((of_a.hit_rate() - 0.75).abs() < 1e-9);
    }

    #[tokio::test]
    async fn the_number_of_models_has_a_bound() {
        let savings = Savings::new(None);
        for number in 0..1_000 {
            savings.of(Some(&format!("model {number}"))).add(Count::Hits, 1);
        }
        savings.of(Some(&"x".repeat(1_000))).add(Count::Hits, 1);
        let read = savings.read(&Prices::default()).await.unwrap();
        assert_eq!(read.len(), MAX_MODELS + 1);
        assert_eq!(read.iter().map(|model| model.hits).sum::<u64>(), 1_001);
    }
}
