//! Values as caches keep them and as readers get them.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use serde::{Serialize, Serializer};

use crate::{Deadlines, Timestamp, Version};

/// A value with its version and deadlines, as near tiers keep it behind one `Arc`.
///
/// In this order, since a reader waits for the value, and for nothing else: it comes as near to the
/// `Arc`'s counts as can be, whose cache line a hit has fetched. What is compared is guessed meanwhile.
#[derive(Debug)]
#[repr(C)]
pub struct Entry<V> {
    /// The latest near hit. Written by it, on the line that the counts have made its own.
    read_at: AtomicU64,
    value: Option<V>,
    written: Timestamp,
    /// The end of the fresh time, or of what proves the entry where that is sooner: all that a near
    /// hit compares.
    valid_until: AtomicU64,
    version: Version,
    // Atomic for `Cache::expire` alone: the value is shared, so its life is changed in place.
    fresh_until: AtomicU64,
    stale_until: AtomicU64,
    expires_at: AtomicU64,
    /// When it was as new as the truth, as far as the cache must know.
    proven_at: AtomicU64,
    /// Whether, in the near tier, it rests on what the log tells.
    covered_by_log: AtomicBool,
}

impl<V> Entry<V> {
    /// An entry; `None` makes a negative one.
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
        }
    }

    /// The value; `None` in a negative entry.
    pub fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }

    /// The version of the value.
    pub fn version(&self) -> Version {
        self.version
    }

    /// When it was written and how long it lives.
    pub fn deadlines(&self) -> Deadlines {
        let load = |millis: &AtomicU64| Timestamp::from_millis(millis.load(Ordering::Relaxed));
        Deadlines {
            written: self.written,
            fresh_until: load(&self.fresh_until),
            stale_until: load(&self.stale_until),
            expires_at: load(&self.expires_at),
        }
    }

    /// Gives it another life, and lets it be good until `valid_until` at most: a longer life proves
    /// nothing.
    pub(crate) fn expire(&self, deadlines: Deadlines, valid_until: Timestamp) {
        let valid_until = valid_until.min(deadlines.fresh_until);
        self.valid_until.store(valid_until.as_millis(), Ordering::Relaxed);
        self.fresh_until.store(deadlines.fresh_until.as_millis(), Ordering::Relaxed);
        self.stale_until.store(deadlines.stale_until.as_millis(), Ordering::Relaxed);
        self.expires_at.store(deadlines.expires_at.as_millis(), Ordering::Relaxed);
    }

    /// With the moment at which it was as new as the truth.
    pub(crate) fn with_proof(self, proven_at: Timestamp) -> Self {
        Self { proven_at: AtomicU64::new(proven_at.as_millis()), ..self }
    }

    /// Notes when it was as new as the truth, and until when that alone is enough: for ever, where
    /// it `rests` on the log.
    pub(crate) fn prove(&self, proven_at: Timestamp, valid_until: Timestamp, covered_by_log: bool) {
        self.proven_at.store(proven_at.as_millis(), Ordering::Relaxed);
        self.covered_by_log.store(covered_by_log, Ordering::Relaxed);
        let valid_until = valid_until.as_millis().min(self.fresh_until.load(Ordering::Relaxed));
        self.valid_until.store(valid_until, Ordering::Relaxed);
    }

    pub(crate) fn proven_at(&self) -> Timestamp {
        Timestamp::from_millis(self.proven_at.load(Ordering::Relaxed))
    }

    pub(crate) fn covered_by_log(&self) -> bool {
        self.covered_by_log.load(Ordering::Relaxed)
    }

    /// Fresh at `now`, and not past its own proof where it has no other. One compare; a clock that
    /// went back behind the write makes it stale.
    #[inline]
    pub(crate) fn is_valid(&self, now: Timestamp) -> bool {
        self.is_before(now, &self.valid_until)
    }

    /// Fresh at `now`.
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

