//! The near tier keeps values as [`Entry`], readers get them as [`Cached`], and callers give them as
//! [`Item`].

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, Serializer};

use crate::{Deadlines, Timestamp, Version, cache::Class};

/// A value with its version and deadlines, as near tiers keep it behind one `Arc`.
///
/// The deadlines are milliseconds since the Unix epoch.
// The order of the fields is fixed. A hit has already fetched the cache line with the reference counts
// of the `Arc`, so the value stands as close to the counts as possible: only the value delays a reader.
// The comparisons of a hit do not delay a reader, since the processor predicts their results.
#[derive(Debug)]
#[repr(C)]
pub struct Entry<V> {
    /// The time of the latest near hit. A near hit writes its time to the cache line of the reference
    /// counts, which its CPU core owns.
    read_at: AtomicU64,
    value: Option<V>,
    written: Timestamp,
    /// The end of the fresh time, or of the proof if the proof ends sooner. A near hit compares no other
    /// deadline.
    valid_until: AtomicU64,
    version: Version,
    // The deadlines below are atomic only for `Cache::expire`, which changes the life of a shared entry
    // in place.
    fresh_until: AtomicU64,
    stale_until: AtomicU64,
    expires_at: AtomicU64,
    /// The latest time at which the entry is known to have been as new as the source of truth.
    proven_at: AtomicU64,
    /// Whether the log proves the entry while the entry is in the near tier.
    covered_by_log: AtomicBool,
    /// The class that near hits count in, where the cache counts by class.
    class: AtomicU8,
}

impl<V> Entry<V> {
    /// Makes an entry. The value `None` makes a negative entry.
    pub fn new(value: Option<V>, version: Version, deadlines: Deadlines) -> Self {
        Self {
            value,
            version,
            written: deadlines.written,
            valid_until: AtomicU64::new(deadlines.fresh_until.as_millis()),
            fresh_until: AtomicU64::new(deadlines.fresh_until.as_millis()),
            read_at: AtomicU64::new(deadlines.written.as_millis()),
            stale_until: AtomicU64::new(deadlines.stale_until.as_millis()),
            expires_at: AtomicU64::new(deadlines.expires_at.as_millis()),
            proven_at: AtomicU64::new(0),
            covered_by_log: AtomicBool::new(false),
            class: AtomicU8::new(Class::FIRST.number()),
        }
    }

    /// The value, which is `None` in a negative entry.
    pub fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }

    /// The version of the value.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The time at which the entry was written, and the ends of its life.
    pub fn deadlines(&self) -> Deadlines {
        let load = |millis: &AtomicU64| Timestamp::from_millis(millis.load(Ordering::Relaxed));
        Deadlines {
            written: self.written,
            fresh_until: load(&self.fresh_until),
            stale_until: load(&self.stale_until),
            expires_at: load(&self.expires_at),
        }
    }

    /// Gives the entry another life. The entry is valid until `valid_until` at most: a longer life
    /// proves nothing.
    pub(crate) fn set_deadlines(&self, deadlines: Deadlines, valid_until: Timestamp) {
        let valid_until = valid_until.min(deadlines.fresh_until);
        self.valid_until.store(valid_until.as_millis(), Ordering::Relaxed);
        self.fresh_until.store(deadlines.fresh_until.as_millis(), Ordering::Relaxed);
        self.stale_until.store(deadlines.stale_until.as_millis(), Ordering::Relaxed);
        self.expires_at.store(deadlines.expires_at.as_millis(), Ordering::Relaxed);
    }

    /// Sets the time at which the entry was as new as the source of truth.
    pub(crate) fn with_proof(self, proven_at: Timestamp) -> Self {
        Self { proven_at: AtomicU64::new(proven_at.as_millis()), ..self }
    }

    /// Sets when the entry was as new as the source of truth, and until when that proof lasts. The proof
    /// lasts for ever if the log covers the entry.
    pub(crate) fn set_proof(&self, proven_at: Timestamp, valid_until: Timestamp, covered_by_log: bool) {
        self.proven_at.store(proven_at.as_millis(), Ordering::Relaxed);
        self.covered_by_log.store(covered_by_log, Ordering::Relaxed);
        let valid_until = valid_until.as_millis().min(self.fresh_until.load(Ordering::Relaxed));
        self.valid_until.store(valid_until, Ordering::Relaxed);
    }

    pub(crate) fn set_class(&self, class: Class) {
        self.class.store(class.number(), Ordering::Relaxed);
    }

    pub(crate) fn class(&self) -> Class {
        Class::from_number(self.class.load(Ordering::Relaxed))
    }

    pub(crate) fn proven_at(&self) -> Timestamp {
        Timestamp::from_millis(self.proven_at.load(Ordering::Relaxed))
    }

    pub(crate) fn covered_by_log(&self) -> bool {
        self.covered_by_log.load(Ordering::Relaxed)
    }

    /// Whether the entry is fresh at `now` and its own proof, if the log does not cover it, still lasts.
    /// The check of an entry's validity is one comparison. If the clock has gone back behind the write,
    /// the entry counts as stale.
    #[inline]
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        self.is_before(now, &self.valid_until)
    }

    /// Whether the entry is fresh at `now`.
    #[inline]
    pub(crate) fn is_fresh(&self, now: Timestamp) -> bool {
        self.is_before(now, &self.fresh_until)
    }

    #[inline]
    fn is_before(&self, now: Timestamp, end: &AtomicU64) -> bool {
        let written = self.written.as_millis();
        let life = end.load(Ordering::Relaxed).saturating_sub(written);
        now.as_millis().wrapping_sub(written) < life
    }
}

