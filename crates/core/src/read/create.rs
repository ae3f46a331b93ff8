//! A load creates absent records in the store. The first creator to commit wins, and all callers get its
//! record.

use std::sync::Arc;

use terrace_tier::{
    Deadlines, Op, Reply, Stored, Version,
    defence::{Defence, enabled},
    unexpected,
};

use super::{
    PendingLoad,
    accept::{LoadedEntry, LoadedItem},
    fill::TierCopy,
};
use crate::{
    Error, ErrorKind, Event, Key, Result, Source, Value,
    behind::{Behind, FrontCondition, FrontOutcome, FrontWrite},
    cache::Inner,
    chain::{Chain, FULL_BUDGET, TierSlot},
    near::{Entry, Near},
};

impl<K: Key, V: Value, N: Near<K, V>> Inner<K, V, N> {
    /// Creates the absent records, in one round trip. The callers of a load whose creation fails get the
    /// error.
    pub(super) async fn create(
        &self,
        chain: &Arc<Chain>,
        loaded: Vec<LoadedItem<K, V>>,
    ) -> Vec<LoadedEntry<K, V>> {
        let Some(store) = &chain.store else { return Vec::new() };
        if let Some(behind) = &self.behind {
            return self.create_in_front(behind, chain, store, loaded).await;
        }
        let (mut sent, mut batch) = (Vec::with_capacity(loaded.len()), Vec::with_capacity(loaded.len()));
        for item in loaded {
            match self.creation(&item) {
                Ok(fill) => {
                    batch.push((item.load.miss.key.clone(), fill));
                    sent.push(item);
                }
                Err(error) => self.fail_load(item.load, error),
            }
        }
        let replies = store.call_many(FULL_BUDGET, batch).await;
        let ended = sent.into_iter().zip(replies);
        ended.filter_map(|(item, reply)| self.created(chain, store, item, reply)).collect()
    }

    /// The front creates the records, where nothing has been written since the lookup. The store and the copies
    /// follow.
    async fn create_in_front(
        &self,
        behind: &Arc<Behind>,
        chain: &Arc<Chain>,
        store: &TierSlot,
        loaded: Vec<LoadedItem<K, V>>,
    ) -> Vec<LoadedEntry<K, V>> {
        let (mut sent, mut writes) = (Vec::with_capacity(loaded.len()), Vec::with_capacity(loaded.len()));
        for item in loaded {
            match self.creation(&item) {
                Ok(Op::Fill { fence, deadlines, body, .. }) => {
                    let (key, copies) = (item.load.miss.key.clone(), Some(item.deadlines));
                    let condition = FrontCondition::SeenAbsent(fence.version);
                    writes.push(FrontWrite { key, body, deadlines, copies, condition });
                    sent.push(item);
                }
                Ok(_) => {}
                Err(error) => self.fail_load(item.load, error),
            }
        }
        let outcomes = behind.write(chain, writes).await;
        let ended = sent.into_iter().zip(outcomes).filter_map(|(item, outcome)| {
            let reply = match outcome {
                Ok(FrontOutcome::Kept { version, .. }) => Ok(Reply::Kept(version)),
                Ok(FrontOutcome::Refused(winner)) => Ok(Reply::Refused(winner)),
                // Another process has the front: its callers get the loaded value, which no tier keeps.
                Err(error) if error.kind() == ErrorKind::NamespaceInUse => Ok(Reply::Refused(None)),
                Err(error) => Err(error),
            };
            self.created(chain, store, item, reply)
        });
        // No tier gets a copy before the store has the record.
        ended.map(|entry| LoadedEntry { copy: None, ..entry }).collect()
    }

    fn creation(&self, loaded: &LoadedItem<K, V>) -> Result<Op> {
        let not_asked = || Error::new(ErrorKind::Unavailable, "the store gave no answer before the load");
        let fence = loaded.load.miss.store.ok_or_else(not_asked)?;
        let now = self.clock.now();
        let deadlines = loaded.item.ttl.map_or(Deadlines::forever(now), |ttl| Deadlines::ttl(now, ttl));
        Ok(Op::Fill { fence, version: Version::NONE, deadlines, body: Some(loaded.sealed.clone()?) })
    }

    fn created(
        &self,
        chain: &Chain,
        store: &TierSlot,
        loaded: LoadedItem<K, V>,
        reply: Result<Reply>,
    ) -> Option<LoadedEntry<K, V>> {
        let tier = store.shared.name;
        let LoadedItem { load, item, deadlines, sealed, proven_at } = loaded;
        let ended = |load, entry, source, copy| {
            Some(LoadedEntry { load, entry, source, copy, keep_at_once: true, proven_at })
        };
        let error = match if enabled(Defence::Winner) { reply } else { as_if_kept(reply) } {
            Ok(Reply::Kept(version)) => {
                store.shared.tell(&Event::Filled { tier });
                let entry = Entry::new(item.value, version, self.near_deadlines(deadlines, None));
                let stored = Stored::new(version, deadlines, sealed.ok());
                let copy = copy_of_created(chain, &load, stored);
                return ended(load, Arc::new(entry.with_proof(proven_at)), Source::Loader, Some(copy));
            }
            Ok(Reply::Refused(Some(winner))) => {
                store.shared.tell(&Event::FillRefused { tier });
                let winner = self.copy_of(winner);
                match self.record(store, &load.miss.key, &winner, proven_at) {
                    Ok((entry, source)) => {
                        let copy = copy_of_created(chain, &load, winner);
                        return ended(load, entry, source, Some(copy));
                    }
                    Err(error) => error,
                }
            }
            Ok(Reply::Refused(None)) => {
                // Another caller has removed the record since the lookup. The callers get the loaded
                // value, which no tier keeps.
                store.shared.tell(&Event::FillRefused { tier });
                let deadlines = if enabled(Defence::Uncached) { self.no_life() } else { deadlines };
                let entry = Entry::new(item.value, Version::NONE, deadlines).with_proof(proven_at);
                return ended(load, Arc::new(entry), Source::Loader, None);
            }
            Ok(reply) => unexpected(&reply),
            Err(error) => {
                if error.kind() == ErrorKind::Unknown {
                    // The store may have created the record, so no tier's negative entry may hide it.
                    chain.tiers.iter().for_each(|slot| slot.owe(&load.miss.key));
                }
                error
            }
        };
        self.fail_load(load, error);
        None
    }
}

/// The behaviour without the defence `Winner`: the load counts as the creator, even if another process
/// created the record.
fn as_if_kept(reply: Result<Reply>) -> Result<Reply> {
    match reply {
        Ok(Reply::Refused(Some(winner))) => Ok(Reply::Kept(winner.version)),
        reply => reply,
    }
}

/// The copy of a record that this process or another has just created. A tier that gave no fence may
/// still hold a negative entry, so it gets a debt for the key.
fn copy_of_created<K: Key, V>(chain: &Chain, load: &PendingLoad<K, V>, stored: Stored) -> TierCopy {
    let (key, fences) = (load.miss.key.clone(), load.miss.fences.clone());
    fences.owe_others(chain, &key);
    TierCopy { key, fences, renews: true, shares: false, lease: None, stored, unfenced: None }
}