/// Where a read was answered from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The near tier.
    Near,
    /// A remote cache tier, by name.
    Tier(&'static str),
    /// The store, by name.
    Store(&'static str),
    /// The loader.
    Loader,
}

/// How a read was served.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Served {
    /// The tier that answered.
    pub from: Source,
    /// The time from the write of the value to the read; of a near hit, to the latest one of the entry.
    pub age: Duration,
    /// Past its fresh time, or not proven as its level asks, and served because the freshness policy
    /// allows it.
    pub stale: bool,
    /// The version of the value: what [`Cache::replace`](crate::Cache::replace) takes.
    pub version: Version,
    /// Whether the read shared another caller's trip or load.
    pub coalesced: bool,
}

/// A value read from a cache: reads like a `&V`, and never clones the value.
///
/// # Cost
/// A clone is one reference count; a near hit allocates nothing.
///
/// Two words, so that it needs no more with `Option` and `Result` around it.
pub struct Cached<V>(Handle<V>);

enum Handle<V> {
    /// A hit of the near tier.
    Near(Arc<Entry<V>>),
    /// Any other read.
    Beyond(Arc<Beyond<V>>),
}

/// A read from beyond the near tier.
struct Beyond<V> {
    entry: Arc<Entry<V>>,
    read_at: Timestamp,
    from: Source,
    coalesced: bool,
    /// Served for want of a better one, whatever its life.
    stale: bool,
}

impl<V> Cached<V> {
    /// The handle of a near hit; `None` for a negative entry.
    #[inline]
    pub(crate) fn near(entry: Arc<Entry<V>>, read_at: Timestamp) -> Option<Self> {
        // On the cache line that the reference count has just made this core's own.
        entry.read_at.store(read_at.as_millis(), Ordering::Relaxed);
        entry.value.is_some().then_some(Self(Handle::Near(entry)))
    }

    /// The handle of another read; `None` for a negative entry.
    pub(crate) fn beyond(
        entry: Arc<Entry<V>>,
        read_at: Timestamp,
        from: Source,
        coalesced: bool,
    ) -> Option<Self> {
        Self::of(Beyond { entry, read_at, from, coalesced, stale: false })
    }

    /// The handle of a read that is answered for want of a better answer.
    pub(crate) fn stale(entry: Arc<Entry<V>>, read_at: Timestamp, coalesced: bool) -> Option<Self> {
        Self::of(Beyond { entry, read_at, from: Source::Near, coalesced, stale: true })
    }

    fn of(read: Beyond<V>) -> Option<Self> {
        let has_value = read.entry.value.is_some();
        has_value.then(|| Self(Handle::Beyond(Arc::new(read))))
    }

    #[inline]
    fn entry(&self) -> &Entry<V> {
        match &self.0 {
            Handle::Near(entry) => entry,
            Handle::Beyond(read) => &read.entry,
        }
    }

    /// How this read was served: tier, age, freshness, version, coalesced or not.
    pub fn served(&self) -> Served {
        let (entry, read_at, from, coalesced, stale) = match &self.0 {
            Handle::Near(entry) => {
                let read_at = Timestamp::from_millis(entry.read_at.load(Ordering::Relaxed));
                (entry, read_at, Source::Near, false, false)
            }
            Handle::Beyond(read) => (&read.entry, read.read_at, read.from, read.coalesced, read.stale),
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
            Handle::Beyond(read) => Handle::Beyond(Arc::clone(read)),
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

/// What a caller or a loader gives to a cache: a value, or its absence, and a life of its own.
///
/// `V` and `Option<V>` convert to it, so that most calls never name it. With a store, the life is the
/// record's own.
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
    /// A value.
    pub fn new(value: V) -> Self {
        Self { value: Some(value), ttl: None }
    }

    /// There is no value; kept as a negative entry where the expiry policy gives one a life.
    pub fn absent() -> Self {
        Self { value: None, ttl: None }
    }

    /// Lives for `ttl` instead of what the expiry policy gives by default.
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
