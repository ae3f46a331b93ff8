//! What must be true: the plain map that caches are compared with.

use std::{collections::BTreeMap, time::Duration};

use super::{
    shape::Shape,
    step::{Act, Step},
};

/// How long a copy lives without a store, unless it is told: the default of a cache.
const LIFE: Duration = Duration::from_secs(300);

/// The values of the keys, and when they end.
#[derive(Clone, Debug)]
pub(super) struct Truth {
    pub(super) shape: Shape,
    now: Duration,
    values: BTreeMap<u8, (u64, Duration)>,
}

impl Truth {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, now: Duration::ZERO, values: BTreeMap::new() }
    }

    pub(super) fn value(&self, key: u8) -> Option<u64> {
        self.values.get(&key).filter(|(_, end)| self.now < *end).map(|(value, _)| *value)
    }

    /// What must be true after a step.
    pub(super) fn after(mut self, step: &Step) -> Self {
        let store = self.shape.store;
        match &step.act {
            Act::GetOrLoad(key, value) | Act::PutIfAbsent(key, value) => self.create(*key, *value),
            Act::LoadMany(keys, value) => keys.iter().for_each(|key| self.create(*key, *value)),
            // A record is what the store has; a copy is what the loader gave.
            Act::Refresh(key, value) if store => self.create(*key, *value),
            Act::Refresh(key, value) => self.set(*key, *value, None),
            Act::Put(key, value, life) => self.set(*key, *value, life.map(|millis| self.shape.life(millis))),
            Act::PutMany(keys, value) => keys.iter().for_each(|key| self.set(*key, *value, None)),
            Act::Replace(key, value) if self.value(*key).is_some() => self.set(*key, *value, None),
            Act::Remove(key) => _ = self.values.remove(key),
            Act::RemoveMany(keys) => keys.iter().for_each(|key| _ = self.values.remove(key)),
            Act::Invalidate(key) if !store => _ = self.values.remove(key),
            Act::Clear if !store => self.values.clear(),
            Act::Expire(key, millis) => {
                if let Some(value) = self.value(*key) {
                    self.set(*key, value, Some(self.shape.life(*millis)));
                }
            }
            Act::Advance(millis) => self.now += Duration::from_millis((*millis).into()),
            _ => {}
        }
        self
    }

    fn create(&mut self, key: u8, value: u64) {
        if self.value(key).is_none() {
            self.set(key, value, None);
        }
    }

    fn set(&mut self, key: u8, value: u64, life: Option<Duration>) {
        let default = if self.shape.store { Duration::MAX } else { LIFE };
        self.values.insert(key, (value, self.now.saturating_add(life.unwrap_or(default))));
    }
}
