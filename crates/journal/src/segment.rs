//! Segments: the files of a journal. Each has a head, then frames.

use std::{io, sync::Arc};

use crate::{
    JournalError, Result,
    directory::{Directory, File},
    frame::{self, Found, FrontIdentity, Input, Place, put_bytes},
};

const MAGIC: &[u8; 8] = b"terrjrnl";
const FORMAT: u32 = 1;
/// Magic, format, length of the rest, checksum of the rest.
const PREFIX: usize = 8 + 4 + 4 + 4;
const EXTENSION: &str = ".seg";
/// A segment is written under this name until its head is synced, so that each `.seg` has a whole head.
pub(crate) const UNFINISHED: &str = "new.tmp";

/// The head of a segment. It repeats what earlier segments said of the whole journal, since they may be gone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// The number in the file's name.
    pub(crate) number: u64,
    /// A random number of this file, which the checksum of each frame covers.
    pub(crate) salt: u64,
    /// The highest version that any earlier frame had.
    pub(crate) high: u64,
    pub(crate) namespace: String,
    pub(crate) front: FrontIdentity,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        for number in [self.number, self.salt, self.high] {
            rest.extend_from_slice(&number.to_le_bytes());
        }
        put_bytes(&mut rest, self.namespace.as_bytes());
        self.front.encode(&mut rest);
        let mut out = MAGIC.to_vec();
        for number in [FORMAT, rest.len() as u32, crc32c::crc32c(&rest)] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&rest);
        out
    }

    /// The head and its length.
    fn decode(number: u64, segment: &[u8]) -> Result<(Self, u64)> {
        let corrupt = |what| JournalError::Corrupt { segment: number, offset: 0, what };
        let mut input = Input(segment);
        let magic = input.take(MAGIC.len()).ok_or(corrupt("the head is cut off"))?;
        let format = input.u32().ok_or(corrupt("the head is cut off"))?;
        if magic != MAGIC {
            return Err(corrupt("it does not begin as a segment does"));
        }
        if format != FORMAT {
            return Err(JournalError::Format { segment: number, format });
        }
        let rest = input.u32().zip(input.u32()).and_then(|(len, checksum)| {
            let rest = input.take(len as usize)?;
            (crc32c::crc32c(rest) == checksum).then_some(rest)
        });
        let rest = rest.ok_or(corrupt("the head does not have its checksum"))?;
        let head = Self::decode_rest(&mut Input(rest)).ok_or(corrupt("the head cannot be read"))?;
        if head.number != number {
            return Err(corrupt("the file was given the name of another segment"));
        }
        Ok((head, (PREFIX + rest.len()) as u64))
    }

    fn decode_rest(input: &mut Input<'_>) -> Option<Self> {
        let (number, salt, high) = (input.u64()?, input.u64()?, input.u64()?);
        let len = input.u32()? as usize;
        let namespace = std::str::from_utf8(input.take(len)?).ok()?.to_owned();
        Some(Self { number, salt, high, namespace, front: FrontIdentity::decode(input)? })
    }
}

pub(crate) fn name(number: u64) -> String {
    format!("{number:08}{EXTENSION}")
}

/// The number of the segment of this name, if it is one.
pub(crate) fn number(name: &str) -> Option<u64> {
    let number = name.strip_suffix(EXTENSION)?.parse().ok()?;
    (self::name(number) == name).then_some(number)
}

/// Makes a segment that begins with `bytes`, whose name and bytes are durable when this returns. If a segment
/// has the number, it is replaced.
pub(crate) fn create(
    directory: &dyn Directory,
    number: u64,
    bytes: &[u8],
) -> Result<Box<dyn File>, CreateError> {
    let written = directory.create(UNFINISHED).and_then(|mut file| file.append(bytes).map(|()| file));
    let mut file = written.map_err(|error| {
        // Nothing depends on the file, and each opening removes it as well.
        let _ = directory.remove(UNFINISHED);
        CreateError::NotMade(error)
    })?;
    let renamed = file.sync_data().and_then(|()| directory.rename(UNFINISHED, &name(number)));
    renamed.and_then(|()| directory.sync()).map_err(CreateError::Unknown)?;
    Ok(file)
}

/// Why a segment was not made.
#[derive(Debug)]
pub(crate) enum CreateError {
    /// It is certainly not there.
    NotMade(io::Error),
    /// It may be there.
    Unknown(io::Error),
}

impl From<CreateError> for JournalError {
    fn from(error: CreateError) -> Self {
        match error {
            CreateError::NotMade(error) => Self::io(error),
            CreateError::Unknown(error) => Self::Io(Arc::new(error)),
        }
    }
}

/// A segment as it was read.
#[derive(Debug)]
pub(crate) struct Scan {
    pub(crate) head: Head,
    pub(crate) frames: Vec<Found>,
    /// The bytes after the last frame, which a torn write left. Only the last segment may have any.
    pub(crate) torn_bytes: u64,
}

/// Reads a whole segment.
///
/// # Errors
/// [`JournalError::Corrupt`] where bytes that were synced cannot be read: a bad frame in a segment that is not
/// the last one, or one before a place that a later frame knows as synced.
pub(crate) fn scan(number: u64, segment: &[u8], is_last: bool) -> Result<Scan> {
    let (head, head_len) = Head::decode(number, segment)?;
    let (mut offset, mut frames) = (head_len, Vec::new());
    while let Some(found) = frame::decode(segment, Place { salt: head.salt, offset }) {
        offset += found.encoded_len;
        frames.push(found);
    }
    let len = segment.len() as u64;
    let is_damaged = offset < len && (!is_last || is_synced_beyond(segment, head.salt, offset));
    if is_damaged {
        let what = "a frame that was synced does not have its checksum";
        return Err(JournalError::Corrupt { segment: number, offset, what });
    }
    Ok(Scan { head, frames, torn_bytes: len - offset })
}

/// Whether a frame after `offset` knows that the segment was synced beyond it. The length of the frame at
/// `offset` may be damaged, so that the search looks at every byte.
fn is_synced_beyond(segment: &[u8], salt: u64, offset: u64) -> bool {
    (offset + 1..segment.len() as u64)
        .filter_map(|later| frame::decode(segment, Place { salt, offset: later }))
        .any(|later| later.synced_to > offset)
}
