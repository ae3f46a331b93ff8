//! LZ4 within a frame.

use super::{DecodeError, envelope};

/// No LZ4 block is larger than this many times its bytes.
const MAX_RATIO: usize = 255;

/// The frame with its payload compressed, if that is smaller.
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

/// The `raw_len` bytes that `payload` stands for; the caller has checked them against its limit.
pub(super) fn grow(payload: &[u8], raw_len: usize) -> Result<Vec<u8>, DecodeError> {
    // Before anything is allocated: a few bytes cannot claim much.
    if raw_len > payload.len().saturating_mul(MAX_RATIO) {
        return Err(DecodeError::TooLarge);
    }
    let mut raw = vec![0; raw_len];
    match lz4_flex::block::decompress_into(payload, &mut raw) {
        Ok(len) if len == raw_len => Ok(raw),
        _ => Err(DecodeError::Payload),
    }
}
