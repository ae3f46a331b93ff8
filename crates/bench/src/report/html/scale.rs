//! Axes: where a number stands, and which numbers are written beside them.

/// An axis from the least number to the largest.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    least: f64,
    most: f64,
    is_logarithmic: bool,
    /// The places in the picture of the least number and of the largest.
    ends: (f64, f64),
}

impl Scale {
    /// An even axis from 0.
    pub(super) fn even(most: f64, ends: (f64, f64)) -> Self {
        Self { least: 0.0, most: if most > 0.0 { most } else { 1.0 }, is_logarithmic: false, ends }
    }

    /// A logarithmic axis. Numbers of 0 and below stand at its begin.
    pub(super) fn logarithmic(least: f64, most: f64, ends: (f64, f64)) -> Self {
        let least = if least > 0.0 && least.is_finite() { least } else { 1.0 };
        let most = if most > least { most } else { least * 10.0 };
        Self { least, most, is_logarithmic: true, ends }
    }

    /// The place of a number in the picture.
    pub(super) fn place(&self, number: f64) -> f64 {
        let share = match self.is_logarithmic {
            true => (number.max(self.least) / self.least).ln() / (self.most / self.least).ln(),
            false => (number - self.least) / (self.most - self.least),
        };
        self.ends.0 + share.clamp(0.0, 1.0) * (self.ends.1 - self.ends.0)
    }

    /// At most about six numbers to write beside the axis.
    pub(super) fn ticks(&self) -> Vec<f64> {
        match self.is_logarithmic {
            true => self.powers(),
            false => self.steps(),
        }
    }

    fn steps(&self) -> Vec<f64> {
        let rough = self.most / 4.0;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power).into_iter().find(|step| *step >= rough);
        let step = step.unwrap_or(rough);
        (0..=6).map(|count| f64::from(count) * step).filter(|tick| *tick <= self.most * 1.0001).collect()
    }

    fn powers(&self) -> Vec<f64> {
        let (first, last) = (self.least.log10().floor() as i32, self.most.log10().ceil() as i32);
        let within = |tick: &f64| *tick >= self.least * 0.999 && *tick <= self.most * 1.001;
        let every = ((last - first) / 5).max(1) as usize;
        let tens: Vec<f64> =
            (first..=last).step_by(every).map(|power| 10_f64.powi(power)).filter(within).collect();
        if tens.len() >= 3 {
            return tens;
        }
        let factors = [1.0, 2.0, 5.0];
        let finer = (first..=last).flat_map(|power| factors.map(|factor| factor * 10_f64.powi(power)));
        finer.filter(within).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_numbers_within_the_axis() {
        assert_eq!(Scale::even(100.0, (0.0, 1.0)).ticks(), [0.0, 50.0, 100.0]);
        assert_eq!(Scale::even(7.0, (0.0, 1.0)).ticks(), [0.0, 2.0, 4.0, 6.0]);
        assert_eq!(Scale::logarithmic(3.0, 40_000.0, (0.0, 1.0)).ticks(), [10.0, 100.0, 1_000.0, 10_000.0]);
        assert_eq!(Scale::logarithmic(1.0, 16.0, (0.0, 1.0)).ticks(), [1.0, 2.0, 5.0, 10.0]);
        let scale = Scale::logarithmic(1.0, 100.0, (0.0, 200.0));
        assert_eq!(
            [0.0, 1.0, 10.0, 100.0, 1e6].map(|number| scale.place(number).round()),
            [0.0, 0.0, 100.0, 200.0, 200.0]
        );
    }
}
