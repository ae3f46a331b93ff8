//! Which tiers a put writes to.

use terrace_core::policy::{Copies, WritePlan, WritePolicy};

/// A put writes to the store and then to the copies, so that the nearest tier serves the value at
/// once. This is the default of a cache with a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteThrough;

impl WritePolicy for WriteThrough {
    fn plan(&self) -> WritePlan {
        WritePlan { store: true, copies: Copies::Replace }
    }
}

/// A put writes to the store alone and invalidates the copies; the next read makes them again. For
/// values that are written more often than read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteAround;

impl WritePolicy for WriteAround {
    fn plan(&self) -> WritePlan {
        WritePlan { store: true, copies: Copies::Invalidate }
    }
}

/// A put writes to the cache tiers; the application writes to the origin itself. This is the default
/// of a cache without a store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheAside;

impl WritePolicy for CacheAside {
    fn plan(&self) -> WritePlan {
        WritePlan { store: false, copies: Copies::Replace }
    }
}
