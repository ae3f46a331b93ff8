//! Records that a load creates: the first to commit wins, and everyone gets the winner.

use std::{hash::Hash, sync::Arc};

use super::{
    fill::Copy,
    inner::Inner,
    load::{Draft, Kept, LoadSeat},
    looked::LookupOutcome,
};
use crate::{
    Deadlines, Entry, Error, ErrorKind, Event, Near, Op, Reply, Result, Source, Stored, TierKey, Version,
    chain::{Chain, TierSlot},
    defence::{Defence, enabled},
};

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Creates the records that were absent, in one trip. Callers of those that fail have their error.
    pub(super) async fn create(&self, chain: &Chain, drafts: Vec<Draft<K, V>>) -> Vec<Kept<K, V>> {
        let Some(store) = &chain.store else { return Vec::new() };
        let (mut sent, mut batch) = (Vec::with_capacity(drafts.len()), Vec::with_capacity(drafts.len()));
        for draft in drafts {
            match self.creation(&draft) {
                Ok(fill) => {
                    batch.push((draft.key.clone(), fill));
                    sent.push(draft);
                }
                Err(error) => self.fail(draft.seat, error),
            }
        }
        let replies = store.call_many(batch).await;
        let ended = sent.into_iter().zip(replies);
        ended.filter_map(|(draft, reply)| self.created(chain, store, draft, reply)).collect()
    }

    fn creation(&self, draft: &Draft<K, V>) -> Result<Op> {
        let not_asked = || Error::new(ErrorKind::Unavailable, "the store was not asked before the load");
        let fence = draft.seat.missed.store.ok_or_else(not_asked)?;
        let now = self.clock.now();
        let deadlines = draft.item.ttl.map_or(Deadlines::forever(now), |ttl| Deadlines::ttl(now, ttl));
        Ok(Op::Fill { fence, version: Version::NONE, deadlines, body: Some(draft.sealed.clone()?) })
    }

    fn created(
        &self,
        chain: &Chain,
        store: &TierSlot,
        draft: Draft<K, V>,
        reply: Result<Reply>,
    ) -> Option<Kept<K, V>> {
        let Draft { seat, key, item, deadlines, sealed, proven_at } = draft;
        let kept = |seat, entry, source, copy| Kept { seat, entry, source, copy, sure: true, proven_at };
        let error = match if enabled(Defence::Winner) { reply } else { as_if_kept(reply) } {
            Ok(Reply::Kept(version)) => {
                store.line.tell(&Event::Filled { tier: store.line.name });
                let entry = Entry::new(item.value, version, self.near_deadlines(deadlines, None))
                    .with_proof(proven_at);
                let copy = copy_of_new(chain, &seat, key, Stored::new(version, deadlines, sealed.ok()));
                return Some(kept(seat, Arc::new(entry), Source::Loader, Some(copy)));
            }
            Ok(Reply::Refused(Some(winner))) => {
                store.line.tell(&Event::FillRefused { tier: store.line.name });
                let winner = self.copy_of(winner);
                match self.record(store, &key, &winner, proven_at) {
                    LookupOutcome::Found(entry, source) => {
                        let copy = copy_of_new(chain, &seat, key, winner);
                        return Some(kept(seat, entry, source, Some(copy)));
                    }
                    LookupOutcome::Failed(error, _) => error,
                    LookupOutcome::Missed(_) => Error::new(ErrorKind::Backend, "no winner"),
                }
            }
            Ok(Reply::Refused(None)) => {
                store.line.tell(&Event::FillRefused { tier: store.line.name });
                let deadlines = if enabled(Defence::Uncached) { self.no_life() } else { deadlines };
                let entry = Entry::new(item.value, Version::NONE, deadlines).with_proof(proven_at);
                return Some(kept(seat, Arc::new(entry), Source::Loader, None));
            }
            Ok(reply) => terrace_tier::unexpected(&reply),
            Err(error) => {
                if error.kind() == ErrorKind::Unknown {
                    // It may be there: no absence that a tier has may hide it.
                    chain.tiers.iter().for_each(|place| place.owe(&key));
                }
                error
            }
        };
        self.fail(seat, error);
        None
    }
}

/// A switch: whoever created it, this load did.
fn as_if_kept(reply: Result<Reply>) -> Result<Reply> {
    match reply {
        Ok(Reply::Refused(Some(winner))) => Ok(Reply::Kept(winner.version)),
        reply => reply,
    }
}

/// The copy of a record that was just created, here or elsewhere. A tier may still say that there is
/// none: where it cannot be filled, it owes the key.
fn copy_of_new<K: Eq + Hash, V>(chain: &Chain, seat: &LoadSeat<K, V>, key: TierKey, stored: Stored) -> Copy {
    let fences = seat.missed.fences.clone();
    fences.owe_others(chain, &key);
    Copy { key, fences, renews: true, held: None, stored, open: None }
}
