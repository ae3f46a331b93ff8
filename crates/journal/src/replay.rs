//! Reading the segments of a journal when it is opened.

use std::collections::{HashMap, VecDeque};

use crate::{
    JournalError, JournalOptions, Result,
    directory::Directory,
    frame::{Address, Frame, FrontIdentity, Place, Write},
    live::{Applied, At, Live},
    log::Segment,
    segment::{self, Head, Scan, UNFINISHED},
};

/// What the segments of a journal say, all frames applied in their order.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    /// All segments but the last.
    pub(crate) older: VecDeque<Segment>,
    /// The number and the frames of the last segment, which is 1 and has none in a new journal.
    last: (u64, Vec<Frame>),
    pub(crate) live: Live,
    pub(crate) writes: HashMap<Address, Write>,
    pub(crate) high: u64,
    pub(crate) front: FrontIdentity,
    pub(crate) torn_bytes: u64,
}

impl Replay {
    pub(crate) fn read(directory: &dyn Directory, options: &JournalOptions) -> Result<Self> {
        let names = directory.list().map_err(JournalError::io)?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment::number(name)).collect();
        numbers.sort_unstable();
        let mut replay = Self::default();
        for pair in numbers.windows(2) {
            if pair[0] + 1 != pair[1] {
                let what = "the segment is missing";
                return Err(JournalError::Corrupt { segment: pair[0] + 1, offset: 0, what });
            }
        }
        for number in &numbers {
            let bytes = directory.read(&segment::name(*number)).map_err(JournalError::io)?;
            let is_last = numbers.last() == Some(number);
            let scan = segment::scan(*number, &bytes, is_last)?;
            if scan.head.namespace != options.namespace {
                return Err(JournalError::OtherNamespace { namespace: scan.head.namespace });
            }
            replay.apply(scan, bytes.len() as u64, is_last);
        }
        if numbers.is_empty() {
            replay.last.0 = 1;
            replay.front.id = fastrand::u64(1..);
        }
        if names.iter().any(|name| name == UNFINISHED) {
            directory.remove(UNFINISHED).map_err(JournalError::io)?;
        }
        Ok(replay)
    }

    fn apply(&mut self, scan: Scan, bytes: u64, is_last: bool) {
        self.high = self.high.max(scan.head.high);
        self.front = scan.head.front;
        let number = scan.head.number;
        for found in &scan.frames {
            let at = At { segment: number, bytes: found.encoded_len };
            let applied = self.live.apply(&found.frame, at);
            match (&found.frame, applied) {
                (Frame::Write(write), applied) => {
                    self.high = self.high.max(write.version.as_u64());
                    if applied == Applied::Live {
                        self.writes.insert(write.address.clone(), write.clone());
                    }
                }
                (Frame::Settled(address, _), Applied::Settled) => drop(self.writes.remove(address)),
                (Frame::Front(front), _) => self.front = front.clone(),
                _ => {}
            }
        }
        if is_last {
            self.torn_bytes = scan.torn_bytes;
            self.last = (number, scan.frames.into_iter().map(|found| found.frame).collect());
        } else {
            self.older.push_back(Segment { number, bytes });
        }
    }

    /// The last segment anew: its head, and its bytes without a torn tail. The opening replaces the file by
    /// them. What a crash of the process alone has left was never synced, and after a failed sync the
    /// system may show bytes that are not on the disk; a new file that is synced is certain.
    pub(crate) fn last_segment(&self, options: &JournalOptions) -> (Head, Vec<u8>) {
        let (number, frames) = &self.last;
        let head = Head {
            number: *number,
            salt: fastrand::u64(..),
            high: self.high,
            namespace: options.namespace.clone(),
            front: self.front.clone(),
        };
        let mut bytes = head.encode();
        for frame in frames {
            let place = Place { salt: head.salt, offset: bytes.len() as u64 };
            frame.encode(place, 0, &mut bytes);
        }
        (head, bytes)
    }
}
