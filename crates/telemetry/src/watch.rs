//! `Telemetry` knows the caches of a process.

use std::sync::Arc;

use parking_lot::Mutex;
use terrace_core::{Cache, Key, Stats, StatsSource, Value, near::Near};

/// The caches that a process watches. It is a handle: every clone watches the same caches.
///
/// A watched cache is not kept alive. After its end it is not reported any more.
///
/// ```
/// use terrace_core::Cache;
/// use terrace_telemetry::Telemetry;
/// # use terrace_tier_memory::Memory;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> terrace_core::Result<()> {
/// let telemetry = Telemetry::new();
/// let users: Cache<u64, String, Memory<u64, String>> =
///     Cache::builder("users").near(Memory::entries(10)).build()?;
/// telemetry.watch(&users);
/// users.get(&1).await?;
/// let line = "terrace_reads_total{cache=\"users\",tier=\"near\",outcome=\"miss\"} 1";
/// assert!(telemetry.prometheus().contains(line));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Telemetry(Arc<Mutex<Vec<Watched>>>);

#[derive(Debug)]
struct Watched {
    /// The value of the label `cache`, which no other watched cache has.
    name: Arc<str>,
    source: StatsSource,
}

impl Telemetry {
    /// Watches no cache yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Watches a cache under the name of its namespace. A second cache of the same namespace in one process is
    /// watched under that name with a number, as in `users-2`, since two caches cannot share a time series. All
    /// tenants of a cache count together.
    pub fn watch<K: Key, V: Value, N: Near<K, V>>(&self, cache: &Cache<K, V, N>) {
        let source = cache.stats_source();
        let mut watched = self.0.lock();
        watched.retain(|watched| watched.source.read().is_some());
        let is_taken = |name: &str| watched.iter().any(|watched| &*watched.name == name);
        let mut name = source.namespace().to_owned();
        for number in 2.. {
            if !is_taken(&name) {
                break;
            }
            name = format!("{}-{number}", source.namespace());
        }
        watched.push(Watched { name: name.into(), source });
    }

    /// The name and the counters of each watched cache, in the order in which they were watched.
    ///
    /// # Cost
    /// The cost is that of [`Cache::stats`] for each cache.
    pub fn read(&self) -> Vec<(Arc<str>, Stats)> {
        let watched = self.0.lock();
        let read = |watched: &Watched| Some((Arc::clone(&watched.name), watched.source.read()?));
        watched.iter().filter_map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use terrace_core::NoNear;

    fn cache(namespace: &str) -> Cache<u64, u64, NoNear> {
        Cache::builder(namespace).build().unwrap()
    }

    fn names(telemetry: &Telemetry) -> Vec<String> {
        telemetry.read().into_iter().map(|(name, _)| name.to_string()).collect()
    }

    #[test]
    fn caches_of_one_namespace_have_different_names_and_a_dropped_cache_gives_its_name_back() {
        let telemetry = Telemetry::new();
        let [first, second, other] = ["users", "users", "pages"].map(cache);
        [&first, &second, &other].into_iter().for_each(|cache| telemetry.watch(cache));
        assert_eq!(names(&telemetry), ["users", "users-2", "pages"]);
        drop(first);
        assert_eq!(names(&telemetry), ["users-2", "pages"]);
        let third = cache("users");
        telemetry.watch(&third);
        assert_eq!(names(&telemetry), ["users-2", "pages", "users"]);
    }
}
