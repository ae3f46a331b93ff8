//! Faults that are made while a row is measured.

use std::{
    fmt,
    str::FromStr,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use super::stack::{Servers, StackSpec};
use crate::failure::{Result, refuse};

/// What happens to a tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FaultKind {
    /// The server is killed, and started again.
    Kill,
    /// The server is stopped by SIGSTOP, and goes on.
    Stop,
    /// All traffic is delayed.
    Slow,
    /// All that the tier holds is dropped.
    Empty,
}

/// One fault: `SECOND:KIND:TIER[:FOR[:BY]]`, as `5:stop:redis:500ms`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Fault {
    /// When it happens, from the begin of each row.
    pub(crate) at: Duration,
    /// What happens.
    pub(crate) kind: FaultKind,
    /// To which tier.
    pub(crate) tier: String,
    /// For how long.
    pub(crate) length: Duration,
    /// By how much traffic is delayed.
    pub(crate) by: Duration,
}

impl Fault {
    /// Refuses a fault that the stack cannot have. A stack without the tier has no such fault.
    pub(crate) fn check(&self, spec: &StackSpec) -> Result<()> {
        let has_tier = spec.tiers().contains(&self.tier.as_str());
        if has_tier && !spec.private_tiers().contains(&self.tier.as_str()) {
            refuse!("--fault {self}: {} of stack {} is not the run's own server", self.tier, spec.name);
        }
        Ok(())
    }

    /// Makes the fault, and ends when it is over.
    pub(super) async fn make(&self, servers: &Servers) -> Result<()> {
        let Some(server) = servers.of(&self.tier) else { return Ok(()) };
        let made = match self.kind {
            FaultKind::Kill => server.kill(self.length).await,
            FaultKind::Stop => server.stop(self.length).await,
            FaultKind::Slow => server.slow(self.length, self.by).await,
            FaultKind::Empty => server.clear(),
        };
        made.map_err(|error| error.during(format_args!("--fault {self}")))
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split(':').collect();
        let (&[at, kind, tier], rest) =
            parts.split_first_chunk().ok_or("a fault is SECOND:KIND:TIER[:FOR[:BY]]")?;
        let (kind, usual) = match kind {
            "kill" => (FaultKind::Kill, 1_000),
            "stop" => (FaultKind::Stop, 500),
            "slow" => (FaultKind::Slow, 1_000),
            "empty" => (FaultKind::Empty, 0),
            _ => return Err(format!("`{kind}` is none of kill, stop, slow, empty")),
        };
        let fits = match kind {
            FaultKind::Empty => tier == "redis",
            _ => matches!(tier, "redis" | "postgres"),
        };
        if !fits {
            return Err(format!(
                "the tier {tier} cannot have this fault; redis can have all, postgres all but empty"
            ));
        }
        let part = |place: usize, usual: u64| {
            rest.get(place).map_or(Ok(Duration::from_millis(usual)), |text| duration(text))
        };
        let fault = Self {
            at: duration(at)?,
            kind,
            tier: tier.to_owned(),
            length: part(0, usual)?,
            by: part(1, 20)?,
        };
        match rest.len() {
            0..=1 => Ok(fault),
            2 if kind == FaultKind::Slow => Ok(fault),
            _ => Err("a fault is SECOND:KIND:TIER[:FOR[:BY]], and only slow has BY".to_owned()),
        }
    }
}

/// A duration as `500ms`, `2s` or `2`, in seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = match (text.strip_suffix("ms"), text.strip_suffix("us"), text.strip_suffix('s')) {
        (Some(number), ..) => (number, 1e-3),
        (_, Some(number), _) => (number, 1e-6),
        (.., Some(number)) => (number, 1.0),
        _ => (text, 1.0),
    };
    let seconds =
        number.parse::<f64>().map_err(|_| format!("`{text}` is no duration as 500ms or 2s"))? * unit;
    Duration::try_from_secs_f64(seconds).map_err(|error| format!("`{text}`: {error}"))
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = format!("{:?}", self.kind).to_lowercase();
        write!(f, "{}:{kind}:{}", self.at.as_secs_f64(), self.tier)?;
        match self.kind {
            FaultKind::Empty => Ok(()),
            FaultKind::Slow => write!(f, ":{}ms:{}ms", self.length.as_millis(), self.by.as_millis()),
            _ => write!(f, ":{}ms", self.length.as_millis()),
        }
    }
}

/// Makes faults one after another, each at its time from now on, until the row is over. A fault that has begun
/// comes to its end, so that no server stays stopped. The result is the number of faults.
pub(super) async fn make_all(faults: &[Fault], servers: &Servers, is_over: &AtomicBool) -> Result<usize> {
    let began = Instant::now();
    let mut ordered: Vec<&Fault> = faults.iter().collect();
    ordered.sort_by_key(|fault| fault.at);
    for (made, fault) in ordered.iter().enumerate() {
        while let Some(left) = fault.at.checked_sub(began.elapsed()) {
            if is_over.load(Ordering::Acquire) {
                return Ok(made);
            }
            tokio::time::sleep(left.min(Duration::from_millis(20))).await;
        }
        fault.make(servers).await?;
    }
    Ok(faults.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_and_shown_the_same() {
        for text in
            ["5:stop:redis:500ms", "0.5:slow:postgres:2000ms:20ms", "1:kill:redis:1000ms", "2:empty:redis"]
        {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        let short: Fault = "500ms:stop:redis".parse().unwrap();
        assert_eq!((short.at, short.length), (Duration::from_millis(500), Duration::from_millis(500)));
        for wrong in [
            "stop:redis",
            "1:melt:redis",
            "1:kill:memory",
            "1:empty:postgres",
            "x:kill:redis",
            "1:kill:redis:1s:1s",
        ] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }
}
