//! The quartiles of the rounds.

/// The quartiles of some figures.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// A quarter of the figures is lower.
    pub lower: f64,
    /// Half of the figures are lower.
    pub median: f64,
    /// Three quarters of the figures are lower.
    pub upper: f64,
}

impl Spread {
    /// The quartiles; without figures they are no numbers.
    #[must_use]
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        Self { lower: share(&sorted, 250), median: share(&sorted, 500), upper: share(&sorted, 750) }
    }
}

/// The figure below which `thousandths` of the sorted figures lie.
#[must_use]
pub fn share(sorted: &[f64], thousandths: usize) -> f64 {
    sorted.get(sorted.len().saturating_sub(1) * thousandths / 1_000).copied().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_are_those_of_the_sorted_figures() {
        let spread = Spread::of([5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!(spread, Spread { lower: 2.0, median: 3.0, upper: 4.0 });
    }
}
