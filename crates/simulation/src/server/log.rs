//! The invalidation log of a simulated server. Its entries are numbered without a gap, its length is
//! bounded, and it is lost and goes back in time together with the data, as the log of Redis is.

use std::{collections::VecDeque, sync::Arc};

use bytes::Bytes;
use parking_lot::Mutex;
use terrace_conformance::Fake;
use terrace_tier::{Invalidation, Notice, Op, Publication, Reply, Role, TierKey, Version, Watermark};

use crate::{
    encoding,
    history::{At, Fact, Key},
    message::{
        Link, Target,
        log::{Cursor, Entry, Head, ROUND, Round},
    },
    recorder::Recorder,
    witness,
};

/// How many entries are kept; a follower that is further behind has a gap.
const ENTRIES: usize = 256;

/// How many changes an outbox keeps: more than a relay's step takes.
const OUTBOX: usize = 4_096;

/// The log beside a server's data.
pub(crate) struct Logbook {
    fake: Fake,
    /// The number of the server.
    server: usize,
    settings: LogSettings,
    stream: Mutex<Stream>,
}

/// What a server's log reports.
pub(crate) struct LogSettings {
    /// Which operations are appended, and with which version.
    pub(crate) reported: fn(&Op, &Reply) -> Option<Option<Version>>,
    /// Whether the server has a log at all.
    pub(crate) kept: bool,
    /// Whether an entry says that all cache tiers have the change: where there is a farther tier that did
    /// not confirm it, other processes may still read the old value there.
    pub(crate) complete: bool,
    /// A switch: copies that went back in time are not made dead.
    pub(crate) believes: bool,
}

/// The content of the log, which goes back in time with the data.
#[derive(Clone, Default)]
pub(crate) struct Stream {
    /// Identifies the log; zero where there is none.
    id: u64,
    sequence: u64,
    entries: VecDeque<(u64, Entry)>,
    /// The cells from before this log were made dead.
    renewed: bool,
}

impl Logbook {
    pub(crate) fn new(fake: Fake, server: usize, settings: LogSettings) -> Self {
        Self { fake, server, settings, stream: Mutex::default() }
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.settings.kept
    }

    /// The content of the log now, to go back to.
    pub(crate) fn save(&self) -> Stream {
        self.stream.lock().clone()
    }

    pub(crate) fn go_back(&self, saved: &Stream) {
        *self.stream.lock() = saved.clone();
    }

    /// Forgets all entries, as a log that has grown does.
    pub(crate) fn trim(&self) {
        self.stream.lock().entries.clear();
    }

    /// Appends an operation, whether or not it changed the cell.
    pub(crate) fn append(
        &self,
        target: &Target,
        link: Link,
        key: &TierKey,
        op: &Op,
        reply: &Reply,
        recorder: &Recorder,
    ) {
        let Some(version) = (self.settings.reported)(op, reply) else { return };
        let covers = witness::covered(recorder, recorder.now(), link, key, op, version);
        let covers = covers.map(|at| (Some(encoding::key_of(key)), at));
        let (tenant, key) = (target.namespace.tenant.clone(), key.bytes.clone());
        self.push(target, Notice::Key { tenant, key, version }, covers);
    }

    pub(crate) fn append_clear(&self, target: &Target, recorder: &Recorder) {
        let covers = Some((None, recorder.now()));
        self.push(target, Notice::Clear { tenant: target.namespace.tenant.clone() }, covers);
    }

    /// Appends what a relay's step dropped, and then its watermark.
    pub(crate) fn append_step(
        &self,
        target: &Target,
        link: Link,
        publication: &Publication,
        version: Version,
        recorder: &Recorder,
    ) {
        for tenant in &publication.clears {
            self.push(target, Notice::Clear { tenant: tenant.clone() }, Some((None, recorder.now())));
        }
        for Invalidation { tenant, key, version } in &publication.drops {
            let op = Op::Invalidate { version: *version, tombstone_ttl: publication.tombstone_ttl };
            let covers = witness::covered(recorder, recorder.now(), link, key, &op, *version);
            let covers = covers.map(|at| (Some(encoding::key_of(key)), at));
            let notice = Notice::Key { tenant: tenant.clone(), key: key.bytes.clone(), version: *version };
            self.push(target, notice, covers);
        }
        let marks = Target { namespace: Arc::new(Watermark::namespace(&target.namespace)), ..target.clone() };
        let (tenant, key, version) = (None, publication.watermark_key.bytes.clone(), Some(version));
        self.push(&marks, Notice::Key { tenant, key, version }, None);
        recorder.count(|counts| counts.steps += 1);
    }

