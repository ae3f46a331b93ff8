//! The sizes of values. A key has one size: it is drawn from the key, so that each read of it agrees.

use std::{str::FromStr, sync::Arc};

use serde::Deserialize;

/// A distribution of sizes in bytes.
#[derive(Clone, Debug)]
pub(crate) enum Sizes {
    /// The same size for each key.
    Fixed(u32),
    /// Evenly between two sizes.
    Uniform(u32, u32),
    /// Exponentially, with this mean, and at least one byte.
    Exponential(u32),
    /// By a histogram: the ends of ranges, each with the share of the keys up to it.
    Histogram(Arc<[(u32, f64)]>),
}

/// The histogram files of CacheLib: as many ranges as weights, or one end of a range more.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct CacheLibFile {
    val_size_range: Vec<f64>,
    val_size_range_probability: Vec<f64>,
}

impl Sizes {
    /// The size of the value of a key.
    pub(crate) fn of(&self, key: u64) -> u32 {
        match self {
            Self::Fixed(bytes) => *bytes,
            Self::Uniform(least, most) => least + (f64::from(most - least + 1) * chance(key)) as u32,
            Self::Exponential(mean) => (-(1.0 - chance(key)).ln() * f64::from(*mean)).max(1.0) as u32,
            Self::Histogram(ranges) => {
                let chance = chance(key);
                let place = ranges.partition_point(|(_, share)| *share <= chance).min(ranges.len() - 1);
                let (most, end) = ranges[place];
                let (least, begin) = place.checked_sub(1).map_or((1, 0.0), |before| ranges[before]);
                let within = if end > begin { (chance - begin) / (end - begin) } else { 0.0 };
                least + (f64::from(most.saturating_sub(least)) * within) as u32
            }
        }
    }

    fn of_file(path: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| {
            format!("{error} ({path}): sizes are 200, 100..4000, exponential:500, or a file")
        })?;
        let file: CacheLibFile = serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
        let (ends, weights) = (file.val_size_range, file.val_size_range_probability);
        let ends = if ends.len() == weights.len() + 1 { &ends[1..] } else { &ends[..] };
        let sum: f64 = weights.iter().sum();
        let has_order = ends.windows(2).all(|pair| pair[0] <= pair[1]);
        if ends.len() != weights.len() || ends.is_empty() || !has_order || !(sum > 0.0) {
            return Err(format!(
                "{path}: valSizeRange rises, and valSizeRangeProbability has as many weights"
            ));
        }
        let mut share = 0.0;
        let ranges = ends.iter().zip(&weights).map(|(end, weight)| {
            share += weight / sum;
            (end.clamp(1.0, f64::from(u32::MAX)) as u32, share)
        });
        Ok(Self::Histogram(ranges.collect()))
    }
}

impl FromStr for Sizes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse::<u32>().map_err(|error| format!("{text}: {error}"));
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            return number(text).map(Self::Fixed);
        }
        if let Some(mean) = text.strip_prefix("exponential:") {
            return number(mean).map(Self::Exponential);
        }
        match text.split_once("..") {
            Some((least, most)) if !least.is_empty() && least.bytes().all(|byte| byte.is_ascii_digit()) => {
                let (least, most) = (number(least)?, number(most)?);
                if least > most {
                    return Err(format!("{text}: the first size is the smaller one"));
                }
                Ok(Self::Uniform(least, most))
            }
            _ => Self::of_file(text),
        }
    }
}

/// A number from 0 to 1 that the key alone decides.
fn chance(key: u64) -> f64 {
    fastrand::Rng::with_seed(key ^ 0x5173_5eed_0000_0001).f64()
}
