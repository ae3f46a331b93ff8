//! The errors that callers get name the cache and the method that the caller called.

use super::Cache;
use crate::{Error, Key, Many, Result, Value, near::Near};

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// The error as the caller of `method` gets it. A tier has named its own step, such as a lease, which
    /// only observers and logs show.
    #[cold]
    pub(super) fn name_error(&self, error: Error, method: &'static str) -> Error {
        error.in_cache(self.namespace()).during(method)
    }

    pub(crate) fn named<T>(&self, method: &'static str, result: Result<T>) -> Result<T> {
        result.map_err(|error| self.name_error(error, method))
    }

    pub(super) fn named_many(&self, method: &'static str, answers: Many<V>) -> Many<V> {
        Many(answers.0.into_iter().map(|answer| self.named(method, answer)).collect())
    }
}
