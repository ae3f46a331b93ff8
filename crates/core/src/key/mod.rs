//! This module has a serde format for keys that can be decoded and that SQL can produce, keys borrowed
//! for a lookup, and digests of namespace, tenant and key that do not collide.
//!
//! # The format
//!
//! Any `K: Serialize + DeserializeOwned + Eq` is a key, and needs no derive of this crate. A key has at
//! most [`MAX_LONG_KEY_BYTES`] bytes and nests at most 64 levels deep. To serde the format of keys is not
//! human-readable (a UUID is its 16 bytes). A cache with a shared tier, a store or a watched origin refuses a
//! key type that holds a float or a map when it is built.
//!
//! # Long keys
//!
//! Shared tiers and logs keep a key of up to [`MAX_KEY_BYTES`] bytes as it is. They know a longer key, such as
//! a prompt, by a marker of eight bytes and the SHA-256 of its bytes. This costs one pass of SHA-256 a call.
//! A log cannot name a long key to the near tier, so a near copy of a long key is valid for a second after it
//! was last read from a shared tier, at each level but `Ttl`. A [`Digest`] as the key has no such limit.
//!
//! | Rust | bytes | SQL (Postgres) |
//! |---|---|---|
//! | text, `char` | its UTF-8 | `convert_to(x, 'UTF8')` |
//! | integer up to 64 bits | 8, big-endian, two's complement | `int8send(x)` (an int4 too) |
//! | `i128`, `u128` | 16, big-endian, two's complement | |
//! | `bool` | 1: `00` or `01` | `boolsend(x)` |
//! | serde bytes, UUID, [`Digest`], `Vec<u8>`, `[u8; N]` | the bytes themselves | `x` (bytea), `uuid_send(x)` |
//! | newtype | its content | |
//! | tuple, struct, sequence | each element: length (4, big-endian), then its bytes | `int4send(octet_length(e)) \|\| e` of each |
//! | `Option` | `00`, or `01` and the content | `'\x00'::bytea`, `'\x01'::bytea \|\| e` |
//! | enum | name of the variant: length (4), UTF-8; then the content | the name as an element of a tuple, then the content |
//! | unit | nothing | `''::bytea` |
//! | float, map | refused: no canonical form | |
//!
//! In the table, `e` stands for an element in the form of the element's own row. For example, a user
//! `(tenant int4, name text)` is `int4send(8) || int8send(tenant) || int4send(octet_length(name)) ||
//! convert_to(name, 'UTF8')` (in a database whose encoding is UTF-8).
//!
//! A `u8` is one byte in a sequence of `u8`, and in a tuple or array that has only `u8` elements.
//! Everywhere else a `u8` is an integer of 8 bytes. The fields of a struct stand in the order of their
//! declaration, and the names of fields do not count.
//!
//! No two keys of one type have the same bytes. [`encode_key`] decodes each encoded key and compares the
//! result with the key, so that a field which serde skips gives an error, and never makes one key of
//! two.

mod borrowed;
mod canonical;
mod decode;
mod digest;
mod encode;
mod long;
mod serializer;
mod variant;

use std::{any::TypeId, cell::Cell, fmt, ops::Deref};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Result};

pub use borrowed::BorrowedKey;
pub use digest::Digest;
pub(crate) use long::{check_type, decode_shared_key, is_long_key, shared_key};
pub use terrace_tier::{KeyDigest, Scope, TierKey, key_digest};
pub(crate) use variant::NamedVariant;

/// The most bytes of an encoded key that shared tiers and logs keep as they are. They know a longer key by
/// its digest.
pub const MAX_KEY_BYTES: usize = 4096;

/// The most bytes that an encoded key may have at all.
pub const MAX_LONG_KEY_BYTES: usize = 16 << 20;

/// How deep a key may nest.
const MAX_DEPTH: u8 = 64;

/// The bytes of a key in the format of this module, which are at most [`MAX_KEY_BYTES`]. A clone of an
/// `EncodedKey` is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EncodedKey(Bytes);

impl EncodedKey {
    /// Encodes `key` and checks that the bytes decode to an equal key.
    ///
    /// # Errors
    /// The errors are those of [`encode_key`].
    pub fn of<K: Serialize + DeserializeOwned + Eq + 'static>(key: &K) -> Result<Self> {
        encode_key(key).map(Self)
    }

    /// Makes an encoded key of bytes from another source, such as a log.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::Key`] for more than [`MAX_KEY_BYTES`] bytes.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        let bytes = bytes.into();
        if bytes.len() > MAX_KEY_BYTES {
            return Err(KeyError::TooLong { most: MAX_KEY_BYTES }.into());
        }
        Ok(Self(bytes))
    }

    /// Decodes the key.
    ///
    /// # Errors
    /// The errors are those of [`decode_key`].
    pub fn decode<K: DeserializeOwned>(&self) -> Result<K> {
        decode_key(&self.0)
    }

    /// The encoded bytes.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// The encoded bytes, owned.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl Deref for EncodedKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Shows only the length of the key, since keys may be personal data.
impl fmt::Debug for EncodedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EncodedKey({} bytes)", self.0.len())
    }
}

