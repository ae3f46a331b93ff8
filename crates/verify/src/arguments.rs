//! What the user asks for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(crate) const USAGE: &str = "\
usage: cargo xtask verify [--seed N | --minutes N] [--from N] [--json]

  --seed N      replay one seed; where it fails, shrink it and print what happens
  --minutes N   simulate for so long, instead of half a minute
  --from N      the first seed; otherwise one taken from the clock, which the table names
  --json        for machines";

/// Simulated reads that a run checks at least, however slow the machine.
const READS: u64 = 10_000_000;

const TIME: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) wanted: Wanted,
    pub(crate) from: u64,
    pub(crate) json: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Replay(u64),
    /// Simulate for at least so long, and at least so many reads.
    All {
        time: Duration,
        reads: u64,
    },
}

impl Arguments {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments;
        let wanted = Wanted::All { time: TIME, reads: READS };
        let mut parsed = Self { wanted, from: from_clock(), json: false };
        while let Some(name) = arguments.next() {
            let mut number = || -> Result<u64, String> {
                let text = arguments.next().ok_or(format!("{name} needs a number"))?;
                text.parse().map_err(|_| format!("{name} needs a number, not `{text}`"))
            };
            match name.as_str() {
                "--seed" => parsed.wanted = Wanted::Replay(number()?),
                "--minutes" => {
                    let time = Duration::from_secs(number()?.saturating_mul(60));
                    parsed.wanted = Wanted::All { time, reads: READS };
                }
                "--from" => parsed.from = number()?,
                "--json" => parsed.json = true,
                _ => return Err(format!("unknown argument `{name}`")),
            }
        }
        Ok(parsed)
    }
}

/// Another one each second, far enough apart for the seeds of a run.
fn from_clock() -> u64 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    seconds.wrapping_mul(1_000_000) % 1_000_000_000_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(words: &[&str]) -> Result<Arguments, String> {
        Arguments::parse(words.iter().map(ToString::to_string))
    }

    #[test]
    fn a_seed_is_replayed_and_all_else_is_a_run() {
        assert_eq!(parsed(&["--seed", "7"]).map(|a| a.wanted), Ok(Wanted::Replay(7)));
        let minutes = Wanted::All { time: Duration::from_secs(600), reads: READS };
        let wanted = Ok(Arguments { wanted: minutes, from: 3, json: true });
        assert_eq!(parsed(&["--minutes", "10", "--from", "3", "--json"]), wanted);
        assert!(parsed(&["--seed"]).is_err() && parsed(&["--seed", "x"]).is_err() && parsed(&["7"]).is_err());
    }
}
