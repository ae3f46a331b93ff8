//! The lease that a load works on, where others wait for it.

use terrace_tier::lease::LeaseGuard;

/// The lease that a load of this process works on, in the tier where others wait for it.
pub(crate) struct Held {
    /// The tier.
    index: usize,
    hold: LeaseGuard,
}

impl Held {
    /// A lease of the tier of this index.
    pub(super) fn new(index: usize, hold: LeaseGuard) -> Self {
        Self { index, hold }
    }

    /// The tier of this index has answered the fill.
    pub(crate) fn settle(&self, index: usize) {
        if self.index == index {
            self.hold.settle();
        }
    }
}
