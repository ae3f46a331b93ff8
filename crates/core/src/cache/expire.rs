//! Another life for a value that is already there.

use std::{hash::Hash, sync::Arc};

use super::{ending::Ending, inner::Inner};
use crate::{
    Deadlines, Error, ErrorKind, Near, Op, Reply, Result, Role,
    chain::Chain,
    near::{Probe, Scoped},
};

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Where the near tier is all there is.
    pub(crate) fn expire_local(&self, key: &Scoped<K>, deadlines: Deadlines) -> bool {
        self.flights.write_now(key, || {
            let held = self.near.get(&Probe { tenant: key.tenant, key: &key.key });
            let Some(entry) = held.filter(|entry| entry.value().is_some()) else { return false };
            if !entry.is_fresh(self.clock.now()) {
                return false;
            }
            entry.expire(self.near_deadlines(deadlines, None));
            true
        })
    }

    pub(crate) async fn expire_through(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        key: &Arc<Scoped<K>>,
        deadlines: Deadlines,
    ) -> Result<bool> {
        let tier_key = self.tier_key(chain, key)?;
        let _ending = Ending::begin(self, key);
        let mut existed = None;
        for place in chain.far_to_near() {
            let record = place.line.role == Role::Store;
            let op = match chain.store.is_some() && !record {
                // A copy's life is not the record's: the next read makes a new one.
                true => Op::Invalidate { version: None, mark_ttl: self.periods.mark },
                false => Op::Expire { deadlines: self.copy_deadlines(deadlines, place.line.ttl) },
            };
            match place.call(&tier_key, op).await {
                Ok(Reply::Done { existed: here, .. }) => {
                    existed.get_or_insert(here);
                }
                Ok(reply) => return Err(crate::tier::unexpected(&reply)),
                Err(error) if existed.is_none() => return Err(error),
                Err(error) => {
                    place.owe(&tier_key);
                    let message = "the authority took the new life, and a copy did not";
                    return Err(Error::new(ErrorKind::Partial, message).with_source(error));
                }
            }
        }
        Ok(existed.unwrap_or_default())
    }
}
