//! The write-behind fronts of a fake store.

use std::time::Duration;

use async_trait::async_trait;
use terrace_tier::{
    Error, ErrorKind, FrontClaim, FrontRow, FrontStore, FrontTerm, Op, Result, Role, Term, Version,
    defence::{Defence, enabled},
    direct_write_refused,
};

use super::{Data, tier::FakeTier};

#[async_trait]
impl FrontStore for FakeTier {
    async fn open_front(&self, claim: &FrontClaim) -> Result<FrontTerm> {
        let mut data = self.for_front().await?;
        let name = &self.namespace.name;
        let row = FrontRow::opened(data.fronts.get(name), claim, self.server.clock.now())?;
        data.fronts.insert(name.clone(), row);
        let versions = data.cells.iter().filter(|((namespace, ..), _)| namespace == name);
        let high = versions.map(|(_, cell)| cell.version).max().unwrap_or(Version::NONE);
        let issued = data.issued.get(name).copied().unwrap_or_default();
        Ok(FrontTerm { term: row.term, high: high.max(issued) })
    }

    async fn hold_front(&self, term: Term, hold: Duration) -> Result<()> {
        let mut data = self.for_front().await?;
        let until = self.server.clock.now().after(hold);
        FrontRow::check(data.fronts.get(&self.namespace.name), term)?;
        data.fronts.entry(self.namespace.name.clone()).and_modify(|row| row.until = until);
        Ok(())
    }

    async fn release_front(&self, term: Term) -> Result<()> {
        let mut data = self.for_front().await?;
        FrontRow::check(data.fronts.get(&self.namespace.name), term)?;
        data.fronts.entry(self.namespace.name.clone()).and_modify(|row| *row = row.released());
        Ok(())
    }
}

impl FakeTier {
    async fn for_front(&self) -> Result<parking_lot::MutexGuard<'_, Data>> {
        self.process.trip(&self.server).await?;
        self.server.counters.trip();
        Ok(self.server.data.lock())
    }

    /// Refuses a write that goes past the front, or that an earlier front sends.
    pub(super) fn permit(&self, data: &mut Data, op: &Op) -> Result<()> {
        let row = data.fronts.get_mut(&self.namespace.name);
        match (op.term(), self.namespace.role) {
            (Some(_), Role::Cache) => {
                Err(Error::new(ErrorKind::Unsupported, "a cache takes no write behind"))
            }
            (Some(term), Role::Store) if enabled(Defence::Terms) => FrontRow::check(row.as_deref(), term),
            (None, Role::Store) if op.is_direct_write() && enabled(Defence::DirectWrites) => match row {
                Some(row) if row.is_held(self.server.clock.now()) => Err(direct_write_refused()),
                Some(row) if row.id != 0 => {
                    *row = row.released();
                    Ok(())
                }
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }
}
