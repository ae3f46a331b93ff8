//! Reads are counted by class, a name that the application derives from the key.

use std::sync::Arc;

use crate::{Cached, Error, Result, Source, stats::ClassStats, stats::Counter};

/// The most classes of a cache: each one is two time series of a monitoring system.
const MAX_CLASSES: usize = 32;

/// What the builder gets: the names, and the function from a key to a name.
pub(crate) struct ClassNames<K> {
    names: Vec<String>,
    name_of: Arc<dyn for<'k> Fn(&'k K) -> &'k str + Send + Sync>,
}

/// The classes of a cache and their counters.
pub(crate) struct Classes<K> {
    names: ClassNames<K>,
    hits: Vec<Counter>,
    misses: Vec<Counter>,
}

/// The number of a class in the list of names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Class(u8);

impl<K> ClassNames<K> {
    pub(crate) fn new(
        names: impl IntoIterator<Item = impl Into<String>>,
        name_of: impl for<'k> Fn(&'k K) -> &'k str + Send + Sync + 'static,
    ) -> Self {
        Self { names: names.into_iter().map(Into::into).collect(), name_of: Arc::new(name_of) }
    }

    /// Checks the names, and makes a counter for each.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::Config`](crate::ErrorKind::Config) for no name, for more than 32
    /// names, and for a name that is given twice.
    pub(crate) fn counted(self) -> Result<Classes<K>> {
        let names = &self.names;
        if names.is_empty() || names.len() > MAX_CLASSES {
            return Err(Error::config("class_by takes 1 to 32 names"));
        }
        if let Some(twice) = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)) {
            return Err(Error::config(format!("class_by has the name `{}` twice", twice.1)));
        }
        let counters = || names.iter().map(|_| Counter::default()).collect();
        Ok(Classes { hits: counters(), misses: counters(), names: self })
    }
}

impl<K> Classes<K> {
    /// The class of a key. A name that is not in the list counts as the last one.
    pub(crate) fn of(&self, key: &K) -> Class {
        let (names, name) = (&self.names.names, (self.names.name_of)(key));
        let class = names.iter().position(|known| known == name).unwrap_or(names.len() - 1);
        Class(class as u8)
    }

    pub(crate) fn hit(&self, class: Class) {
        self.hits[usize::from(class.0)].add(1);
    }

    /// Counts the answer of a read that near did not answer.
    pub(crate) fn count<V>(&self, class: Class, answer: &Result<Option<Cached<V>>>) {
        let is_hit = matches!(answer, Ok(Some(value)) if value.served().from != Source::Loader);
        let counters = if is_hit { &self.hits } else { &self.misses };
        counters[usize::from(class.0)].add(1);
    }

    pub(crate) fn stats(&self) -> Vec<ClassStats> {
        let counters = self.names.names.iter().zip(&self.hits).zip(&self.misses);
        let stats = |((name, hits), misses): ((&String, &Counter), &Counter)| ClassStats {
            name: name.clone(),
            hits: hits.sum(),
            misses: misses.sum(),
        };
        counters.map(stats).collect()
    }
}

impl Class {
    pub(crate) const FIRST: Self = Self(0);

    pub(crate) fn number(self) -> u8 {
        self.0
    }

    pub(crate) fn from_number(number: u8) -> Self {
        Self(number)
    }
}
