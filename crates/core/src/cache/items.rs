//! Writes of many values, and of items, which are values with a life of their own.

use terrace_tier::Condition;

use super::Cache;
use crate::{BorrowedKey, Item, Key, Result, Value, Version, near::Near, write::PutOutcome};

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// Writes many values, and gives one result for each item, in order. If a key is given twice, its
    /// last value is written.
    ///
    /// # Errors
    /// Each item has its own error, as in [`put`](Cache::put).
    ///
    /// # Cost
    /// The call makes one round trip to each tier, and one more to a tier that takes only some of the
    /// values.
    pub async fn put_many(&self, values: impl IntoIterator<Item = (K, V)>) -> Vec<Result<Version>> {
        let items = values.into_iter().map(|(key, value)| (key, value.into())).collect();
        self.put_batch("put_many", items).await
    }

    /// Writes a value with a life of its own. The method is like [`put`](Cache::put), but for an [`Item`].
    ///
    /// # Errors
    /// The errors are those of [`put`](Cache::put). An item without a value leaves a negative entry, and is
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) in a cache with a store.
    ///
    /// # Cost
    /// The costs are those of [`put`](Cache::put).
    ///
    /// ```
    /// # use terrace_core::{Cache, Item, NoNear};
    /// # async fn example(tokens: &Cache<u64, String, NoNear>) -> terrace_core::Result<()> {
    /// let item = Item::new("a token".to_owned()).ttl(std::time::Duration::from_secs(90));
    /// tokens.put_item(&1, item).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn put_item<Q: BorrowedKey<K> + ?Sized>(&self, key: &Q, item: Item<V>) -> Result<Version> {
        let outcome = self.put_one(key.to_key(), item, Condition::Always).await;
        self.named("put_item", outcome.and_then(PutOutcome::version))
    }

    /// Writes a value with a life of its own if the key has no value. The result says whether the value was
    /// written.
    ///
    /// # Errors
    /// The errors are those of [`put_if_absent`](Cache::put_if_absent) and [`put_item`](Cache::put_item).
    ///
    /// # Cost
    /// The costs are those of [`put`](Cache::put).
    pub async fn put_item_if_absent<Q: BorrowedKey<K> + ?Sized>(
        &self,
        key: &Q,
        item: Item<V>,
    ) -> Result<bool> {
        let outcome = self.put_one(key.to_key(), item, Condition::Absent).await;
        self.named("put_item_if_absent", outcome.map(|outcome| matches!(outcome, PutOutcome::Kept(_))))
    }

    /// Replaces a value, if it still has the version that the caller saw, by one with a life of its own. The
    /// result says whether the value was written.
    ///
    /// # Errors
    /// The errors are those of [`replace`](Cache::replace) and [`put_item`](Cache::put_item).
    ///
    /// # Cost
    /// The costs are those of [`put`](Cache::put).
    pub async fn replace_item<Q: BorrowedKey<K> + ?Sized>(
        &self,
        key: &Q,
        seen: Version,
        item: Item<V>,
    ) -> Result<bool> {
        let outcome = self.put_one(key.to_key(), item, Condition::Version(seen)).await;
        self.named("replace_item", outcome.map(|outcome| matches!(outcome, PutOutcome::Kept(_))))
    }

    /// Writes many values, each with a life of its own, and gives one result for each item, in order.
    ///
    /// # Errors
    /// Each item has its own error, as in [`put_item`](Cache::put_item).
    ///
    /// # Cost
    /// The costs are those of [`put_many`](Cache::put_many).
    pub async fn put_items(&self, items: impl IntoIterator<Item = (K, Item<V>)>) -> Vec<Result<Version>> {
        self.put_batch("put_items", items.into_iter().collect()).await
    }

    async fn put_batch(&self, method: &'static str, items: Vec<(K, Item<V>)>) -> Vec<Result<Version>> {
        let outcomes = self.put_all(items, Condition::Always).await;
        let version = |outcome: Result<_>| self.named(method, outcome.and_then(PutOutcome::version));
        outcomes.into_iter().map(version).collect()
    }
}
