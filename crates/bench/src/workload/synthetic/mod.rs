//! Generators of keys.

mod hot_set;
mod zipf;

use std::{fmt, str::FromStr};

use super::{Request, format::TraceReader, parameters::Parameters};
use crate::failure::Result;
use hot_set::HotSet;
use zipf::Zipf;

/// A generator with its parameters.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Synthetic {
    /// The key of rank `r` is read in proportion to `r` to the power of `-exponent`.
    Zipf { keys: u64, exponent: f64 },
    /// Each key is as likely as any other.
    Uniform { keys: u64 },
    /// Each key once, in order.
    Scan,
    /// All keys in order, again and again.
    Loop { keys: u64 },
    /// `share` of the reads go to `hot` of the keys, which are others after `every` reads.
    HotSet { keys: u64, hot: u64, share: f64, every: u64 },
}

impl Synthetic {
    /// Begins to make requests.
    pub(super) fn reader(self, seed: u64) -> Box<dyn TraceReader> {
        let random = fastrand::Rng::with_seed(seed);
        match self {
            Self::Zipf { keys, exponent } => Box::new(Drawn(Zipf::new(keys, exponent), random)),
            Self::HotSet { keys, hot, share, every } => {
                Box::new(Drawn(HotSet::new(keys, hot, share, every), random))
            }
            Self::Uniform { keys } => Box::new(Drawn(Uniform(keys), random)),
            Self::Scan => Box::new(Drawn(Circle { keys: u64::MAX, next: 0 }, random)),
            Self::Loop { keys } => Box::new(Drawn(Circle { keys, next: 0 }, random)),
        }
    }
}

/// Draws the next key.
trait DrawKey: Send {
    fn draw(&mut self, random: &mut fastrand::Rng) -> u64;
}

/// A trace that never ends, of keys that are drawn.
struct Drawn<D>(D, fastrand::Rng);

impl<D: DrawKey> TraceReader for Drawn<D> {
    fn next(&mut self) -> Result<Option<Request>> {
        Ok(Some(Request::read(self.0.draw(&mut self.1))))
    }
}

struct Uniform(u64);

impl DrawKey for Uniform {
    fn draw(&mut self, random: &mut fastrand::Rng) -> u64 {
        random.u64(..self.0)
    }
}

/// Keys in order.
struct Circle {
    keys: u64,
    next: u64,
}

impl DrawKey for Circle {
    fn draw(&mut self, _random: &mut fastrand::Rng) -> u64 {
        let key = self.next;
        self.next = (key + 1) % self.keys;
        key
    }
}

impl FromStr for Synthetic {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, parameters) = text.split_once(':').unwrap_or((text, ""));
        let mut given = Parameters::parse(parameters)?;
        let keys = if kind == "scan" { 1 } else { given.take("keys", 100_000)? };
        let synthetic = match kind {
            "zipf" => Self::Zipf { keys, exponent: given.take("exponent", 0.99)? },
            "uniform" => Self::Uniform { keys },
            "scan" => Self::Scan,
            "loop" => Self::Loop { keys },
            "hot-set" => Self::HotSet {
                keys,
                hot: given.take("hot", 100)?,
                share: given.take("share", 0.9)?,
                every: given.take("every", 10_000)?,
            },
            _ => return Err(format!("`{kind}` is none of zipf, uniform, scan, loop, hot-set")),
        };
        given.end()?;
        match synthetic {
            _ if keys == 0 => Err("keys is at least 1".to_owned()),
            Self::Zipf { exponent, .. } if !(0.0..=10.0).contains(&exponent) => {
                Err("exponent is from 0 to 10".to_owned())
            }
            Self::HotSet { hot, share, every, .. }
                if hot == 0 || hot > keys || !(0.0..=1.0).contains(&share) || every == 0 =>
            {
                Err("hot is from 1 to keys, share from 0 to 1, every at least 1".to_owned())
            }
            valid => Ok(valid),
        }
    }
}

impl fmt::Display for Synthetic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zipf { keys, exponent } => write!(f, "zipf:keys={keys},exponent={exponent}"),
            Self::Uniform { keys } => write!(f, "uniform:keys={keys}"),
            Self::Scan => write!(f, "scan"),
            Self::Loop { keys } => write!(f, "loop:keys={keys}"),
            Self::HotSet { keys, hot, share, every } => {
                write!(f, "hot-set:keys={keys},hot={hot},share={share},every={every}")
            }
        }
    }
}
