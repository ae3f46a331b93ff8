//! The traits [`Key`] and [`Value`] name the bounds of key types and of value types.

use std::hash::Hash;

/// The key type of a cache. Every type with the bounds of this trait implements it.
///
/// Remote tiers also need serde's traits, as [`Builder::tier`](crate::Builder::tier) and
/// [`Builder::store`](crate::Builder::store) state.
pub trait Key: Clone + Eq + Hash + Send + Sync + 'static {}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Key for K {}

/// The value type of a cache. Every type with the bounds of this trait implements it.
pub trait Value: Send + Sync + 'static {}

impl<V: Send + Sync + 'static> Value for V {}
