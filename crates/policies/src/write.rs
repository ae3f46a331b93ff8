//! Which way a put takes.

use terrace_core::policy::{Copies, WritePlan, WritePolicy};

/// To the store, then to the copies: what is put is read back from the nearest tier. What a cache
/// with a store does unless told otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteThrough;

impl WritePolicy for WriteThrough {
    fn plan(&self) -> WritePlan {
        WritePlan { store: true, copies: Copies::Replace }
    }
}

/// To the store alone; copies are dropped and made again by the next read. For values that are
/// written more often than read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WriteAround;

impl WritePolicy for WriteAround {
    fn plan(&self) -> WritePlan {
        WritePlan { store: true, copies: Copies::Invalidate }
    }
}

/// To the caches; the application writes to the origin itself. What a cache without a store does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheAside;

impl WritePolicy for CacheAside {
    fn plan(&self) -> WritePlan {
        WritePlan { store: false, copies: Copies::Replace }
    }
}
