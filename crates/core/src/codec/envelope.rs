//! An envelope surrounds the bytes of a value. The docs of [`codec`](super) have the table of its
//! fields.

use super::DecodeError;
use crate::key::KeyDigest;

/// The first bytes of every envelope.
const MAGIC: [u8; 4] = *b"\xd9TRC";
/// The version of the envelope's format.
const FORMAT: u8 = 1;
/// The length of the header that this version of the format writes.
pub(super) const LEN: usize = 50;
/// The offset of the checksum, which covers all bytes but its own.
const CHECKSUM_AT: usize = 46;
/// The flags that a reader must know. A reader may ignore the other flags. No flag is defined yet.
const REQUIRED_FLAGS: u8 = 0x0f;

/// What an envelope is of: the schema number and the shape of its value type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) schema: u32,
    pub(super) shape: u64,
}

/// The fields that precede the payload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Header {
    pub(super) codec: u8,
    pub(super) compression: u8,
    pub(super) schema: u32,
    pub(super) shape: u64,
    pub(super) key: KeyDigest,
    /// The length of the decompressed payload.
    pub(super) raw_len: u32,
}

impl Header {
    /// Writes the header into the first [`LEN`] bytes of `frame`. The other `payload_len` bytes of the
    /// frame are the payload.
    pub(super) fn write(&self, frame: &mut [u8], payload_len: u32) {
        let fields: [&[u8]; 8] = [
            &MAGIC,
            &[FORMAT, self.codec, self.compression, 0],
            &(LEN as u16).to_be_bytes(),
            &self.schema.to_be_bytes(),
            &self.shape.to_be_bytes(),
            &self.key,
            &payload_len.to_be_bytes(),
            &self.raw_len.to_be_bytes(),
        ];
        let mut at = 0;
        for field in fields {
            frame[at..at + field.len()].copy_from_slice(field);
            at += field.len();
        }
        let checksum = checksum(frame);
        frame[CHECKSUM_AT..LEN].copy_from_slice(&checksum.to_be_bytes());
    }

    /// What the first envelope of `body` says of itself, and its length, without a check of its bytes. `None`
    /// if no whole envelope of this format stands there.
    pub(super) fn peek(body: &[u8]) -> Option<(Kind, usize)> {
        let head = body.first_chunk::<LEN>().filter(|head| head.starts_with(&MAGIC) && head[4] == FORMAT)?;
        let header_len = usize::from(u16::from_be_bytes(field(head, 8)));
        let len = header_len.checked_add(u32::from_be_bytes(field(head, 38)) as usize)?;
        let kind =
            Kind { schema: u32::from_be_bytes(field(head, 10)), shape: u64::from_be_bytes(field(head, 14)) };
        (header_len >= LEN && len <= body.len()).then_some((kind, len))
    }

    /// Whether an envelope begins here, which may have a format that this version does not know.
    pub(super) fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(&MAGIC)
    }

    /// Reads the header and the payload, if the magic number, format, lengths and checksum are right.
    pub(super) fn read(frame: &[u8]) -> Result<(Self, &[u8]), DecodeError> {
        if !frame.starts_with(&MAGIC) {
            return Err(DecodeError::Foreign);
        }
        let Some((head, _)) = frame.split_first_chunk::<LEN>() else { return Err(DecodeError::Truncated) };
        if head[4] != FORMAT {
            return Err(DecodeError::Format { found: head[4] });
        }
        let header_len = usize::from(u16::from_be_bytes(field(head, 8)));
        let payload_len = u32::from_be_bytes(field(head, 38));
        if header_len < LEN || header_len as u64 + u64::from(payload_len) != frame.len() as u64 {
            return Err(DecodeError::Truncated);
        }
        if checksum(frame) != u32::from_be_bytes(field(head, CHECKSUM_AT)) {
            return Err(DecodeError::Checksum);
        }
        if head[7] & REQUIRED_FLAGS != 0 {
            return Err(DecodeError::Flags { found: head[7] });
        }
        let header = Self {
            codec: head[5],
            compression: head[6],
            schema: u32::from_be_bytes(field(head, 10)),
            shape: u64::from_be_bytes(field(head, 14)),
            key: field(head, 22),
            raw_len: u32::from_be_bytes(field(head, 42)),
        };
        Ok((header, &frame[header_len..]))
    }
}

/// The field of `N` bytes at offset `at`. All fields are inside the header.
fn field<const N: usize>(head: &[u8; LEN], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&head[at..at + N]);
    bytes
}

/// Computes CRC32C over all bytes but the checksum itself.
fn checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..CHECKSUM_AT]), &frame[LEN..])
}
