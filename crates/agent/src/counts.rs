//! Counters of this process, which are added to the counters of all processes once a second.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::{Mutex, RwLock};
use terrace::{Error, ErrorKind, Result, tier::Counters};

/// How often the sums of this process are sent.
const FLUSH_EVERY: Duration = Duration::from_secs(1);
/// The most names of this process, which bounds its memory.
const MAX_NAMES: usize = 2048;
/// The name that counts what is beyond that.
const OTHER: &str = "other";
const WARN_EVERY: Duration = Duration::from_secs(60);

/// Counters that are shared where `shared` is a server's, and this process's own otherwise.
///
/// # Cost
/// An event is one atomic addition. While something was counted, a process sends one request a second.
pub(crate) struct SharedCounts {
    group: &'static str,
    names: RwLock<HashMap<String, Arc<AtomicI64>>>,
    shared: Option<Arc<dyn Counters>>,
    /// What was counted so far, where no server keeps it.
    totals: Mutex<BTreeMap<String, i64>>,
    flushing: tokio::sync::Mutex<()>,
    flusher: Mutex<Option<tokio::task::JoinHandle<()>>>,
    warned: Mutex<Option<Instant>>,
}

impl SharedCounts {
    pub(crate) fn new(group: &'static str, shared: Option<Arc<dyn Counters>>) -> Arc<Self> {
        Arc::new(Self {
            group,
            names: RwLock::default(),
            shared,
            totals: Mutex::default(),
            flushing: tokio::sync::Mutex::default(),
            flusher: Mutex::default(),
            warned: Mutex::default(),
        })
    }

    /// The counter of a name, for callers that keep it.
    pub(crate) fn counter(&self, name: &str) -> Arc<AtomicI64> {
        if let Some(counter) = self.names.read().get(name) {
            return Arc::clone(counter);
        }
        let mut names = self.names.write();
        let name = if names.len() < MAX_NAMES || names.contains_key(name) { name } else { OTHER };
        Arc::clone(names.entry(name.to_owned()).or_default())
    }

    /// Starts the task that sends the sums, if it does not run in a living runtime.
    pub(crate) fn start(self: &Arc<Self>) {
        let mut flusher = self.flusher.lock();
        if flusher.as_ref().is_none_or(tokio::task::JoinHandle::is_finished)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            *flusher = Some(runtime.spawn(flush_on(Arc::downgrade(self))));
        }
    }

    /// Sends the sums of this process now. Concurrent calls send one after the other. The call goes on if its
    /// caller goes away, so that no sum is sent twice or lost.
    ///
    /// # Errors
    /// The errors of the server. What was not added is kept for the next call, unless it may have been added.
    pub(crate) async fn flush(self: &Arc<Self>) -> Result<()> {
        let counts = Arc::clone(self);
        match tokio::spawn(async move { counts.flush_once().await }).await {
            Ok(flushed) => flushed,
            Err(_) => Err(Error::new(ErrorKind::Unknown, "the task that sends the counters ended early")),
        }
    }

    async fn flush_once(&self) -> Result<()> {
        let _turn = self.flushing.lock().await;
        let mut taken: Vec<(String, Arc<AtomicI64>, i64)> = Vec::new();
        for (name, counter) in &*self.names.read() {
            match counter.swap(0, Ordering::AcqRel) {
                0 => {}
                sum => taken.push((name.clone(), Arc::clone(counter), sum)),
            }
        }
        if taken.is_empty() {
            return Ok(());
        }
        let Some(shared) = &self.shared else {
            let mut totals = self.totals.lock();
            taken.into_iter().for_each(|(name, _, sum)| *totals.entry(name).or_default() += sum);
            return Ok(());
        };
        let deltas: Vec<_> = taken.iter().map(|(name, _, sum)| (name.clone(), *sum)).collect();
        let added = shared.add(&deltas).await;
        if let Err(error) = &added {
            // A sum that may have been added is not sent again: counters count only what happened.
            if error.kind() != ErrorKind::Unknown {
                taken.iter().for_each(|(_, counter, sum)| _ = counter.fetch_add(*sum, Ordering::AcqRel));
            }
            self.warn(error);
        }
        added
    }

    /// The sums of all processes, or of this one where no server keeps them. What this process has counted is sent
    /// first.
    pub(crate) async fn read(self: &Arc<Self>) -> Result<BTreeMap<String, i64>> {
        self.flush().await?;
        match &self.shared {
            Some(shared) => Ok(shared.read().await?.into_iter().collect()),
            None => Ok(self.totals.lock().clone()),
        }
    }

    fn warn(&self, error: &Error) {
        let mut warned = self.warned.lock();
        if warned.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            *warned = Some(Instant::now());
            let (cache, tier) = (self.group, error.tier().unwrap_or_default());
            tracing::warn!(cache, tier, %error, "the sums of the counters could not be added; caches go on");
        }
    }
}

async fn flush_on(counts: Weak<SharedCounts>) {
    loop {
        tokio::time::sleep(FLUSH_EVERY).await;
        let Some(counts) = counts.upgrade() else { return };
        // An error was warned of, and what was not added is kept.
        let _ = counts.flush().await;
    }
}

impl Drop for SharedCounts {
    fn drop(&mut self) {
        if let Some(flusher) = self.flusher.get_mut() {
            flusher.abort();
        }
    }
}
