//! A put returns before the store has the value.

use std::{path::PathBuf, time::Duration};

use terrace_core::policy::{Backlog, BehindPlan, Copies, FrontPlace, FullJitter, WritePlan, WritePolicy};

/// A write returns once the *front* of this process has it, and reaches the store within a delay. It adds latency
/// and life while the store is away; a store's own puts are already grouped without it.
///
/// While the cache is open, no other process can write the records of the namespace: its writes fail with
/// `NamespaceInUse`. Other processes read what the store and the shared tiers have.
///
/// # Cost
/// A put makes no round trip. A conditional put, `expire` and the creation of a record read the record first,
/// unless the key is dirty. The flusher makes one round trip to the store and one to each cache tier for a batch.
///
/// ```
/// use std::time::Duration;
/// use terrace_policies::{Backlog, FullJitter, WhenFull, WriteBehind};
///
/// let policy = WriteBehind::memory()
///     .delay(Duration::from_millis(50))
///     .batch(1_000)
///     .retry(FullJitter::new(Duration::from_millis(50), Duration::from_secs(30)))
///     .attempts(3)
///     .cap(Backlog::bytes(64 << 20).age(Duration::from_secs(3600)).when_full(WhenFull::Block));
/// ```
#[derive(Clone, Debug)]
pub struct WriteBehind {
    plan: BehindPlan,
    copies: Copies,
}

impl WriteBehind {
    /// A front in the memory of this process. What is dirty is lost when the process dies, and when the cache is
    /// dropped without [`close_within`](terrace_core::Cache::close_within). Without an answer of the store for 10 s
    /// it takes no more writes.
    pub fn memory() -> Self {
        Self { plan: BehindPlan::default(), copies: Copies::Replace }
    }

    /// A front with a journal in the directory `path`, which is created if it is missing. What is dirty survives
    /// kill -9 and power loss, and is flushed after the next start. Puts go on while the store is away, up to the
    /// cap. Each cache needs a directory of its own, on a local disk.
    ///
    /// `build` reads the journal, and blocks its caller meanwhile. If another process has the directory, `build`
    /// fails with `NamespaceInUse`. The front holds its namespace until a `close` that leaves nothing.
    ///
    /// # Cost
    /// A put waits for one `fdatasync`, which all puts that wait share.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        let mut this = Self::memory();
        this.plan.place = FrontPlace::File(path.into());
        this
    }

    /// Sets how long a write may wait for its flush while the store answers. The default is 50 ms.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.plan.delay = delay;
        self
    }

    /// Sets the most writes in one flush. The default is 1,000.
    #[must_use]
    pub fn batch(mut self, writes: usize) -> Self {
        self.plan.batch = writes;
        self
    }

    /// Sets the pauses after flushes that failed. The defaults are 50 ms, growing to 30 s.
    #[must_use]
    pub fn retry(mut self, retry: FullJitter) -> Self {
        self.plan.retry = retry;
        self
    }

    /// Sets how often a write that the store refuses is sent before it becomes a dead letter. The default is 3. A
    /// store that does not answer refuses nothing.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.plan.attempts = attempts;
        self
    }

    /// Sets how much may be dirty, and what a write does beyond that. The default is 64 MiB for at most an hour,
    /// and a write that waits.
    #[must_use]
    pub fn cap(mut self, cap: Backlog) -> Self {
        self.plan.cap = cap;
        self
    }

    /// Drops the copies in the cache tiers once the store has a write, as `WriteAround` does. By default the new
    /// value replaces them.
    #[must_use]
    pub fn invalidate_copies(mut self) -> Self {
        self.copies = Copies::Invalidate;
        self
    }
}

impl WritePolicy for WriteBehind {
    fn plan(&self) -> WritePlan {
        WritePlan { store: true, copies: self.copies }
    }

    fn behind(&self) -> Option<BehindPlan> {
        Some(self.plan.clone())
    }
}
