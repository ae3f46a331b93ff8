//! What batches give and ask for.

use crate::{Cached, Result};

/// The answers of a batch, one a key, in the order of the keys asked for.
#[derive(Debug)]
pub struct Many<V>(pub(crate) Vec<Result<Option<Cached<V>>>>);

impl<V> Many<V> {
    /// The answers in order.
    pub fn iter(&self) -> impl Iterator<Item = &Result<Option<Cached<V>>>> {
        self.0.iter()
    }

    /// The number of keys asked for.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether no key was asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The values in order, or the first error.
    ///
    /// # Errors
    /// The first key's that failed.
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

/// The keys that a grouped load is to give values for.
#[derive(Clone, Debug)]
pub struct MissingKeys<K> {
    pub(super) keys: Vec<K>,
    pub(super) indices: Vec<usize>,
}

impl<K> MissingKeys<K> {
    /// The keys.
    pub fn keys(&self) -> &[K] {
        &self.keys
    }

    /// Where each of them stood in the keys that the caller asked for.
    pub fn indices(&self) -> &[usize] {
        &self.indices
    }

    /// The keys with values that came in their order, as pairs to answer with.
    pub fn zip<V>(self, values: impl IntoIterator<Item = V>) -> Vec<(K, V)> {
        self.keys.into_iter().zip(values).collect()
    }
}
