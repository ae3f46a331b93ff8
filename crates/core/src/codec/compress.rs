//! The payload in a frame is compressed and decompressed here with LZ4.

use super::{DecodeError, envelope};

/// The most bytes that one byte of an LZ4 block can stand for.
const MAX_RATIO: usize = 255;

/// Compresses the payload of the frame. The result is `None` if the compressed payload is not smaller.
pub(super) fn shrink(frame: &[u8]) -> Option<Vec<u8>> {
    let raw = &frame[envelope::LEN..];
    let mut out = vec![0; envelope::LEN + lz4_flex::block::get_maximum_output_size(raw.len())];
    let len = lz4_flex::block::compress_into(raw, &mut out[envelope::LEN..]).ok()?;
    if len >= raw.len() {
        return None;
    }
    out.truncate(envelope::LEN + len);
    Some(out)
}

/// Decompresses `payload` to `raw_len` bytes. The caller has checked `raw_len` against the limit of the
/// settings.
pub(super) fn grow(payload: &[u8], raw_len: usize) -> Result<Vec<u8>, DecodeError> {
    // The length is checked before the allocation, so that a few bytes cannot claim much memory.
    if raw_len > payload.len().saturating_mul(MAX_RATIO) {
        return Err(DecodeError::TooLarge);
    }
    let mut raw = vec![0; raw_len];
    match lz4_flex::block::decompress_into(payload, &mut raw) {
        Ok(len) if len == raw_len => Ok(raw),
        _ => Err(DecodeError::Payload),
    }
}
