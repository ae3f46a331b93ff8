//! Zipf's law by rejection-inversion, which needs no table of the keys.
//!
//! Source: W. Hörmann and G. Derflinger, Rejection-inversion to generate variates from monotone discrete
//! distributions, ACM TOMACS 6(3), 1996.

use super::DrawKey;

/// A generator for ranks from 0, most likely first.
pub(super) struct Zipf {
    keys: f64,
    exponent: f64,
    /// The integral of the hat up to the first rank less the weight of that rank, and up to the last rank.
    ends: (f64, f64),
    /// A rank this near to the drawn point is accepted without a look at its weight.
    squeeze: f64,
}

impl Zipf {
    pub(super) fn new(keys: u64, exponent: f64) -> Self {
        let keys = keys as f64;
        let ends = (integral(1.5, exponent) - 1.0, integral(keys + 0.5, exponent));
        let squeeze = 2.0 - inverse(integral(2.5, exponent) - 2.0_f64.powf(-exponent), exponent);
        Self { keys, exponent, ends, squeeze }
    }
}

impl DrawKey for Zipf {
    fn draw(&mut self, random: &mut fastrand::Rng) -> u64 {
        loop {
            let area = self.ends.1 + random.f64() * (self.ends.0 - self.ends.1);
            let point = inverse(area, self.exponent);
            let rank = point.round().clamp(1.0, self.keys);
            let is_below = || area >= integral(rank + 0.5, self.exponent) - rank.powf(-self.exponent);
            if rank - point <= self.squeeze || is_below() {
                return rank as u64 - 1;
            }
        }
    }
}

/// The integral of `x` to the power of `-exponent` from 1 to `to`.
fn integral(to: f64, exponent: f64) -> f64 {
    let log = to.ln();
    log * exp_m1_ratio((1.0 - exponent) * log)
}

/// The point up to which that integral is `area`.
fn inverse(area: f64, exponent: f64) -> f64 {
    let scaled = (area * (1.0 - exponent)).max(-1.0);
    (area * ln_1p_ratio(scaled)).exp()
}

/// `(e^x - 1) / x`, which is 1 at 0.
fn exp_m1_ratio(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.exp_m1() / x } else { 1.0 + x / 2.0 }
}

/// `ln(1 + x) / x`, which is 1 at 0.
fn ln_1p_ratio(x: f64) -> f64 {
    if x.abs() > 1e-8 { x.ln_1p() / x } else { 1.0 - x / 2.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_as_frequent_as_the_law_says() {
        for exponent in [0.0, 0.5, 0.99, 1.0, 1.5] {
            let (mut zipf, mut random) = (Zipf::new(1_000, exponent), fastrand::Rng::with_seed(7));
            let mut counts = vec![0_u32; 1_000];
            let draws = 400_000;
            for _ in 0..draws {
                counts[zipf.draw(&mut random) as usize] += 1;
            }
            let sum: f64 = (1..=1_000).map(|rank| f64::from(rank).powf(-exponent)).sum();
            for rank in [1_u32, 2, 3, 10, 100] {
                let expected = f64::from(draws) * f64::from(rank).powf(-exponent) / sum;
                let counted = f64::from(counts[rank as usize - 1]);
                let deviation = (counted - expected).abs() / expected.sqrt();
                assert!(deviation < 5.0, "rank {rank}, exponent {exponent}: {counted} for {expected}");
            }
        }
    }
}
