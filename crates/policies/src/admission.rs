//! Which values a tier keeps.

use terrace_core::policy::{Admission, AdmitContext};

/// Every tier keeps every value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AdmitAll;

impl Admission for AdmitAll {
    fn admits(&self, _context: &AdmitContext<'_>) -> bool {
        true
    }
}

/// A tier keeps values up to a size.
///
/// The size is the number of bytes of the encoded value, envelope included. A cache without remote
/// tiers encodes nothing and so keeps every value. The near tier has the name `near`.
///
/// ```
/// use terrace_policies::SizeLimit;
///
/// let everywhere = SizeLimit::bytes(1 << 20);
/// let in_one = SizeLimit::in_tier("redis", 64 << 10);
/// let both = SizeLimit::bytes(1 << 20).and_in("redis", 64 << 10);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SizeLimit {
    most_bytes: usize,
    tiers: Vec<(String, usize)>,
}

impl SizeLimit {
    /// Every tier keeps values of at most `bytes`.
    pub const fn bytes(bytes: usize) -> Self {
        Self { most_bytes: bytes, tiers: Vec::new() }
    }

    /// The tier of this name keeps values of at most `bytes`; the other tiers have no limit.
    pub fn in_tier(tier: impl Into<String>, bytes: usize) -> Self {
        Self::bytes(usize::MAX).and_in(tier, bytes)
    }

    /// Adds a limit: the tier of this name keeps values of at most `bytes`. The smallest limit for a
    /// tier holds.
    #[must_use]
    pub fn and_in(mut self, tier: impl Into<String>, bytes: usize) -> Self {
        self.tiers.push((tier.into(), bytes));
        self
    }
}

impl Admission for SizeLimit {
    fn admits(&self, context: &AdmitContext<'_>) -> bool {
        let own = self.tiers.iter().filter(|(tier, _)| tier == context.tier).map(|(_, bytes)| *bytes);
        let most = own.chain([self.most_bytes]).min();
        context.size_bytes.is_none_or(|size| most.is_none_or(|most| size <= most))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(limit: &SizeLimit, tier: &str, size_bytes: usize) -> bool {
        limit.admits(&AdmitContext::new("users", tier, Some(size_bytes)))
    }

    #[test]
    fn a_value_of_the_limit_is_kept_and_a_larger_one_is_not() {
        let limit = SizeLimit::bytes(100);
        assert!(admits(&limit, "near", 100));
        assert!(!admits(&limit, "near", 101));
        assert!(!admits(&limit, "redis", usize::MAX));
    }

    #[test]
    fn a_tier_may_have_a_limit_of_its_own() {
        let limit = SizeLimit::bytes(100).and_in("redis", 10);
        assert!(!admits(&limit, "redis", 11));
        assert!(admits(&limit, "postgres", 100));
        assert!(!admits(&SizeLimit::bytes(10).and_in("redis", 100), "redis", 11));
        assert!(admits(&SizeLimit::in_tier("redis", 10), "near", usize::MAX));
    }

    #[test]
    fn a_value_of_unknown_size_is_kept() {
        assert!(SizeLimit::bytes(0).admits(&AdmitContext::new("users", "near", None)));
    }
}