/// Which part of a cache answered a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The near tier answered.
    Near,
    /// The remote cache tier with this name answered.
    Tier(&'static str),
    /// The store with this name answered.
    Store(&'static str),
    /// The loader gave the value.
    Loader,
}

/// How a read was served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// The part of the cache that answered the read.
    pub from: Source,
    /// The time from the write of the value to the read. For a near hit this time ends at the entry's
    /// latest near hit, which may be another reader's hit.
    pub age: Duration,
    /// Whether the value was past its fresh time, or not proven as its level demands, and was served
    /// because the freshness policy allows it.
    pub stale: bool,
    /// The version of the value, which [`Cache::replace`](crate::Cache::replace) takes.
    pub version: Version,
    /// Whether the read shared another caller's lookup or load.
    pub coalesced: bool,
}

/// A value that was read from a cache. A `Cached` handle dereferences to `V`, and never clones the
/// value.
///
/// # Cost
/// A clone of the handle adds to one reference count. A near hit allocates nothing; any other read
/// allocates once. A `Cached` handle takes two words, also inside an `Option` and a `Result`.
pub struct Cached<V>(Handle<V>);

enum Handle<V> {
    /// The handle of a near hit.
    Near(Arc<Entry<V>>),
    /// The handle of any other read.
    Far(Arc<FarRead<V>>),
}

/// A read that the near tier did not answer as a hit.
struct FarRead<V> {
    entry: Arc<Entry<V>>,
    read_at: Timestamp,
    from: Source,
    coalesced: bool,
    /// Whether the entry was served, past its life or not, because no tier gave a better answer.
    stale: bool,
}

impl<V> Cached<V> {
    /// Makes the handle of a near hit, or `None` for a negative entry.
    #[inline]
    pub(crate) fn near(entry: Arc<Entry<V>>, read_at: Timestamp) -> Option<Self> {
        // The reference count has just moved this cache line to the present CPU core, so the store is
        // cheap.
        entry.read_at.store(read_at.as_millis(), Ordering::Relaxed);
        entry.value.is_some().then_some(Self(Handle::Near(entry)))
    }

    /// Makes the handle of a read that is no near hit, or `None` for a negative entry.
    pub(crate) fn far(
        entry: Arc<Entry<V>>,
        read_at: Timestamp,
        from: Source,
        coalesced: bool,
    ) -> Option<Self> {
        Self::of(FarRead { entry, read_at, from, coalesced, stale: false })
    }

