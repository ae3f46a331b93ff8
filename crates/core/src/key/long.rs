//! Keys as shared tiers and logs know them: the encoded key, or the digest of a long one.
//!
//! A prompt or a document may be a key of any length. A key of more than [`MAX_KEY_BYTES`] is known by a
//! marker of eight bytes and SHA-256 of the encoded key. A short key that looks like such a digest is
//! digested too, so two keys never have the same bytes, unless SHA-256 collides.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

use super::{KeyError, MAX_KEY_BYTES, decode_key, encode, is_known_to_decode, with_encoded};
use crate::{
    Error, ErrorKind, Result,
    codec::{Shape, lost_field},
};

/// The bytes before the digest of a long key. They are no text.
const MARKER: [u8; 8] = *b"\xd9TRCkey\xff";
/// The length of a digested key.
const DIGESTED_BYTES: usize = MARKER.len() + 32;

/// The bytes by which shared tiers and logs know `key`.
///
/// # Errors
/// The call fails with [`ErrorKind::Key`] for a key that the format refuses, and for one of more than 16 MiB.
///
/// # Cost
/// The cost of [`encode_key`](super::encode_key), and one pass of SHA-256 over a long key.
pub(crate) fn shared_key<K: Serialize + DeserializeOwned + Eq + 'static>(key: &K) -> Result<Bytes> {
    with_encoded(key, |bytes| {
        if bytes.len() <= MAX_KEY_BYTES && !is_digested(bytes) {
            return Ok(Bytes::copy_from_slice(bytes));
        }
        let mut digested = BytesMut::with_capacity(DIGESTED_BYTES);
        digested.put_slice(&MARKER);
        digested.put_slice(&Sha256::digest(bytes));
        Ok(digested.freeze())
    })
}

/// Decodes the key that a log names.
///
/// # Errors
/// The call fails with [`ErrorKind::Key`] for bytes that no key of this type encodes to, and for a digest.
pub(crate) fn decode_shared_key<K: DeserializeOwned>(bytes: &[u8]) -> Result<K> {
    if is_digested(bytes) {
        return Err(Error::new(ErrorKind::Key, "a key cannot be decoded from its digest"));
    }
    decode_key(bytes)
}

/// Whether shared tiers and logs know the key by its digest alone.
pub(crate) fn is_long_key<K: Serialize + 'static>(key: &K) -> bool {
    if let Some(text) = (key as &dyn std::any::Any).downcast_ref::<String>() {
        return text.len() > MAX_KEY_BYTES;
    }
    if is_known_to_decode::<K>() || size_of::<K>() == 0 {
        return false;
    }
    let mut bytes = Vec::new();
    encode::write(key, &mut bytes).is_ok() && (bytes.len() > MAX_KEY_BYTES || is_digested(&bytes))
}

fn is_digested(bytes: &[u8]) -> bool {
    bytes.len() == DIGESTED_BYTES && bytes.starts_with(&MARKER)
}

/// Refuses a key type by its shape: no key of it, or not each one, could be encoded.
///
/// # Errors
/// The call fails with [`ErrorKind::Key`] for a type that holds a float, a map, or a part whose form depends on
/// the value, and for one with a field that serde only reads or only writes.
///
/// # Cost
/// Some hundred samples of the type.
pub(crate) fn check_type<K: Serialize + DeserializeOwned + 'static>() -> Result<()> {
    if is_known_to_decode::<K>() {
        return Ok(());
    }
    let shape = Shape::of::<K>();
    match (shape.has_float(), shape.has_map(), shape.needs_self_describing()) {
        (true, _, _) => return Err(KeyError::Float.into()),
        (_, true, _) => return Err(KeyError::Map.into()),
        (_, _, true) => return Err(KeyError::Any.into()),
        _ => {}
    }
    match lost_field::<K>() {
        Some(lost) => Err(Error::new(ErrorKind::Key, format!("two keys could become one: {lost}"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_any_length_has_bytes_of_its_own() {
        let short = "x".repeat(MAX_KEY_BYTES);
        assert_eq!(shared_key(&short).expect("fits").len(), MAX_KEY_BYTES);
        let long = |text: &str| shared_key(&text.repeat(MAX_KEY_BYTES + 1)).expect("digested");
        assert_eq!(long("x").len(), DIGESTED_BYTES);
        assert_ne!(long("x"), long("y"));
        assert!(is_long_key(&"x".repeat(MAX_KEY_BYTES + 1)) && !is_long_key(&short));
        assert!(is_long_key(&(1_u8, vec!["x".to_owned(); 2_000])) && !is_long_key(&(1_u8, "x".to_owned())));
        assert!(decode_shared_key::<String>(&long("x")).is_err());
        assert!(decode_shared_key::<Vec<u8>>(&long("x")).is_err());
    }

    #[test]
    fn a_short_key_that_looks_like_a_digest_is_not_the_long_one() {
        let long = shared_key(&vec![1_u8; MAX_KEY_BYTES + 1]).expect("digested");
        let forged = shared_key(&long.to_vec()).expect("digested again");
        assert_ne!(forged, long);
        assert!(is_long_key(&long.to_vec()));
        assert_ne!(shared_key(&forged.to_vec()).expect("and again"), forged);
    }

    #[test]
    fn a_key_beyond_the_bound_is_refused_with_a_cure() {
        let error = shared_key(&"x".repeat(super::super::MAX_LONG_KEY_BYTES + 1)).expect_err("too long");
        assert_eq!(error.kind(), ErrorKind::Key);
        assert!(error.to_string().contains("Digest::of"), "{error}");
    }
}