/// Encodes `key` in the format of this module.
///
/// # Errors
/// The call fails with [`ErrorKind::Key`] if the key is longer than [`MAX_KEY_BYTES`], nests deeper than
/// 64 levels, holds a float or a map, or does not decode to itself (because serde skips a field).
///
/// # Cost
/// Encoding makes one allocation of the exact length, and decodes the key once for the check. Text,
/// integers, `bool`, `char` and [`Digest`] are not decoded, since only serde or this crate reads and
/// writes them.
///
/// ```
/// let bytes = terrace_core::key::encode_key(&(7_u32, "ann".to_string()))?;
/// assert_eq!(&bytes[..], b"\0\0\0\x08\0\0\0\0\0\0\0\x07\0\0\0\x03ann");
/// # Ok::<(), terrace_core::Error>(())
/// ```
pub fn encode_key<K: Serialize + DeserializeOwned + Eq + 'static>(key: &K) -> Result<Bytes> {
    with_encoded(key, |bytes| match bytes.len() {
        0..=MAX_KEY_BYTES => Ok(Bytes::copy_from_slice(bytes)),
        _ => Err(KeyError::TooLong { most: MAX_KEY_BYTES }.into()),
    })
}

/// Encodes `key`, checks that the bytes decode to an equal key, and hands them to `use_bytes`.
fn with_encoded<K, T>(key: &K, use_bytes: impl FnOnce(&[u8]) -> Result<T>) -> Result<T>
where
    K: Serialize + DeserializeOwned + Eq + 'static,
{
    // The buffer is taken and not borrowed, since the key's own code may encode another key.
    let mut scratch = SCRATCH.take();
    scratch.clear();
    encode::write(key, &mut scratch)?;
    if !is_known_to_decode::<K>() {
        // The text of a decode error may hold a part of the key.
        let decoded: K = decode::from_slice(&scratch).map_err(|_cause| not_reversible())?;
        if decoded != *key {
            return Err(not_reversible());
        }
    }
    let used = use_bytes(&scratch);
    if scratch.capacity() <= MOST_SCRATCH_BYTES {
        SCRATCH.set(scratch);
    }
    used
}

/// The most bytes of the buffer that a thread keeps between two keys.
const MOST_SCRATCH_BYTES: usize = 64 << 10;

thread_local! {
    /// The buffer in which a key is encoded until its length is known.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Whether only the code of serde and of this crate reads and writes a key of this type.
fn is_known_to_decode<K: 'static>() -> bool {
    use TypeId as Id;
    [
        [Id::of::<u8>(), Id::of::<u16>(), Id::of::<u32>(), Id::of::<u64>(), Id::of::<u128>()],
        [Id::of::<i8>(), Id::of::<i16>(), Id::of::<i32>(), Id::of::<i64>(), Id::of::<i128>()],
        [Id::of::<String>(), Id::of::<char>(), Id::of::<bool>(), Id::of::<Digest>(), Id::of::<()>()],
    ]
    .as_flattened()
    .contains(&Id::of::<K>())
}

/// Decodes the key whose encoded form is `bytes`.
///
/// # Errors
/// The call fails with [`ErrorKind::Key`] for bytes that no key of this type encodes to. Decoding never
/// panics.
pub fn decode_key<K: DeserializeOwned>(bytes: &[u8]) -> Result<K> {
    if bytes.len() > MAX_KEY_BYTES {
        return Err(KeyError::TooLong { most: MAX_KEY_BYTES }.into());
    }
    Ok(decode::from_slice(bytes)?)
}

fn not_reversible() -> Error {
    Error::new(
        ErrorKind::Key,
        "the key does not decode to itself, so two keys could become one: \
         does serde skip or rewrite one of its fields?",
    )
}

/// The reasons why the format refuses a key or bytes.
#[derive(Debug)]
enum KeyError {
    TooLong { most: usize },
    TooDeep,
    Float,
    Map,
    Any,
    Malformed,
    Custom(String),
}

impl fmt::Display for KeyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { most } => write!(
                f,
                "the key is longer than {most} bytes: use `Digest::of(&key)` as the key instead"
            ),
            Self::TooDeep => write!(f, "the key nests deeper than {MAX_DEPTH} levels"),
            Self::Float => f.write_str("a key cannot hold a float: 0.0 equals -0.0, and NaN does not equal itself"),
            Self::Map => {
                f.write_str("a key cannot hold a map: its order is not fixed; use a sequence of pairs")
            }
            Self::Any => f.write_str(
                "a key cannot hold `flatten`, `untagged`, internally tagged or `Value` types: the bytes do not \
                 say of which type they are",
            ),
            Self::Malformed => f.write_str("the bytes are not a key of this type"),
            Self::Custom(message) => f.write_str(message),
        }
    }
}

impl std::error::Error for KeyError {}

impl serde::ser::Error for KeyError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

impl serde::de::Error for KeyError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Self::Custom(message.to_string())
    }
}

impl From<KeyError> for Error {
    fn from(cause: KeyError) -> Self {
        Self::new(ErrorKind::Key, cause.to_string())
    }
}

#[cfg(test)]
mod tests;
