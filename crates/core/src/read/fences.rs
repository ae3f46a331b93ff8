//! The fences of one key's lookup.

use crate::{Fence, TierKey, chain::Chain};

/// What the cache tiers gave to fill over, by their places in the chain. Takes no memory before the
/// first: a lookup that hits at once has none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fences(Vec<Option<Fence>>);

impl Fences {
    /// The fence of the tier at this place; `None` where it gave none.
    pub(crate) fn get(&self, place: usize) -> Option<Fence> {
        self.0.get(place).copied().flatten()
    }

    pub(crate) fn set(&mut self, place: usize, fence: Option<Fence>) {
        if self.0.len() <= place {
            self.0.resize(place + 1, None);
        }
        self.0[place] = fence;
    }

    /// The cache tiers that gave none owe the key: what they have of it cannot be replaced.
    pub(crate) fn owe_others(&self, chain: &Chain, key: &TierKey) {
        let places = chain.tiers.iter().enumerate().filter(|&(at, _)| self.get(at).is_none());
        places.for_each(|(_, place)| place.owe(key));
    }

    /// Whether any tier may be filled.
    pub(crate) fn any(&self) -> bool {
        self.0.iter().any(Option::is_some)
    }
}
