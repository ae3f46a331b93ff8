//! The shares of the actions in a workload.

use std::str::FromStr;

use super::{Action, parameters::Parameters};

/// The shares of reads, writes, removals and invalidations, as ends of intervals from 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mix {
    read: f64,
    write: f64,
    remove: f64,
}

impl Mix {
    /// Draws an action.
    pub(super) fn draw(&self, random: &mut fastrand::Rng) -> Action {
        match random.f64() {
            drawn if drawn < self.read => Action::Read,
            drawn if drawn < self.write => Action::Write,
            drawn if drawn < self.remove => Action::Remove,
            _ => Action::Invalidate,
        }
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut given = Parameters::parse(text)?;
        let mut shares = [0.0; 4];
        for (share, name) in shares.iter_mut().zip(["read", "write", "remove", "invalidate"]) {
            *share = given.take(name, 0.0_f64)?;
        }
        given.end()?;
        let sum: f64 = shares.iter().sum();
        if shares.iter().any(|share| *share < 0.0) || !sum.is_finite() || sum <= 0.0 {
            return Err("shares are numbers from 0, and one of them is above 0".to_owned());
        }
        let [read, write, remove, _] = shares.map(|share| share / sum);
        Ok(Self { read, write: read + write, remove: read + write + remove })
    }
}