    /// The position behind the last entry.
    pub(crate) fn end(&self) -> Bytes {
        let mut stream = self.stream.lock();
        if stream.id == 0 {
            stream.begin();
        }
        place(stream.id, stream.sequence)
    }

    /// The changes of a namespace behind a position; `None` where they are not known any more.
    pub(crate) fn since(&self, namespace: &str, from: &Bytes) -> Option<(Vec<Notice>, Bytes)> {
        let stream = self.stream.lock();
        let (id, last) = (number_in(from, 0)?, number_in(from, 8)?);
        let kept = stream.sequence - stream.entries.len() as u64;
        if id != stream.id || last > stream.sequence || last < kept {
            return None;
        }
        let behind = stream.entries.iter().filter(|(at, entry)| *at > last && entry.namespace == namespace);
        let notices = behind.map(|(_, entry)| entry.notice.clone()).collect();
        Some((notices, place(stream.id, stream.sequence)))
    }

    fn push(&self, target: &Target, notice: Notice, covers: Option<(Option<Key>, At)>) {
        if !self.settings.kept {
            return;
        }
        let covers = covers.filter(|_| self.settings.complete);
        let mut stream = self.stream.lock();
        if stream.id == 0 {
            stream.begin();
        }
        stream.sequence += 1;
        let sequence = stream.sequence;
        let (namespace, origin) = (target.namespace.name.clone(), target.origin);
        let entry = Entry { stamp: fastrand::u64(1..), origin, namespace, notice, covers };
        stream.entries.push_back((sequence, entry));
        if stream.entries.len() > if target.namespace.role == Role::Store { OUTBOX } else { ENTRIES } {
            stream.entries.pop_front();
        }
    }

    /// Where a follower begins: at its cursor, if the log still has the entries that it has read, else at
    /// the end. A log that went back in time ends, and its cells become dead.
    pub(crate) fn join(&self, known: Option<&Cursor>, recorder: &Recorder) -> Cursor {
        let mut stream = self.stream.lock();
        let went_back = known.is_some_and(|known| {
            let differs = || stream.stamp_at(known.sequence).is_some_and(|now| Some(now) != known.last);
            stream.id == known.log && (stream.sequence < known.sequence || differs())
        });
        if stream.id == 0 || went_back {
            stream.begin();
        }
        if known.is_some_and(|known| known.log != stream.id) && !stream.renewed {
            stream.renewed = true;
            if !self.settings.believes {
                self.fake.renew_epochs();
            }
            recorder.fact(Fact::Renewed { tier: self.server });
            recorder.count(|counts| counts.renewals += 1);
        }
        Cursor { log: stream.id, sequence: stream.sequence, last: stream.stamp_at(stream.sequence) }
    }

    pub(crate) fn head(&self) -> Head {
        let stream = self.stream.lock();
        (stream.id != 0).then_some((stream.id, stream.sequence))
    }

    /// Whether there is an entry behind the cursor.
    pub(crate) fn has_entries_behind(&self, cursor: &Cursor) -> bool {
        self.stream.lock().entries.back().is_some_and(|(sequence, _)| *sequence > cursor.sequence)
    }

    pub(crate) fn read(&self, head: Head, cursor: &Cursor) -> Round {
        let stream = self.stream.lock();
        let behind = stream.entries.iter().filter(|(sequence, _)| *sequence > cursor.sequence);
        Round { head, entries: behind.take(ROUND).cloned().collect() }
    }
}

impl Stream {
    fn begin(&mut self) {
        *self = Self { id: fastrand::u64(1..), sequence: 1, ..Self::default() };
    }

    fn stamp_at(&self, sequence: u64) -> Option<u64> {
        let at = self.entries.iter().find(|(number, _)| *number == sequence);
        at.map(|(_, entry)| entry.stamp)
    }
}

fn place(id: u64, sequence: u64) -> Bytes {
    Bytes::from([id.to_be_bytes(), sequence.to_be_bytes()].concat())
}

fn number_in(place: &Bytes, at: usize) -> Option<u64> {
    place.get(at..)?.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}
