//! The capacity beyond which more memory brings little.

/// Doubling a capacity is worth it if it adds this much to the hit ratio.
const WORTH: f64 = 0.03;

/// The smallest capacity whose doubling adds less than 3 points to the hit ratio and to which no later doubling
/// adds as much either; all keys at most.
pub(crate) fn knee(keys: u64, hit_ratio: impl Fn(u64) -> f64) -> u64 {
    let mut capacity = keys.max(1);
    while capacity > 1 && hit_ratio(capacity) - hit_ratio(capacity / 2) < WORTH {
        capacity /= 2;
    }
    capacity
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_knee_is_where_doubling_stops_to_pay() {
        // Four points for each doubling up to 1,024, and none beyond.
        let steep = |capacity: u64| (capacity.min(1_024) as f64).log2() * 0.04;
        assert_eq!(knee(1 << 20, steep), 1_024);
        assert_eq!(knee(1 << 20, |_| 0.5), 1);
        assert_eq!(knee(100, |capacity| capacity as f64 / 100.0), 100);
    }
}
