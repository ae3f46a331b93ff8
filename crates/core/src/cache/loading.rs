//! Callers' loaders, as the routes run them.

use futures_util::{FutureExt, future::BoxFuture};

use crate::{BoxError, Cached, Error, Item, Result};

/// What a loader may look at while it loads.
#[non_exhaustive]
pub struct LoadContext<V> {
    /// The value that is to be renewed, where a stale one is still known.
    pub stale: Option<Cached<V>>,
}

/// Starts the caller's loader; called at most once, on a miss only.
pub(crate) type Start<'a, V> =
    Box<dyn FnOnce(LoadContext<V>) -> BoxFuture<'static, Result<Item<V>>> + Send + 'a>;

/// A caller's loader, whatever it gives and however it fails.
pub(super) fn start_of<'a, V, L, F, T, E>(load: L) -> Start<'a, V>
where
    L: FnOnce(LoadContext<V>) -> F + Send + 'a,
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Into<Item<V>>,
    E: Into<BoxError>,
{
    Box::new(|loading| load(loading).map(|result| result.map(Into::into).map_err(Error::load)).boxed())
}

/// What a loader will give: for each key of its job, in order, an item or an error; `None` is an
/// absence.
pub(crate) type Load<V> = BoxFuture<'static, Vec<Result<Option<Item<V>>>>>;

/// The load of one key.
pub(crate) fn alone<V: Send + 'static>(load: BoxFuture<'static, Result<Item<V>>>) -> Load<V> {
    load.map(|item| vec![item.map(Some)]).boxed()
}
