//! The plain map with which the caches are compared.

use std::{collections::BTreeMap, time::Duration};

use super::{
    shape::Shape,
    step::{Act, Step},
};

/// The default lifetime of a copy in a cache without a store.
const DEFAULT_TTL: Duration = Duration::from_secs(300);

/// The value of each key, and when it expires.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) shape: Shape,
    now: Duration,
    values: BTreeMap<u8, (u64, Duration)>,
}

impl Model {
    pub(super) fn new(shape: Shape) -> Self {
        Self { shape, now: Duration::ZERO, values: BTreeMap::new() }
    }

    pub(super) fn value(&self, key: u8) -> Option<u64> {
        self.values.get(&key).filter(|(_, end)| self.now < *end).map(|(value, _)| *value)
    }

    /// The map after a step.
    pub(super) fn after(mut self, step: &Step) -> Self {
        let store = self.shape.store;
        match &step.act {
            Act::GetOrLoad(key, value) | Act::PutIfAbsent(key, value) => self.create(*key, *value),
            Act::LoadMany(keys, value) => keys.iter().for_each(|key| self.create(*key, *value)),
            // With a store, a refresh returns the record if there is one, otherwise the loaded value.
            Act::Refresh(key, value) if store => self.create(*key, *value),
            Act::Refresh(key, value) => self.set(*key, *value, None),
            Act::Put(key, value, ttl) => {
                self.set(*key, *value, ttl.map(|millis| self.shape.lifetime(millis)))
            }
            Act::PutMany(keys, value) => keys.iter().for_each(|key| self.set(*key, *value, None)),
            Act::Replace(key, value) if self.value(*key).is_some() => self.set(*key, *value, None),
            Act::Remove(key) => _ = self.values.remove(key),
            Act::RemoveMany(keys) => keys.iter().for_each(|key| _ = self.values.remove(key)),
            Act::Invalidate(key) if !store => _ = self.values.remove(key),
            Act::Clear => self.clear(),
            Act::Expire(key, millis) => {
                if let Some(value) = self.value(*key) {
                    self.set(*key, value, Some(self.shape.lifetime(*millis)));
                }
            }
            Act::Advance(millis) => self.now += Duration::from_millis((*millis).into()),
            _ => {}
        }
        self
    }

    /// The step waits until all processes have heard of the clear.
    fn clear(&mut self) {
        if !self.shape.store {
            self.values.clear();
        }
        if self.shape.timed {
            self.now += self.shape.clear_lag;
        }
    }

    fn create(&mut self, key: u8, value: u64) {
        if self.value(key).is_none() {
            self.set(key, value, None);
        }
    }

    fn set(&mut self, key: u8, value: u64, ttl: Option<Duration>) {
        let default = if self.shape.store { Duration::MAX } else { DEFAULT_TTL };
        self.values.insert(key, (value, self.now.saturating_add(ttl.unwrap_or(default))));
    }
}
