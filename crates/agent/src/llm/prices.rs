//! What tokens cost, from a table of the user's own.

use std::collections::BTreeMap;

use serde::Deserialize;
use terrace::{Error, Result};

use super::answer::Usage;

/// The prices of models, in dollars (or any other currency) for a million tokens. None are built in, because they
/// change.
///
/// ```
/// use terrace_agent::llm::Prices;
///
/// let prices = Prices::from_toml("[models.\"large\"]\ninput = 2.5\ncached_input = 1.25\noutput = 10.0\n")?;
/// let error = Prices::from_toml("[models.\"large\"]\ninput = \"cheap\"\noutput = 10.0\n").unwrap_err();
/// assert!(error.to_string().contains("line 2"));
/// # Ok::<(), terrace::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Prices(BTreeMap<String, Price>);

#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Price {
    input: f64,
    /// As `input` unless set.
    cached_input: Option<f64>,
    output: f64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(default)]
    models: BTreeMap<String, Price>,
}

impl Prices {
    /// The prices of a TOML text: a table `[models."name"]` with `input`, `output` and, if the provider bills what it
    /// found in its own prompt cache at another rate, `cached_input`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace::ErrorKind::Config), with the line and the word, for text that is not TOML, an
    /// unknown or missing field, and a price that is no number or below zero.
    pub fn from_toml(text: &str) -> Result<Self> {
        let table: Table = toml::from_str(text).map_err(|error| {
            let span = error.span().unwrap_or_default();
            let line = text.get(..span.start).unwrap_or_default().matches('\n').count() + 1;
            let word = text.get(span).unwrap_or_default().lines().next().unwrap_or_default();
            let whole_line = text.lines().nth(line - 1).unwrap_or_default().trim();
            let word = if word.is_empty() { whole_line } else { word };
            Error::config(format!("line {line} of the prices, at `{word}`: {}", error.message()))
        })?;
        for (model, price) in &table.models {
            let cached_input = price.cached_input.unwrap_or(0.0);
            for (word, value) in
                [("input", price.input), ("cached_input", cached_input), ("output", price.output)]
            {
                if !(value.is_finite() && value >= 0.0) {
                    let line = line_of(text, model, word);
                    let what = "a price is a number that is not below zero";
                    return Err(Error::config(format!(
                        "line {line} of the prices, at `{word}` of `{model}`: {what}"
                    )));
                }
            }
        }
        Ok(Self(table.models))
    }

    /// What the tokens cost, or `None` for a model without a price.
    pub fn cost(&self, model: &str, usage: &Usage) -> Option<f64> {
        let price = self.0.get(model)?;
        let cost = |tokens: u64, price: f64| {
            #[allow(clippy::cast_precision_loss, reason = "below 2^53 tokens it is exact")]
            let tokens = tokens as f64;
            tokens * price / 1e6
        };
        let cached = cost(usage.cached_input, price.cached_input.unwrap_or(price.input));
        Some(cost(usage.input, price.input) + cached + cost(usage.output, price.output))
    }

    /// The names of the models that have a price.
    pub fn models(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The line of a field in the table of a model, from 1.
fn line_of(text: &str, model: &str, word: &str) -> usize {
    let mut lines = text.lines().enumerate().skip_while(|(_, line)| !line.contains(model));
    lines.find(|(_, line)| line.trim_start().starts_with(word)).map_or(1, |(at, _)| at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str =
        "[models.\"a\"]\ninput = 2.5\ncached_input = 1.25\noutput = 10\n[models.b]\ninput = 1\noutput = 2\n";

    #[test]
    fn cached_input_has_its_own_rate_and_counts_once() {
        let prices = Prices::from_toml(TEXT).unwrap();
        let usage = Usage { input: 1_000_000, cached_input: 2_000_000, output: 100_000 };
        assert_eq!(prices.cost("a", &usage), Some(2.5 + 2.5 + 1.0));
        assert_eq!(prices.cost("b", &usage), Some(1.0 + 2.0 + 0.2));
        assert_eq!(prices.cost("c", &usage), None);
    }

    #[test]
    fn errors_name_the_line_and_the_word() {
        for (text, expected) in [
            ("[models.a]\ninput = 1\noutptu = 2\n", ["line 3", "outptu"]),
            ("[models.a]\ninput = \"x\"\noutput = 2\n", ["line 2", "\"x\""]),
            ("[models.a]\ninput = 1\noutput = -2\n", ["line 3", "output"]),
            ("[models.a]\ninput = nan\noutput = 2\n", ["line 2", "input"]),
            ("[models.a\n", ["line 1", "models"]),
            ("[modles.a]\ninput = 1\noutput = 2\n", ["line 1", "modles"]),
        ] {
            let error = Prices::from_toml(text).unwrap_err().to_string();
            assert!(expected.iter().all(|part| error.contains(part)), "{text}: {error}");
        }
    }
}
