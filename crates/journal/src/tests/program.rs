//! Random programs over a journal, and the model that says what an opening may find.

use std::{collections::BTreeMap, io, mem, sync::Arc};

use bytes::Bytes;
use fastrand::Rng;
use terrace_tier::{Deadlines, Timestamp, Version};

use crate::{
    Address, Call, FrontIdentity, JournalError, JournalOptions, LossyDirectory, Recovered, Result, Write,
    frame::Frame, log::Log,
};

pub(super) const SEGMENT: u64 = 4_096;
const KEYS: u64 = 6;

/// What an opening may find of a key: nothing, or a write and why it is a dead letter.
type Found = Option<(Write, Option<Arc<str>>)>;

/// A program under way, and what its journal may hold.
pub(super) struct Program {
    pub(super) directory: LossyDirectory,
    log: Option<Log>,
    rng: Rng,
    last_version: u64,
    acknowledged: u64,
    possible: BTreeMap<Address, Vec<Found>>,
    /// Settled frames that were written and not synced.
    settled: Vec<(Address, Version)>,
    fronts: Vec<FrontIdentity>,
    /// The most live bytes of any time.
    most_live: u64,
    /// Whether calls of the directory fail now and then.
    has_faults: bool,
    /// How many commits ended in each way: acknowledged, refused, unknown, ended.
    pub(super) outcomes: [u64; 4],
}

/// The calls that fail, and how.
const FAULTS: [(Call, io::ErrorKind); 10] = [
    (Call::Append, io::ErrorKind::StorageFull),
    (Call::Append, io::ErrorKind::StorageFull),
    (Call::Append, io::ErrorKind::Other),
    (Call::Create, io::ErrorKind::StorageFull),
    (Call::SyncData, io::ErrorKind::Other),
    (Call::Truncate, io::ErrorKind::Other),
    (Call::Rename, io::ErrorKind::Other),
    (Call::Remove, io::ErrorKind::Other),
    (Call::Read, io::ErrorKind::Other),
    (Call::Sync, io::ErrorKind::Other),
];

/// What is wrong with a journal.
pub(super) type Violation = String;

impl Program {
    pub(super) fn new(directory: LossyDirectory, seed: u64) -> Self {
        fastrand::seed(seed);
        Self {
            directory,
            log: None,
            rng: Rng::with_seed(seed),
            last_version: 0,
            acknowledged: 0,
            possible: BTreeMap::new(),
            settled: Vec::new(),
            fronts: Vec::new(),
            most_live: 0,
            has_faults: false,
            outcomes: [0; 4],
        }
    }

    /// The same program, in whose directory calls fail now and then.
    pub(super) fn with_faults(self) -> Self {
        Self { has_faults: true, ..self }
    }

    pub(super) fn options() -> JournalOptions {
        JournalOptions::new("users").segment_bytes(SEGMENT)
    }

    /// Opens the journal, as often as the power fails meanwhile, and compares it with the model.
    pub(super) fn open(&mut self) -> Result<(), Violation> {
        self.log = None;
        let mut failures = 0;
        loop {
            match Log::open(Arc::new(self.directory.clone()), Self::options()) {
                Ok((log, recovered)) => {
                    self.log = Some(log);
                    return self.check(&recovered);
                }
                Err(_) if !self.directory.has_power() => self.directory = self.directory.after_power_loss(),
                // A fault that was meant for a later call has hit the opening.
                Err(JournalError::Io(_) | JournalError::DiskFull(_)) if self.has_faults && failures < 20 => {
                    failures += 1
                }
                Err(error) => return Err(format!("the journal does not open: {error}")),
            }
        }
    }

