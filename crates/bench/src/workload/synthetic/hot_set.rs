//! A hot set that moves: some keys take most reads, and after a while others do.

use super::DrawKey;

/// The generator. The hot keys are a run of numbers that begins at `first`.
pub(super) struct HotSet {
    keys: u64,
    hot: u64,
    share: f64,
    every: u64,
    first: u64,
    drawn: u64,
}

impl HotSet {
    pub(super) fn new(keys: u64, hot: u64, share: f64, every: u64) -> Self {
        Self { keys, hot, share, every, first: 0, drawn: 0 }
    }
}

impl DrawKey for HotSet {
    fn draw(&mut self, random: &mut fastrand::Rng) -> u64 {
        if self.drawn == self.every {
            (self.drawn, self.first) = (0, (self.first + self.hot) % self.keys);
        }
        self.drawn += 1;
        match random.f64() < self.share {
            true => (self.first + random.u64(..self.hot)) % self.keys,
            false => random.u64(..self.keys),
        }
    }
}
