//! Frames: what is appended to a journal, and their bytes.

use std::sync::Arc;

use bytes::Bytes;
use terrace_tier::{Deadlines, Timestamp, Version};

/// The key of an entry, as the store knows it. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    /// The tenant, where the cache is built per tenant.
    pub tenant: Option<Arc<str>>,
    /// The encoded key.
    pub key: Bytes,
}

/// A put or removal that the store does not have yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// What is written.
    pub address: Address,
    /// The version that the front issued.
    pub version: Version,
    /// The deadlines of the value. A removal keeps them too.
    pub deadlines: Deadlines,
    /// The envelope of the value, or `None` for a removal.
    pub envelope: Option<Bytes>,
}

/// How the store knows the front whose journal it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrontIdentity {
    /// A random number, drawn when the journal was created. A copy of the directory has the same.
    pub id: u64,
    /// The term of the last opening whose success the journal knows. Zero if there is none.
    pub term: u64,
    /// The nonces of openings that may have been the last ones, oldest first, at most 16: the last one that
    /// succeeded, and those after it whose outcome is not known.
    pub nonces: Vec<u64>,
}

/// What the owner of a journal appends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Frame {
    /// The front has a new write of the key.
    Write(Write),
    /// The store has the key's writes up to this version, or they are discarded.
    Settled(Address, Version),
    /// The write of this version is a dead letter, for the given cause.
    Dead(Address, Version, Arc<str>),
    /// The dead letter of this version is an ordinary write again.
    Retried(Address, Version),
    /// The front is known by these numbers from here on.
    Front(FrontIdentity),
}

/// The longest cause of a dead letter that is kept.
const MAX_CAUSE_BYTES: usize = 1_024;
/// Length and checksum, which precede each body.
pub(crate) const PREFIX: usize = 8;
/// The shortest body: kind, version, `synced_to`, no tenant, an empty key.
const MIN_BODY: usize = 1 + 8 + 8 + 4 + 4;
const NO_TENANT: u32 = u32::MAX;

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const SETTLED: u8 = 3;
const DEAD: u8 = 4;
const RETRIED: u8 = 5;
const FRONT: u8 = 6;

/// What a frame's checksum covers beside its bytes, so that bytes of another place never pass for a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    /// The random number in the segment's head.
    pub(crate) salt: u64,
    /// The frame's first byte in the segment.
    pub(crate) offset: u64,
}

impl Place {
    fn checksum(self, len: u32, body: &[u8]) -> u32 {
        let mut place = [0; 20];
        place[..8].copy_from_slice(&self.salt.to_le_bytes());
        place[8..16].copy_from_slice(&self.offset.to_le_bytes());
        place[16..].copy_from_slice(&len.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&place), body)
    }
}

impl Frame {
    /// Whether the caller waits until the frame is synced. A settled frame that is lost does no harm: its
    /// write is flushed once more, and the store has it already.
    pub(crate) fn needs_sync(&self) -> bool {
        !matches!(self, Self::Settled(..))
    }

    /// The size of the encoded frame.
    pub(crate) fn encoded_len(&self) -> u64 {
        let (address, tail) = match self {
            Self::Write(write) => (Some(&write.address), 32 + write.envelope.as_ref().map_or(0, Bytes::len)),
            Self::Settled(address, _) | Self::Retried(address, _) => (Some(address), 0),
            Self::Dead(address, _, cause) => (Some(address), cut(cause).len()),
            Self::Front(identity) => (None, 16 + 8 * identity.nonces.len()),
        };
        let of =
            |address: &Address| address.key.len() + address.tenant.as_ref().map_or(0, |tenant| tenant.len());
        (PREFIX + MIN_BODY + address.map_or(0, of) + tail) as u64
    }