    fn check(&mut self, recovered: &Recovered) -> Result<(), Violation> {
        let mut found: BTreeMap<Address, Found> =
            self.possible.keys().map(|key| (key.clone(), None)).collect();
        for write in &recovered.writes {
            let entry = (write.write.clone(), write.dead.clone());
            if found.insert(write.write.address.clone(), Some(entry)).is_none() {
                return Err("a key came back that was never written".to_owned());
            }
        }
        for (key, found) in &found {
            if !self.possible[key].contains(found) {
                let version =
                    |found: &Found| found.as_ref().map(|(write, dead)| (write.version, dead.is_some()));
                let possible: Vec<_> = self.possible[key].iter().map(version).collect();
                return Err(format!("{:?} came back of {key:?}, possible are {possible:?}", version(found)));
            }
        }
        if !(self.acknowledged..=self.last_version).contains(&recovered.high.as_u64()) {
            return Err(format!("high is {}, {} was acknowledged", recovered.high, self.acknowledged));
        }
        if !self.fronts.is_empty() && !self.fronts.contains(&recovered.front) {
            return Err(format!("the front is {:?}, possible are {:?}", recovered.front, self.fronts));
        }
        // What one opening found, the next one finds too.
        self.possible = found.into_iter().map(|(key, found)| (key, vec![found])).collect();
        self.fronts = vec![recovered.front.clone()];
        self.settled.clear();
        self.acknowledged = recovered.high.as_u64();
        Ok(())
    }

    /// Goes on for so many steps, or until the power has failed or the journal has ended.
    pub(super) fn steps(&mut self, most: u32) -> Result<(), Violation> {
        for _ in 0..most {
            if !self.step()? {
                break;
            }
        }
        Ok(())
    }

    /// Does something. `false` if the power has failed or the journal has ended.
    fn step(&mut self) -> Result<bool, Violation> {
        if self.has_faults && self.rng.u8(0..10) == 0 {
            let (call, error) = FAULTS[self.rng.usize(0..FAULTS.len())];
            self.directory.fail_next(call, error);
        }
        match self.rng.u8(0..100) {
            0..55 => {
                let group = (0..self.rng.u8(1..5)).map(|_| self.some_write()).collect();
                self.commit(group)?;
            }
            55..85 => self.settle_some()?,
            85..92 => self.mark_some()?,
            92..95 => self.change_front()?,
            95..98 => {
                self.log.take().into_iter().for_each(Log::close);
                if self.directory.has_power() {
                    self.open()?;
                }
            }
            _ => {
                self.log = None;
                if self.directory.has_power() {
                    self.directory = self.directory.after_kill();
                    self.open()?;
                }
            }
        }
        Ok(self.directory.has_power() && self.log.as_ref().is_some_and(|log| log.ended().is_none()))
    }

    /// The power fails now, if it has not already.
    pub(super) fn lose_power(&mut self) -> Result<(), Violation> {
        self.log = None;
        self.directory = self.directory.after_power_loss();
        self.open()
    }

    /// The process is killed.
    pub(super) fn kill(&mut self) -> Result<(), Violation> {
        self.log = None;
        self.directory = self.directory.after_kill();
        self.open()
    }

    fn some_address(&mut self) -> Address {
        let key = Bytes::from(format!("key {}", self.rng.u64(0..KEYS)));
        Address { tenant: self.rng.bool().then(|| Arc::from("acme")), key }
    }

    fn some_write(&mut self) -> Frame {
        self.last_version += 1;
        let (address, version) = (self.some_address(), Version::from_u64(self.last_version));
        let bytes = vec![self.last_version as u8; self.rng.usize(0..400)];
        let envelope = (self.rng.u8(0..4) > 0).then(|| Bytes::from(bytes));
        let deadlines = Deadlines::forever(Timestamp::from_millis(self.last_version));
        Frame::Write(Write { address, version, deadlines, envelope })
    }

    /// Settles a few keys whose last write is acknowledged.
    fn settle_some(&mut self) -> Result<(), Violation> {
        let known = self.possible.values().filter_map(|possible| match &possible[..] {
            [Some((write, _))] => Some(Frame::Settled(write.address.clone(), write.version)),
            _ => None,
        });
        let mut known: Vec<Frame> = known.collect();
        self.rng.shuffle(&mut known);
        known.truncate(self.rng.usize(1..5));
        if known.is_empty() { Ok(()) } else { self.commit(known) }
    }

