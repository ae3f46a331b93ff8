//! The rank test of Wilcoxon for pairs: are the second numbers of pairs larger than the first ones?
//!
//! Source: F. Wilcoxon, Individual comparisons by ranking methods, Biometrics Bulletin 1(6), 1945.

/// The chance that differences as one-sided as these come about where both sides are the same. `worse` are the
/// differences of the pairs, positive where the second is worse. Exact up to 60 pairs, of which the last are
/// used.
pub(super) fn chance_of(worse: &[f64]) -> f64 {
    let mut differences: Vec<f64> = worse.iter().copied().filter(|difference| *difference != 0.0).collect();
    let start = differences.len().saturating_sub(60);
    let differences = &mut differences[start..];
    differences.sort_by(|a, b| a.abs().total_cmp(&b.abs()));
    let pairs = differences.len();
    // The sum of the ranks of those pairs whose second is worse. Equal differences do not occur among times.
    let ranks: usize =
        differences.iter().zip(1..).filter(|(difference, _)| **difference > 0.0).map(|(_, rank)| rank).sum();
    // How many choices of signs have each sum of ranks.
    let mut choices = vec![0.0_f64; pairs * (pairs + 1) / 2 + 1];
    choices[0] = 1.0;
    for rank in 1..=pairs {
        for sum in (rank..choices.len()).rev() {
            choices[sum] += choices[sum - rank];
        }
    }
    let as_large: f64 = choices[ranks..].iter().sum();
    as_large / 2.0_f64.powi(pairs as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chances_are_those_of_the_tables() {
        // Five pairs, all worse: one choice of signs in 32.
        assert!((chance_of(&[1.0, 2.0, 3.0, 4.0, 5.0]) - 1.0 / 32.0).abs() < 1e-12);
        // The smallest one is better: two choices in 32 have a sum of ranks of 14 or more.
        assert!((chance_of(&[-1.0, 2.0, 3.0, 4.0, 5.0]) - 2.0 / 32.0).abs() < 1e-12);
        assert!((chance_of(&[-1.0, -2.0]) - 1.0).abs() < 1e-12);
        assert!((chance_of(&[]) - 1.0).abs() < 1e-12);
        // The table of Wilcoxon: 12 pairs and a sum of 10 for the lesser signs have 0.0105 on one side.
        let signs: Vec<f64> = (1..=12).map(|rank| if rank == 10 { -10.0 } else { f64::from(rank) }).collect();
        assert!((chance_of(&signs) - 0.0105).abs() < 5e-4, "{}", chance_of(&signs));
    }
}