    /// Appends the frame's bytes to `out`.
    pub(crate) fn encode(&self, place: Place, synced_to: u64, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(&[0; PREFIX]);
        let nowhere = Address { tenant: None, key: Bytes::new() };
        let (kind, version, address) = match self {
            Self::Write(write) if write.envelope.is_some() => (PUT, write.version, &write.address),
            Self::Write(write) => (REMOVE, write.version, &write.address),
            Self::Settled(address, version) => (SETTLED, *version, address),
            Self::Dead(address, version, _) => (DEAD, *version, address),
            Self::Retried(address, version) => (RETRIED, *version, address),
            Self::Front(_) => (FRONT, Version::NONE, &nowhere),
        };
        out.push(kind);
        out.extend_from_slice(&version.as_u64().to_le_bytes());
        out.extend_from_slice(&synced_to.to_le_bytes());
        match &address.tenant {
            Some(tenant) => put_bytes(out, tenant.as_bytes()),
            None => out.extend_from_slice(&NO_TENANT.to_le_bytes()),
        }
        put_bytes(out, &address.key);
        match self {
            Self::Write(write) => {
                let Deadlines { written, fresh_until, stale_until, expires_at } = write.deadlines;
                for time in [written, fresh_until, stale_until, expires_at] {
                    out.extend_from_slice(&time.as_millis().to_le_bytes());
                }
                out.extend_from_slice(write.envelope.as_deref().unwrap_or_default());
            }
            Self::Dead(_, _, cause) => out.extend_from_slice(cut(cause).as_bytes()),
            Self::Front(identity) => identity.encode(out),
            Self::Settled(..) | Self::Retried(..) => {}
        }
        let body = &out[start + PREFIX..];
        let len = body.len() as u32;
        let checksum = place.checksum(len, body);
        out[start..start + 4].copy_from_slice(&len.to_le_bytes());
        out[start + 4..start + PREFIX].copy_from_slice(&checksum.to_le_bytes());
    }
}

impl FrontIdentity {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for number in [self.id, self.term].iter().chain(&self.nonces) {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// Reads all bytes that are left.
    pub(crate) fn decode(input: &mut Input<'_>) -> Option<Self> {
        let (id, term) = (input.u64()?, input.u64()?);
        let mut nonces = Vec::new();
        while !input.0.is_empty() {
            nonces.push(input.u64()?);
        }
        Some(Self { id, term, nonces })
    }
}

/// A frame that was found in a segment.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) frame: Frame,
    /// How far the segment was synced when the frame was written.
    pub(crate) synced_to: u64,
    pub(crate) encoded_len: u64,
}

/// Reads the frame that begins at `place` of a whole segment. `None` if there is none, or if it is damaged.
pub(crate) fn decode(segment: &[u8], place: Place) -> Option<Found> {
    let bytes = segment.get(usize::try_from(place.offset).ok()?..)?;
    let mut input = Input(bytes);
    let (len, checksum) = (input.u32()?, input.u32()?);
    let body = input.0.get(..len as usize)?;
    // Cheap questions first: a search for later frames asks them at every byte.
    if body.len() < MIN_BODY || !(PUT..=FRONT).contains(&body[0]) {
        return None;
    }
    let mut input = Input(&body[1..]);
    let (version, synced_to) = (Version::from_u64(input.u64()?), input.u64()?);
    if synced_to > place.offset || place.checksum(len, body) != checksum {
        return None;
    }
    let frame = decode_body(body[0], version, &mut input)?;
    Some(Found { frame, synced_to, encoded_len: (PREFIX + body.len()) as u64 })
}

/// The results own their bytes: a slice would keep the whole segment in memory.
fn decode_body(kind: u8, version: Version, input: &mut Input<'_>) -> Option<Frame> {
    let tenant = match input.u32()? {
        NO_TENANT => None,
        len => Some(Arc::from(std::str::from_utf8(input.take(len as usize)?).ok()?)),
    };
    let key_len = input.u32()? as usize;
    let address = Address { tenant, key: Bytes::copy_from_slice(input.take(key_len)?) };
    Some(match kind {
        PUT | REMOVE => {
            let mut time = || Some(Timestamp::from_millis(input.u64()?));
            let (written, fresh_until, stale_until, expires_at) = (time()?, time()?, time()?, time()?);
            let deadlines = Deadlines { written, fresh_until, stale_until, expires_at };
            let envelope = (kind == PUT).then(|| Bytes::copy_from_slice(input.0));
            Frame::Write(Write { address, version, deadlines, envelope })
        }
        SETTLED => Frame::Settled(address, version),
        DEAD => Frame::Dead(address, version, Arc::from(std::str::from_utf8(input.0).ok()?)),
        RETRIED => Frame::Retried(address, version),
        _ => Frame::Front(FrontIdentity::decode(input)?),
    })
}

/// Bytes that are read from their beginning. Each method gives `None` where too few are left.
pub(crate) struct Input<'a>(pub(crate) &'a [u8]);

impl<'a> Input<'a> {
    pub(crate) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn cut(cause: &str) -> &str {
    &cause[..cause.floor_char_boundary(MAX_CAUSE_BYTES)]
}