    fn mark_some(&mut self) -> Result<(), Violation> {
        let known = self.possible.values().filter_map(|possible| match &possible[..] {
            [Some(found)] => Some(found.clone()),
            _ => None,
        });
        let known: Vec<_> = known.collect();
        let Some((write, dead)) = self.rng.choice(known) else { return Ok(()) };
        self.commit(vec![match dead {
            None => Frame::Dead(write.address, write.version, Arc::from("refused")),
            Some(_) => Frame::Retried(write.address, write.version),
        }])
    }

    fn change_front(&mut self) -> Result<(), Violation> {
        let (id, nonce) = (self.fronts[0].id, self.rng.u64(..));
        self.commit(vec![Frame::Front(FrontIdentity { id, term: self.last_version, nonces: vec![nonce] })])
    }

    /// Commits, and changes the model by the outcome.
    fn commit(&mut self, frames: Vec<Frame>) -> Result<(), Violation> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let outcome = log.commit(&frames);
        log.reclaim();
        let stats = log.stats();
        self.most_live = self.most_live.max(stats.live_bytes);
        let bound = self.most_live * 5 / 2 + 4 * SEGMENT;
        if log.ended().is_none() && !self.has_faults && self.directory.has_power() && stats.disk_bytes > bound
        {
            return Err(format!("{} bytes are on the disk, the bound is {bound}", stats.disk_bytes));
        }
        self.outcomes[match &outcome {
            Ok(()) => 0,
            Err(JournalError::DiskFull(_)) => 1,
            Err(JournalError::Unknown(_)) => 2,
            Err(_) => 3,
        }] += 1;
        let is_known = outcome.is_ok();
        let is_unknown = matches!(outcome, Err(JournalError::Unknown(_)));
        if is_known && frames.iter().any(Frame::needs_sync) {
            self.synced();
        }
        for frame in frames {
            match frame {
                Frame::Settled(address, version) => self.settle(address, version, is_known),
                frame if is_known => self.acknowledge(frame),
                frame if is_unknown => self.suppose(frame),
                _ => {}
            }
        }
        Ok(())
    }

    /// The settled frames of before are durable.
    fn synced(&mut self) {
        for (address, version) in mem::take(&mut self.settled) {
            let possible = self.possible.entry(address).or_default();
            possible.retain(|found| found.as_ref().is_none_or(|(write, _)| write.version > version));
        }
    }

    fn settle(&mut self, address: Address, version: Version, is_written: bool) {
        self.possible.entry(address.clone()).or_default().push(None);
        if is_written {
            self.settled.push((address, version));
        }
    }

    fn acknowledge(&mut self, frame: Frame) {
        match after(&self.possible, &frame) {
            Some((address, found)) => drop(self.possible.insert(address, found)),
            None => self.fronts.clear(),
        }
        match frame {
            Frame::Write(write) => self.acknowledged = self.acknowledged.max(write.version.as_u64()),
            Frame::Front(front) => self.fronts.push(front),
            _ => {}
        }
    }

    /// The frame may be there.
    fn suppose(&mut self, frame: Frame) {
        match (after(&self.possible, &frame), frame) {
            (Some((address, found)), _) => {
                let possible = self.possible.entry(address).or_insert_with(|| vec![None]);
                possible.extend(found);
            }
            (None, Frame::Front(front)) => self.fronts.push(front),
            (None, _) => {}
        }
    }
}

/// What may be found of the frame's key if the frame is there. `None` for a frame without a key.
fn after(possible: &BTreeMap<Address, Vec<Found>>, frame: &Frame) -> Option<(Address, Vec<Found>)> {
    let marked = |address: &Address, of: Version, dead: Option<Arc<str>>| {
        let mark = |found: &Found| match found {
            Some((write, _)) if write.version == of => Some((write.clone(), dead.clone())),
            other => other.clone(),
        };
        (address.clone(), possible.get(address).into_iter().flatten().map(mark).collect())
    };
    match frame {
        Frame::Write(write) => Some((write.address.clone(), vec![Some((write.clone(), None))])),
        Frame::Dead(address, version, cause) => Some(marked(address, *version, Some(Arc::clone(cause)))),
        Frame::Retried(address, version) => Some(marked(address, *version, None)),
        Frame::Settled(..) | Frame::Front(_) => None,
    }
}
