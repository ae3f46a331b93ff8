//! `Many` holds the answers of a batch, and `MissingKeys` the keys that a grouped load must give values
//! for.

use crate::{Cached, Result};

/// The answers of a batch, one for each key, in the order of the keys in the call.
#[derive(Debug)]
pub struct Many<V>(pub(crate) Vec<Result<Option<Cached<V>>>>);

impl<V> Many<V> {
    /// The answers, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = &Result<Option<Cached<V>>>> {
        self.0.iter()
    }

    /// The number of keys in the call.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the call had no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values in the order of the keys, or the first error.
    ///
    /// # Errors
    /// The call fails with the error of the first key that failed.
    pub fn into_values(self) -> Result<Vec<Option<Cached<V>>>> {
        self.0.into_iter().collect()
    }
}

impl<V> IntoIterator for Many<V> {
    type Item = Result<Option<Cached<V>>>;
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// The keys that a grouped load must give values for.
#[derive(Clone, Debug)]
pub struct MissingKeys<K> {
    pub(super) keys: Vec<K>,
    pub(super) indices: Vec<usize>,
}

impl<K> MissingKeys<K> {
    /// The missing keys.
    pub fn keys(&self) -> &[K] {
        &self.keys
    }

    /// The index of each missing key in the keys of the caller.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// Pairs the missing keys with `values`, which are in the order of the keys. A grouped loader
    /// returns such pairs.
    pub fn zip<V>(self, values: impl IntoIterator<Item = V>) -> Vec<(K, V)> {
        self.keys.into_iter().zip(values).collect()
    }
}
