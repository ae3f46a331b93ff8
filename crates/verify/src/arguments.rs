//! The arguments of the program.

use std::{
    path::PathBuf,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crate::real::Until;

pub(crate) const USAGE: &str = "\
usage: cargo xtask verify [--seed N | --minutes N] [--from N] [--json]
       cargo xtask verify --real [--seed N | --rounds N | --minutes N] [--from N] [--keep FOLDER] [--json]
       cargo xtask verify check FILE

  --seed N       replay one simulated seed; where it fails, shrink it and print what happens
  --minutes N    simulate for one half of the time and run on real servers for the other half; with
                 `--real`, all of the time on real servers. Without it each half takes 30 s at least
  --from N       the first seed; otherwise one taken from the clock, which the table names
  --json         print the table as JSON
  --real         real servers alone; `--seed N` repeats round N, as far as its timing allows
  --rounds N     this many rounds on real servers; four have all stacks and all faults
  --keep FOLDER  where recordings of rounds that fail are kept: target/verify unless given
  check FILE     judge a recording again";

/// Simulated reads that a run checks at least, no matter how slow the machine is.
const READS: u64 = 10_000_000;

const TIME: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) wanted: Wanted,
    pub(crate) from: u64,
    pub(crate) json: bool,
    /// Where recordings of rounds that fail are kept.
    pub(crate) keep: PathBuf,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Simulate one seed.
    Replay(u64),
    /// Simulate for at least this time and this many reads; then run the switches, and rounds on real
    /// servers for the same time.
    All { time: Duration, reads: u64 },
    /// Rounds on real servers.
    Real(Until),
    /// Judge a recording.
    Check(PathBuf),
}

impl Arguments {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut arguments = arguments;
        let (mut seed, mut time, mut rounds, mut check) = (None, None, None, None);
        let (mut real, mut json, mut keep, mut from) = (false, false, None, None);
        while let Some(name) = arguments.next() {
            let mut text = || arguments.next().ok_or(format!("{name} needs a value"));
            let number = |text: Result<String, String>| -> Result<u64, String> {
                let text = text?;
                text.parse().map_err(|_| format!("{name} needs a number, not `{text}`"))
            };
            match name.as_str() {
                "--seed" => seed = Some(number(text())?),
                "--minutes" => time = Some(Duration::from_secs(number(text())?.saturating_mul(60))),
                "--rounds" => rounds = Some(number(text())?),
                "--from" => from = Some(number(text())?),
                "--keep" => keep = Some(PathBuf::from(text()?)),
                "check" => check = Some(PathBuf::from(text()?)),
                "--json" => json = true,
                "--real" => real = true,
                _ => return Err(format!("unknown argument `{name}`")),
            }
        }
        let wanted = match (check, seed, rounds) {
            (Some(file), ..) => Wanted::Check(file),
            (None, Some(_), _) if real => Wanted::Real(Until::Rounds(1)),
            (None, Some(seed), _) => Wanted::Replay(seed),
            (None, None, Some(rounds)) => Wanted::Real(Until::Rounds(rounds)),
            (None, None, None) if real => Wanted::Real(Until::Time(time.unwrap_or(TIME))),
            (None, None, None) => Wanted::All { time: time.map_or(TIME, |time| time / 2), reads: READS },
        };
        let (from, keep) = (seed.or(from).unwrap_or_else(from_clock), keep.unwrap_or("target/verify".into()));
        Ok(Self { wanted, from, json, keep })
    }
}

/// A seed that differs from second to second by more than the seeds that a run takes.
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

    fn wanted(words: &[&str]) -> Wanted {
        parsed(words).unwrap().wanted
    }

    #[test]
    fn a_seed_is_replayed_and_all_else_is_a_run() {
        assert_eq!(wanted(&["--seed", "7"]), Wanted::Replay(7));
        let minutes = Wanted::All { time: Duration::from_secs(300), reads: READS };
        let all = parsed(&["--minutes", "10", "--from", "3", "--json"]).unwrap();
        assert_eq!((all.wanted, all.from, all.json), (minutes, 3, true));
        assert!(parsed(&["--seed"]).is_err() && parsed(&["--seed", "x"]).is_err() && parsed(&["7"]).is_err());
    }

    #[test]
    fn real_servers_alone_are_a_matter_of_rounds_or_time() {
        assert_eq!(wanted(&["--rounds", "4"]), Wanted::Real(Until::Rounds(4)));
        let one = parsed(&["--real", "--seed", "7"]).unwrap();
        assert_eq!((one.wanted, one.from), (Wanted::Real(Until::Rounds(1)), 7));
        let soak = Until::Time(Duration::from_secs(600));
        assert_eq!(wanted(&["--real", "--minutes", "10"]), Wanted::Real(soak));
        assert_eq!(wanted(&["check", "a"]), Wanted::Check("a".into()));
    }
}
