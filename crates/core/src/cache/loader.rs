//! The loaders of callers are converted here to the form that the read route runs.

use std::sync::Arc;

use futures_util::{FutureExt, future::BoxFuture};

use super::many::MissingKeys;
use crate::{BoxError, Cached, Error, ErrorKind, Item, Result};

/// What a loader may use while it loads.
#[non_exhaustive]
pub struct LoadContext<V> {
    /// The stale value that the load is to replace, if one is known.
    pub stale: Option<Cached<V>>,
}

/// A loader that is bound to the cache.
pub(crate) type BoundLoader<K, V> = Arc<dyn Fn(K) -> BoxFuture<'static, Result<Item<V>>> + Send + Sync>;

/// A running loader. The future of a loader gives an item or an error for each key of the request, in
/// order. An item `None` stands for an absence.
pub(crate) type Load<V> = BoxFuture<'static, Vec<Result<Option<Item<V>>>>>;

/// The keys that a loader must give values for.
pub(crate) struct LoadRequest<'r, K, V> {
    /// Each key, and its index in the caller's batch.
    pub(crate) keys: &'r mut (dyn Iterator<Item = (usize, K)> + Send),
    /// The stale value of the first key, if one is known.
    pub(crate) stale: Option<Cached<V>>,
}

/// Starts the caller's loader. The caller's loader runs at most once, and on a miss only.
pub(crate) type LoaderStart<'a, K, V> = Box<dyn FnOnce(LoadRequest<'_, K, V>) -> Load<V> + Send + 'a>;

/// Adapts a loader of one key. The loader's item and error types are converted.
pub(super) fn load_one<'a, K, V, L, F, T, E>(load: L) -> LoaderStart<'a, K, V>
where
    V: Send + 'static,
    L: FnOnce(LoadContext<V>) -> F + Send + 'a,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Into<Item<V>>,
    E: Into<BoxError>,
{
    Box::new(|request| {
        let load = load(LoadContext { stale: request.stale });
        load.map(|result| vec![result.map(|item| Some(item.into())).map_err(Error::load)]).boxed()
    })
}

/// The error where a loader of another caller said that the key has no value, and this caller's method has no
/// way to say so.
pub(super) fn no_value_error() -> Error {
    Error::new(
        ErrorKind::Load,
        "a loader of this cache said that the key has no value; use get_or_load_with for such keys",
    )
}

/// Adapts a grouped loader, which gives pairs of a key and an item. A key that the loader leaves out is
/// absent.
pub(super) fn load_group<'a, K, V, L, F, I, T, E>(load: L) -> LoaderStart<'a, K, V>
where
    K: crate::Key,
    V: Send + 'static,
    L: FnOnce(MissingKeys<K>) -> F + Send + 'a,
    F: Future<Output = Result<I, E>> + Send + 'static,
    I: IntoIterator<Item = (K, T)>,
    T: Into<Item<V>>,
    E: Into<BoxError>,
{
    Box::new(|request| {
        let (indices, keys): (Vec<usize>, Vec<K>) = request.keys.unzip();
        let requested = keys.clone();
        let in_order = move |pairs: Result<I, E>| match pairs {
            Ok(pairs) => {
                let items = pairs.into_iter().map(|(key, item)| (key, item.into()));
                let mut items: std::collections::HashMap<K, Item<V>> = items.collect();
                requested.iter().map(|key| Ok(items.remove(key))).collect()
            }
            Err(error) => {
                let error = Error::load(error);
                requested.iter().map(|_| Err(error.clone())).collect()
            }
        };
        load(MissingKeys { keys, indices }).map(in_order).boxed()
    })
}