    /// Makes the handle of a read that a stale entry answers because no tier gave a better answer.
    pub(crate) fn stale(entry: Arc<Entry<V>>, read_at: Timestamp, from: Source) -> Option<Self> {
        Self::of(FarRead { entry, read_at, from, coalesced: false, stale: true })
    }

    fn of(read: FarRead<V>) -> Option<Self> {
        let has_value = read.entry.value.is_some();
        has_value.then(|| Self(Handle::Far(Arc::new(read))))
    }

    #[inline]
    fn entry(&self) -> &Entry<V> {
        match &self.0 {
            Handle::Near(entry) => entry,
            Handle::Far(read) => &read.entry,
        }
    }

    /// How this read was served: by which tier, with a value of which age, fresh or stale, coalesced or
    /// not.
    ///
    /// # Cost
    /// The method allocates nothing.
    pub fn served(&self) -> Served {
        let (entry, read_at, from, coalesced, stale) = match &self.0 {
            Handle::Near(entry) => {
                let read_at = Timestamp::from_millis(entry.read_at.load(Ordering::Relaxed));
                (entry, read_at, Source::Near, false, false)
            }
            Handle::Far(read) => (&read.entry, read.read_at, read.from, read.coalesced, read.stale),
        };
        Served {
            from,
            age: read_at.since(entry.written),
            stale: stale || !entry.is_fresh(read_at),
            version: entry.version,
            coalesced,
        }
    }
}

impl<V> Deref for Cached<V> {
    type Target = V;

    #[inline]
    fn deref(&self) -> &V {
        match &self.entry().value {
            Some(value) => value,
            None => unreachable!("a handle is only made of an entry with a value"),
        }
    }
}

impl<V> AsRef<V> for Cached<V> {
    fn as_ref(&self) -> &V {
        self
    }
}

impl<V> Clone for Cached<V> {
    fn clone(&self) -> Self {
        Self(match &self.0 {
            Handle::Near(entry) => Handle::Near(Arc::clone(entry)),
            Handle::Far(read) => Handle::Far(Arc::clone(read)),
        })
    }
}

impl<V: fmt::Debug> fmt::Debug for Cached<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<V: fmt::Display> fmt::Display for Cached<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}

impl<V: PartialEq> PartialEq for Cached<V> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<V: PartialEq> PartialEq<V> for Cached<V> {
    fn eq(&self, other: &V) -> bool {
        **self == *other
    }
}

impl<V: Serialize> Serialize for Cached<V> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

/// What a caller or a loader gives to a cache: a value or its absence, and optionally its life.
///
/// `V` and `Option<V>` convert to an `Item`, so most calls never name the type. In a cache with a store,
/// the life of an item is the life of the record.
///
/// ```
/// use std::time::Duration;
/// use terrace_core::Item;
///
/// let brief = Item::new("token").ttl(Duration::from_secs(5));
/// let absent: Item<u64> = None.into();
/// assert_eq!(absent, Item::absent());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item<V> {
    pub(crate) value: Option<V>,
    pub(crate) ttl: Option<Duration>,
}

impl<V> Item<V> {
    /// An item with a value.
    pub fn new(value: V) -> Self {
        Self { value: Some(value), ttl: None }
    }

    /// An item without a value. For an absent value the cache keeps a negative entry, if the expiry
    /// policy gives negative entries a life.
    pub fn absent() -> Self {
        Self { value: None, ttl: None }
    }

    /// Sets the life to `ttl`, in place of the life that the expiry policy gives by default.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self { ttl: Some(ttl), ..self }
    }
}

impl<V> From<V> for Item<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

impl<V> From<Option<V>> for Item<V> {
    fn from(value: Option<V>) -> Self {
        Self { value, ttl: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Result;

    #[test]
    fn a_handle_takes_two_words_whatever_is_around_it() {
        assert_eq!(size_of::<Result<Option<Cached<u64>>>>(), 2 * size_of::<usize>());
    }
}
