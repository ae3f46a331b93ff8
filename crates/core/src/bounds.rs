//! The bounds of key and value types, under one name each.

use std::hash::Hash;

/// The key type of a cache. Every type with these properties is one.
///
/// Remote tiers also ask for serde's traits, where [`Builder::tier`](crate::Builder::tier) and
/// [`Builder::store`](crate::Builder::store) say so.
pub trait Key: Clone + Eq + Hash + Send + Sync + 'static {}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Key for K {}

/// The value type of a cache. Every type with these properties is one.
pub trait Value: Send + Sync + 'static {}

impl<V: Send + Sync + 'static> Value for V {}
