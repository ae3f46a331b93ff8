//! Writes down what a run does, in the order in which it happens.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use terrace_core::Version;

use crate::history::{At, Change, End, Fact, History, Key, Process, Read, Value, Wish, Write};

/// The history of a run while it is written, the origin behind its loaders, and the source of values.
pub(crate) struct Recorder(Mutex<Log>);

struct Log {
    tick: u64,
    order: u64,
    values: u64,
    origin: Vec<Value>,
    /// When a value last became the truth.
    changed_at: HashMap<u64, At>,
    /// When the store committed a version.
    committed_at: HashMap<(Key, Version), At>,
    history: History,
    tally: Tally,
}

/// What a run records beside its history.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) counts: Counts,
    /// The longest call, by the time in which its process ran.
    pub(crate) longest: Option<(Duration, At, Key)>,
    /// Calls that have not returned.
    pub(crate) endless: Vec<(At, Key)>,
    /// How often each key was loaded, and the last time of it.
    pub(crate) loads: BTreeMap<Key, (u64, At)>,
}

/// What a run counts beside its history.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Reads that failed with a typed error, which is no answer.
    pub failed_reads: u64,
    /// Reads that were answered with a value marked stale, of which little is promised.
    pub stale_reads: u64,
    /// Reads at another level than their cache was built with.
    pub other_levels: u64,
    /// Messages that were lost on their way.
    pub lost: u64,
    /// Requests that were carried out after their caller had given up.
    pub late: u64,
    /// Faults that struck a process or server.
    pub faults: u64,
    /// Changes that were reported to followers.
    pub notices: u64,
    /// Steps of relays that were made.
    pub steps: u64,
    /// Gaps that were reported to followers.
    pub gaps: u64,
    /// The length of the longest call, by the time in which its process ran.
    pub longest_call: Duration,
    /// Looks at leases that others hold.
    pub looks: u64,
    /// Announcements of leases that have ended.
    pub announced: u64,
    /// Servers found to have lost their data or gone back in time, whose copies were made dead.
    pub renewals: u64,
}

impl Recorder {
    pub(crate) fn new(history: History, keys: u64) -> Self {
        let origin = vec![None; usize::try_from(keys).unwrap_or_default()];
        let (changed_at, committed_at) = (HashMap::new(), HashMap::new());
        let (tick, order, values, tally) = (0, 0, 0, Tally::default());
        Self(Mutex::new(Log { tick, order, values, origin, changed_at, committed_at, history, tally }))
    }

    /// Begins the next millisecond.
    pub(crate) fn begin(&self, tick: u64) {
        let mut log = self.0.lock();
        log.tick = tick;
        log.order = 0;
    }

    pub(crate) fn now(&self) -> At {
        self.0.lock().now()
    }

    /// A value that was never written before.
    pub(crate) fn new_value(&self) -> u64 {
        self.0.lock().new_value()
    }

    /// A new value that a loader offers to a store.
    pub(crate) fn offer(&self) -> u64 {
        let mut log = self.0.lock();
        let value = log.new_value();
        log.history.offered.push(value);
        value
    }

    pub(crate) fn origin(&self, key: Key) -> Value {
        self.0.lock().origin[key as usize]
    }

    /// Changes the origin to a new value, or to none.
    pub(crate) fn change_origin(&self, key: Key, some: bool) -> Value {
        let mut log = self.0.lock();
        let value = some.then(|| log.new_value());
        log.origin[key as usize] = value;
        log.changed(key, value);
        value
    }

    pub(crate) fn changed(&self, key: Key, value: Value) {
        self.0.lock().changed(key, value);
    }

    /// Records that a store has committed a version.
    pub(crate) fn committed(&self, key: Key, value: Value, version: Version) {
        let mut log = self.0.lock();
        let at = log.changed(key, value);
        log.committed_at.insert((key, version), at);
    }

    pub(crate) fn changed_at(&self, value: u64) -> Option<At> {
        self.0.lock().changed_at.get(&value).copied()
    }

    pub(crate) fn committed_at(&self, key: Key, version: Version) -> Option<At> {
        self.0.lock().committed_at.get(&(key, version)).copied()
    }

    pub(crate) fn fact(&self, fact: Fact) {
        let mut log = self.0.lock();
        let at = log.now();
        log.history.facts.push((at, fact));
    }

    pub(crate) fn read(&self, read: impl FnOnce(At) -> Read) {
        let mut log = self.0.lock();
        let read = read(log.now());
        log.history.reads.push(read);
    }

    /// Records that a write begins; [`wrote`](Self::wrote) takes the index that this returns.
    pub(crate) fn writes(&self, process: Process, key: Option<Key>, wish: Wish) -> usize {
        let mut log = self.0.lock();
        let call = log.now();
        log.history.writes.push(Write { process, key, call, ret: None, wish });
        log.history.writes.len() - 1
    }

    pub(crate) fn wrote(&self, place: usize, end: End) {
        let mut log = self.0.lock();
        let ret = log.now();
        if let Some(write) = log.history.writes.get_mut(place) {
            write.ret = Some((ret, end));
        }
    }

    pub(crate) fn count(&self, count: impl FnOnce(&mut Counts)) {
        count(&mut self.0.lock().tally.counts);
    }

    /// Records that a loader runs.
    pub(crate) fn loads(&self, key: Key) {
        let mut log = self.0.lock();
        let at = log.now();
        let (loads, last) = log.tally.loads.entry(key).or_default();
        *loads += 1;
        *last = at;
    }

    /// Records that a call has returned.
    pub(crate) fn took(&self, took: Duration, key: Key) {
        let mut log = self.0.lock();
        let at = log.now();
        if log.tally.longest.is_none_or(|(longest, ..)| longest < took) {
            log.tally.longest = Some((took, at, key));
            log.tally.counts.longest_call = took;
        }
    }

    /// Records that a call has not returned.
    pub(crate) fn endless(&self, key: Key) {
        let mut log = self.0.lock();
        let at = log.now();
        log.tally.endless.push((at, key));
    }

    /// Takes the history so far; the recorder begins a new one.
    pub(crate) fn take(&self) -> (History, Tally) {
        let mut log = self.0.lock();
        let mut history = std::mem::take(&mut log.history);
        history.writes.sort_by_key(|write| write.ret.map_or(At(u64::MAX), |(ret, _)| ret));
        (history, std::mem::take(&mut log.tally))
    }
}

impl Log {
    fn now(&mut self) -> At {
        self.order += 1;
        At(self.tick * 1_000_000 + self.order)
    }

    fn changed(&mut self, key: Key, value: Value) -> At {
        let at = self.now();
        self.history.changes.push(Change::exact(key, at, value));
        if let Some(value) = value {
            self.changed_at.insert(value, at);
        }
        at
    }

    fn new_value(&mut self) -> u64 {
        self.values += 1;
        self.values
    }
}
