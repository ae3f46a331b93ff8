//! The journal without threads: what one commit, one opening and one step of reclaiming do.

use std::{collections::VecDeque, io, mem, sync::Arc};

use terrace_tier::Version;

use crate::{
    JournalError, Result,
    directory::{Directory, File, Lock},
    error::is_full,
    frame::{Address, Frame, FrontIdentity, Place, Write},
    live::{At, Live},
    replay::Replay,
    segment::{self, CreateError, Head},
};

/// What a journal is opened with.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    pub(crate) namespace: String,
    pub(crate) segment_bytes: u64,
    pub(crate) queue_bytes: u64,
}

impl JournalOptions {
    /// The journal of `namespace`, with segments of 16 MiB and a queue of 64 MiB.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), segment_bytes: 16 << 20, queue_bytes: 64 << 20 }
    }

    /// The size at which a segment is full, at least 4 KiB. A frame may have half of it.
    #[must_use]
    pub fn segment_bytes(self, bytes: u64) -> Self {
        Self { segment_bytes: bytes.max(4_096), ..self }
    }

    /// How many bytes of frames may wait for the disk. Beyond that an append is [`JournalError::QueueFull`].
    #[must_use]
    pub fn queue_bytes(self, bytes: u64) -> Self {
        Self { queue_bytes: bytes, ..self }
    }

    /// The largest frame, and the largest group of frames that shares a sync.
    pub(crate) fn group_bytes(&self) -> u64 {
        self.segment_bytes / 2
    }
}

/// What an opening found in a journal.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Recovered {
    /// The newest write of each key that is not settled, in no order. Some may never have been acknowledged:
    /// their callers do not know the outcome.
    pub writes: Vec<RecoveredWrite>,
    /// The highest version that the journal ever had, or more. The front issues higher ones.
    pub high: Version,
    /// How the store knows the front.
    pub front: FrontIdentity,
    /// The bytes of a torn write at the end, which were dropped. None of them was acknowledged.
    pub torn_bytes: u64,
}

/// A write that is not settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveredWrite {
    /// The write.
    pub write: Write,
    /// Why it is a dead letter, if it is one.
    pub dead: Option<Arc<str>>,
}

/// How large a journal is, and what it has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStats {
    /// The segments on the disk.
    pub segments: usize,
    /// The bytes of all segments.
    pub disk_bytes: u64,
    /// The bytes of the frames that are needed.
    pub live_bytes: u64,
    /// The keys with a write that is not settled.
    pub live_keys: usize,
    /// The groups of frames that were synced.
    pub syncs: u64,
    /// The frames that were written, without copies.
    pub frames: u64,
    /// The bytes that were copied forward from old segments.
    pub copied_bytes: u64,
}

/// A journal on which one thread works. All calls block.
#[derive(Debug)]
pub(crate) struct Log {
    directory: Arc<dyn Directory>,
    options: JournalOptions,
    /// The segments that are full, the oldest first. All their bytes are synced.
    older: VecDeque<Segment>,
    current: Current,
    /// The last segment anew, where the disk was too full for it at the opening. Until it is made, nothing is
    /// written.
    unmade: Option<(Head, Vec<u8>)>,
    live: Live,
    high: u64,
    front: FrontIdentity,
    ended: Option<Arc<io::Error>>,
    stats: JournalStats,
    // The last field, since the lock must outlive the file.
    _lock: Box<dyn Lock>,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    pub(crate) number: u64,
    pub(crate) bytes: u64,
}

/// The segment that is written.
#[derive(Debug)]
struct Current {
    number: u64,
    salt: u64,
    file: Box<dyn File>,
    bytes: u64,
    /// How many of the bytes are synced.
    synced_to: u64,
}

impl Current {
    /// Makes the segment with these first bytes, durably.
    fn create(directory: &dyn Directory, head: &Head, bytes: &[u8]) -> Result<Self, CreateError> {
        let file = segment::create(directory, head.number, bytes)?;
        let len = bytes.len() as u64;
        Ok(Self { number: head.number, salt: head.salt, file, bytes: len, synced_to: len })
    }

    /// Stands for the segment until it is made.
    fn unmade(head: &Head, bytes: &[u8]) -> Self {
        let len = bytes.len() as u64;
        Self { number: head.number, salt: head.salt, file: Box::new(NoFile), bytes: len, synced_to: len }
    }
}

