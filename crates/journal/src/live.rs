//! Which frames of a journal are still needed, and in which segments they are.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use terrace_tier::Version;

use crate::frame::{Address, Frame};

/// The live writes: the newest one of each key, unless it is settled.
///
/// Only frames that are synced are applied. Until then what they replace is live.
#[derive(Debug, Default)]
pub(crate) struct Live {
    entries: HashMap<Address, Entry>,
    /// The live bytes of each segment that has any.
    segments: BTreeMap<u64, u64>,
    bytes: u64,
}

#[derive(Debug)]
struct Entry {
    version: Version,
    at: At,
    dead: Option<(At, Arc<str>)>,
}

/// Where a frame is, and its size.
#[derive(Clone, Copy, Debug)]
pub(crate) struct At {
    pub(crate) segment: u64,
    pub(crate) bytes: u64,
}

/// What a frame did to the live write of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Applied {
    /// The write of the frame is the live one.
    Live,
    /// The live write was settled, and the key has none.
    Settled,
    /// The live write, if there is one, is the same as before.
    Unchanged,
}

impl Live {
    pub(crate) fn apply(&mut self, frame: &Frame, at: At) -> Applied {
        match frame {
            Frame::Write(write) => self.write(&write.address, write.version, at),
            Frame::Settled(address, version) => self.settle(address, *version),
            Frame::Dead(address, version, cause) => {
                self.mark(address, *version, Some((at, Arc::clone(cause))));
                Applied::Unchanged
            }
            Frame::Retried(address, version) => {
                self.mark(address, *version, None);
                Applied::Unchanged
            }
            Frame::Front(_) => Applied::Unchanged,
        }
    }

    fn write(&mut self, address: &Address, version: Version, at: At) -> Applied {
        let dead = match self.entries.remove(address) {
            Some(newer) if newer.version > version => {
                self.entries.insert(address.clone(), newer);
                return Applied::Unchanged;
            }
            // A copy of the same write: it is as dead as it was.
            Some(same) if same.version == version => {
                self.count_out(same.at);
                same.dead
            }
            older => {
                older.iter().for_each(|older| self.forget(older));
                None
            }
        };
        self.count_in(at);
        self.entries.insert(address.clone(), Entry { version, at, dead });
        Applied::Live
    }

    /// The key has no live write up to `version` any more.
    pub(crate) fn settle(&mut self, address: &Address, version: Version) -> Applied {
        if self.entries.get(address).is_none_or(|entry| entry.version > version) {
            return Applied::Unchanged;
        }
        let settled = self.entries.remove(address);
        settled.iter().for_each(|entry| self.forget(entry));
        Applied::Settled
    }

    fn mark(&mut self, address: &Address, version: Version, dead: Option<(At, Arc<str>)>) {
        let Some(entry) = self.entries.get_mut(address).filter(|entry| entry.version == version) else {
            return;
        };
        let at = dead.as_ref().map(|(at, _)| *at);
        let before = std::mem::replace(&mut entry.dead, dead);
        before.iter().for_each(|(at, _)| self.count_out(*at));
        at.into_iter().for_each(|at| self.count_in(at));
    }

    fn forget(&mut self, entry: &Entry) {
        self.count_out(entry.at);
        entry.dead.iter().for_each(|(at, _)| self.count_out(*at));
    }

    fn count_in(&mut self, at: At) {
        *self.segments.entry(at.segment).or_default() += at.bytes;
        self.bytes += at.bytes;
    }

    fn count_out(&mut self, at: At) {
        self.bytes -= at.bytes;
        if let Some(bytes) = self.segments.get_mut(&at.segment) {
            *bytes -= at.bytes;
            if *bytes == 0 {
                self.segments.remove(&at.segment);
            }
        }
    }

    /// The frames that must be copied before `segment` is removed, if `frame` of that segment is live.
    pub(crate) fn copies_of(&self, frame: Frame, segment: u64) -> Vec<Frame> {
        let Frame::Write(write) = &frame else { return Vec::new() };
        let entry = self.entries.get(&write.address);
        let entry = entry.filter(|entry| entry.version == write.version && entry.at.segment == segment);
        let Some(entry) = entry else { return Vec::new() };
        // The mark follows its write, so that a replay finds the write first.
        let dead =
            |(_, cause): &(At, _)| Frame::Dead(write.address.clone(), write.version, Arc::clone(cause));
        let dead = entry.dead.as_ref().map(dead);
        [Some(frame), dead].into_iter().flatten().collect()
    }

    /// Why the live write of the key is a dead letter.
    pub(crate) fn cause(&self, address: &Address) -> Option<Arc<str>> {
        let (_, cause) = self.entries.get(address)?.dead.as_ref()?;
        Some(Arc::clone(cause))
    }

    pub(crate) fn has_segment(&self, segment: u64) -> bool {
        self.segments.contains_key(&segment)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }
}