/// The file of a segment that is not made yet, to which nothing is written.
#[derive(Debug)]
struct NoFile;

impl File for NoFile {
    fn append(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn truncate(&mut self, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }
}

impl Log {
    /// Opens the journal, or creates it.
    pub(crate) fn open(directory: Arc<dyn Directory>, options: JournalOptions) -> Result<(Self, Recovered)> {
        let lock = directory.lock().map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => JournalError::InUse,
            _ => JournalError::io(error),
        })?;
        let replay = Replay::read(&*directory, &options)?;
        let (head, bytes) = replay.last_segment(&options);
        let (current, unmade) = match Current::create(&*directory, &head, &bytes) {
            Ok(current) => (current, None),
            Err(CreateError::NotMade(error)) if is_full(&error) => {
                (Current::unmade(&head, &bytes), Some((head, bytes)))
            }
            Err(error) => return Err(error.into()),
        };
        let dead = |address: &Address| replay.live.cause(address);
        let writes = replay.writes.into_iter();
        let writes = writes.map(|(address, write)| RecoveredWrite { dead: dead(&address), write }).collect();
        let (high, front) = (Version::from_u64(replay.high), replay.front.clone());
        let mut log = Self {
            directory,
            options,
            older: replay.older,
            current,
            unmade,
            live: replay.live,
            high: replay.high,
            front: replay.front,
            ended: None,
            stats: JournalStats::default(),
            _lock: lock,
        };
        log.reclaim();
        Ok((log, Recovered { writes, high, front, torn_bytes: replay.torn_bytes }))
    }

    /// Writes the frames, and syncs them if one of them needs it. After an error none of them is
    /// acknowledged.
    pub(crate) fn commit(&mut self, frames: &[Frame]) -> Result<()> {
        if let Some(cause) = &self.ended {
            return Err(JournalError::Ended(Arc::clone(cause)));
        }
        let written = self.write(frames);
        match &written {
            Ok(()) => self.stats.frames += frames.len() as u64,
            // A full disk must drain. What the store has is settled, even if a crash makes the flusher ask again.
            Err(JournalError::DiskFull(_)) => frames.iter().for_each(|frame| {
                if let Frame::Settled(address, version) = frame {
                    self.live.settle(address, *version);
                }
            }),
            Err(_) => {}
        }
        written
    }

    fn write(&mut self, frames: &[Frame]) -> Result<()> {
        if let Some((head, bytes)) = &self.unmade {
            let made = Current::create(&*self.directory, head, bytes);
            self.current = made.map_err(|error| self.not_made(error))?;
            self.unmade = None;
        }
        let len: u64 = frames.iter().map(Frame::encoded_len).sum();
        if self.current.bytes + len > self.options.segment_bytes {
            self.rotate()?;
        }
        let mut bytes = Vec::with_capacity(len as usize);
        for frame in frames {
            let place = Place { salt: self.current.salt, offset: self.current.bytes + bytes.len() as u64 };
            frame.encode(place, self.current.synced_to, &mut bytes);
        }
        if let Err(error) = self.current.file.append(&bytes) {
            return Err(self.undo(error));
        }
        self.current.bytes += bytes.len() as u64;
        if frames.iter().any(Frame::needs_sync) {
            self.sync().map_err(JournalError::Unknown)?;
        }
        for frame in frames {
            self.live.apply(frame, At { segment: self.current.number, bytes: frame.encoded_len() });
            match frame {
                Frame::Write(write) => self.high = self.high.max(write.version.as_u64()),
                Frame::Front(front) => self.front = front.clone(),
                _ => {}
            }
        }
        Ok(())
    }

    /// Takes back what a failed write has left, durably: a frame that was refused must not come back.
    fn undo(&mut self, error: io::Error) -> JournalError {
        let len = self.current.bytes;
        let undone = self.current.file.truncate(len).and_then(|()| self.current.file.sync_data());
        if undone.is_ok() && is_full(&error) {
            self.current.synced_to = len;
            return JournalError::DiskFull(Arc::new(error));
        }
        JournalError::Unknown(self.end(error))
    }

    /// After a failed sync the system may take the lost bytes for synced, so that a second try proves nothing.
    fn sync(&mut self) -> Result<(), Arc<io::Error>> {
        self.current.file.sync_data().map_err(|error| self.end(error))?;
        self.current.synced_to = self.current.bytes;
        self.stats.syncs += 1;
        Ok(())
    }

    fn end(&mut self, error: io::Error) -> Arc<io::Error> {
        Arc::clone(self.ended.get_or_insert_with(|| Arc::new(error)))
    }

    /// Begins a new segment. All bytes of the older ones are synced by then.
    fn rotate(&mut self) -> Result<()> {
        if self.current.synced_to < self.current.bytes {
            self.sync().map_err(JournalError::Ended)?;
        }
        let head = Head {
            number: self.current.number + 1,
            salt: fastrand::u64(..),
            high: self.high,
            namespace: self.options.namespace.clone(),
            front: self.front.clone(),
        };
        let made = Current::create(&*self.directory, &head, &head.encode());
        let next = made.map_err(|error| self.not_made(error))?;
        let full = mem::replace(&mut self.current, next);
        self.older.push_back(Segment { number: full.number, bytes: full.bytes });
        Ok(())
    }

    fn not_made(&mut self, error: CreateError) -> JournalError {
        match error {
            CreateError::NotMade(error) if is_full(&error) => JournalError::io(error),
            CreateError::NotMade(error) | CreateError::Unknown(error) => JournalError::Ended(self.end(error)),
        }
    }

    /// Removes the oldest segments if nothing in them is live. If the journal is then still larger than
    /// twice its live bytes and two segments, the oldest segment is copied forward and removed.
    pub(crate) fn reclaim(&mut self) {
        // What the last segment replaces in older ones is needed until the last segment is certain, or until the
        // store has everything.
        let is_needed = self.unmade.is_some() && self.live.len() > 0;
        if self.ended.is_some() || is_needed {
            return;
        }
        let reclaimed = self.remove_settled().and_then(|()| {
            if self.disk_bytes() <= 2 * (self.live.bytes() + self.options.segment_bytes) {
                return Ok(());
            }
            self.copy_oldest()?;
            self.remove_settled()
        });
        if let Err(error) = reclaimed {
            self.end(error);
        }
    }

    /// Each name is durably gone before the next one goes. Otherwise a crash could leave a put whose removal,
    /// in the next segment, is gone.
    fn remove_settled(&mut self) -> io::Result<()> {
        while let Some(oldest) = self.older.front().filter(|oldest| !self.live.has_segment(oldest.number)) {
            self.directory.remove(&segment::name(oldest.number))?;
            self.older.pop_front();
            self.directory.sync()?;
        }
        Ok(())
    }

    fn copy_oldest(&mut self) -> io::Result<()> {
        let Some(&Segment { number, .. }) = self.older.front() else { return Ok(()) };
        let bytes = self.directory.read(&segment::name(number))?;
        let scan = segment::scan(number, &bytes, false).map_err(io::Error::other)?;
        drop(bytes);
        let copies = scan.frames.into_iter().flat_map(|found| self.live.copies_of(found.frame, number));
        let copies: Vec<Frame> = copies.collect();
        match self.write(&copies) {
            Ok(()) => self.stats.copied_bytes += copies.iter().map(Frame::encoded_len).sum::<u64>(),
            // The segment stays where it is until there is space.
            Err(JournalError::DiskFull(_)) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
        Ok(())
    }

    /// The error of each later append, once an error has ended the journal.
    pub(crate) fn ended(&self) -> Option<JournalError> {
        self.ended.as_ref().map(|cause| JournalError::Ended(Arc::clone(cause)))
    }

    pub(crate) fn group_bytes(&self) -> u64 {
        self.options.group_bytes()
    }

    /// Makes what settled frames say durable too.
    pub(crate) fn close(mut self) {
        if self.ended.is_none() && self.current.synced_to < self.current.bytes {
            // A settled frame that is lost does no harm.
            let _ = self.sync();
        }
    }

    pub(crate) fn stats(&self) -> JournalStats {
        JournalStats {
            segments: self.older.len() + 1,
            disk_bytes: self.disk_bytes(),
            live_bytes: self.live.bytes(),
            live_keys: self.live.len(),
            ..self.stats
        }
    }

    fn disk_bytes(&self) -> u64 {
        self.current.bytes + self.older.iter().map(|segment| segment.bytes).sum::<u64>()
    }
}
