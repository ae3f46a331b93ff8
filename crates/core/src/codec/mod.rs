//! A value becomes bytes by a codec, a compression, and an envelope that says what the bytes are and to
//! which key they belong.
//!
//! [`seal`] makes an envelope, and [`open()`] decodes the value in an envelope. Bytes that are not a
//! value of this key and this type give a [`DecodeError`], and never a panic or another value.
//!
//! # The envelope
//!
//! The numbers in an envelope are big-endian.
//!
//! | offset | bytes | field |
//! |---:|---:|---|
//! | 0 | 4 | magic: `d9 54 52 43` |
//! | 4 | 1 | format of the envelope: 1 |
//! | 5 | 1 | codec: 1 postcard, 2 JSON, 3 bincode |
//! | 6 | 1 | compression: 0 none, 1 LZ4 (block) |
//! | 7 | 1 | flags, of which none is defined: a reader refuses unknown flags in the low half, and ignores the high half |
//! | 8 | 2 | header length: 50. The payload begins there, and a reader skips what a longer header adds |
//! | 10 | 4 | the user's schema number |
//! | 14 | 8 | fingerprint of the type's [`Shape`] |
//! | 22 | 16 | digest of namespace, tenant and key ([`key_digest`](crate::key::key_digest)) |
//! | 38 | 4 | payload length. Nothing follows the payload but further envelopes |
//! | 42 | 4 | length of the decompressed payload |
//! | 46 | 4 | CRC32C over all other bytes |
//! | 50 | | payload |
//!
//! # Several value types
//!
//! A cache may keep up to four envelopes of one key, one behind the other, each of another schema number or
//! shape. Programs whose value types differ then share the cache: each of them reads the envelope of its own
//! type. All envelopes of a key have one version and one life, since whatever changes the key drops them all.
//! A record in a store has one envelope.
//!
//! # Codecs
//!
//! Each envelope names its codec and compression, and a reader decodes it by these names. Writers with
//! different settings may therefore share a cache, and the settings may change while a cache is in use.
//!
//! - [`Codec::Postcard`], the default, is small and fast. Postcard cannot carry types whose serde form
//!   is known only from a value (`flatten`, `untagged`, internally tagged enums, `serde_json::Value`),
//!   nor types that leave fields out (`skip_serializing_if`).
//! - [`Codec::Json`] is larger and readable, and carries all types of serde. JSON refuses a value that
//!   would read back as another value: a float that is not finite, `Some(None)`, `Some(())`.
//! - `Codec::Bincode`, behind the feature `bincode`, is bincode 2, which is no longer maintained
//!   (RUSTSEC-2025-0141). Bincode carries the same types as postcard.
//!
//! A cache tries its value type on samples when it is built, and refuses a type that its codec cannot carry,
//! with the name of the field. It also refuses a type with a field that only one of `Serialize` and
//! `Deserialize` knows (`skip_serializing`, `skip_deserializing`), with any codec: a reader would get another
//! value. What only a single value shows, such as a float that is not finite, [`seal`] refuses. A loaded value
//! that cannot be encoded goes to its callers, is counted ([`Stats::unencodable`](crate::Stats)), and is
//! warned of in the log once a minute.
//!
//! A field that serde skips on both sides (`skip`) is not part of the value: a shared tier gives it back with
//! its default.
//!
//! # Limits
//!
//! The limits on a value are checked before anything is allocated. Encoding checks the limits too, so
//! that every encoded value can be decoded. The limits of a value are:
//!
//! - The encoded bytes are at most [`Settings::max_bytes`], by default 64 MiB and 64 KiB.
//! - A value nests at most 127 levels deep, where each struct, sequence, `Option`, newtype and variant
//!   is a level.
//! - Sequences and maps have at most one element for each byte, and 65,536 more for elements without
//!   bytes.
//!
//! Like serde, the decoder allocates a sequence at most 1 MiB ahead of the elements that have arrived.
//! In memory a value may be larger than its bytes, by the factor by which its type enlarges one byte (an
//! empty `Vec` has 24 bytes).

mod compress;
mod decode_error;
mod envelope;
mod format;
mod limited;
mod shape;
mod together;
mod trial;

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use crate::{Error, ErrorKind, Result, key::KeyDigest};
use envelope::{Header, Kind};

pub use decode_error::DecodeError;
pub use shape::Shape;
pub(crate) use together::together;
pub(crate) use trial::{check, lost_field};

/// How a value becomes bytes.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Codec {
    /// The postcard format, which is small and fast, and does not describe itself.
    #[default]
    Postcard,
    /// JSON, which describes itself, is readable, and is larger.
    Json,
    /// bincode 2, which is no longer maintained (RUSTSEC-2025-0141). bincode is small and fast, and does
    /// not describe itself.
    #[cfg(feature = "bincode")]
    Bincode,
}

impl Codec {
    /// Whether the encoded bytes describe their own structure, so that any type of serde can be read
    /// from them.
    pub const fn is_self_describing(self) -> bool {
        matches!(self, Self::Json)
    }

    const fn id(self) -> u8 {
        match self {
            Self::Postcard => 1,
            Self::Json => 2,
            #[cfg(feature = "bincode")]
            Self::Bincode => 3,
        }
    }

    const fn from_id(id: u8) -> Option<Self> {
        match id {
            1 => Some(Self::Postcard),
            2 => Some(Self::Json),
            #[cfg(feature = "bincode")]
            3 => Some(Self::Bincode),
            _ => None,
        }
    }
}

/// Whether encoded bytes are compressed.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compression {
    /// The encoded bytes are not compressed.
    None,
    /// The encoded bytes are compressed with LZ4, if the compressed bytes are fewer.
    Lz4 {
        /// The smallest number of encoded bytes that is compressed.
        from_bytes: usize,
    },
}

/// The default is LZ4 for values of at least 1 KiB.
impl Default for Compression {
    fn default() -> Self {
        Self::Lz4 { from_bytes: 1024 }
    }
}

const NOT_COMPRESSED: u8 = 0;
const LZ4: u8 = 1;

/// How the values of one cache are sealed, and which values are accepted when they are opened.
///
/// A cache makes its settings once, because finding the shape of a type takes microseconds to
/// milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How new values are encoded. A reader decodes a stored value by the codec that its envelope names.
    pub codec: Codec,
    /// How new values are compressed. A reader decompresses a stored value by the compression that its
    /// envelope names.
    pub compression: Compression,
    /// The user's schema number. Values with another schema number are not read.
    pub schema: u32,
    /// The shape of the value type. Values with another shape are not read.
    pub shape: Shape,
    /// The most encoded bytes of a value, before compression. A limit above `u32::MAX` means `u32::MAX`.
    pub max_bytes: usize,
}

impl Settings {
    /// The default limit: 64 MiB, and another 64 KiB for the bytes that a codec adds to a value of 64
    /// MiB.
    pub const DEFAULT_MAX_BYTES: usize = (64 << 20) + (64 << 10);

    /// The default settings for values of type `V`: postcard, LZ4 from 1 KiB on, and schema 0.
    pub fn of<V: DeserializeOwned>() -> Self {
        Self {
            codec: Codec::default(),
            compression: Compression::default(),
            schema: 0,
            shape: Shape::of::<V>(),
            max_bytes: Self::DEFAULT_MAX_BYTES,
        }
    }

    /// Checks that the codec can carry the type at all. [`seal`] makes this check of the codec, and a
    /// builder may make it earlier.
    ///
    /// # Errors
    /// The call fails with [`ErrorKind::Unencodable`] for a binary codec and a type that only a
    /// self-describing codec can read.
    pub fn check(&self) -> Result<()> {
        if self.shape.needs_self_describing() && !self.codec.is_self_describing() {
            return Err(Error::new(
                ErrorKind::Unencodable,
                "the serde form of this type is known only from a value (`flatten`, `untagged`, an internally \
                 tagged enum, `Value`), which a binary codec cannot describe: use `Codec::Json`",
            ));
        }
        Ok(())
    }

    fn kind(&self) -> Kind {
        Kind { schema: self.schema, shape: self.shape.fingerprint() }
    }

    fn limit_bytes(&self) -> usize {
        self.max_bytes.min(u32::MAX as usize)
    }
}

/// Makes the envelope of `value` for the key whose digest is `key`.
///
/// # Errors
/// - The call fails with [`ErrorKind::TooLarge`] above [`Settings::max_bytes`]. Encoding stops at this
///   size.
/// - The call fails with [`ErrorKind::Unencodable`] for a value that would not read back as the same
///   value.
///
/// # Cost
/// Encoding uses one buffer, which grows as the value needs, and two more for a value that is
/// compressed.
///
/// ```
/// use terrace_core::{codec::{Settings, open, seal}, key::key_digest};
///
/// let settings = Settings::of::<Vec<String>>();
/// let key = key_digest("names", None, b"ann");
/// let bytes = seal(&vec!["Ann".to_owned()], &settings, key)?;
/// assert_eq!(open::<Vec<String>>(&bytes, &settings, key), Ok(vec!["Ann".to_owned()]));
/// assert!(open::<Vec<String>>(&bytes, &settings, key_digest("names", None, b"bob")).is_err());
/// # Ok::<(), terrace_core::Error>(())
/// ```
pub fn seal<V: Serialize + ?Sized>(value: &V, settings: &Settings, key: KeyDigest) -> Result<Bytes> {
    settings.check()?;
    let mut frame = Vec::with_capacity(256);
    frame.resize(envelope::LEN, 0);
    format::encode(settings.codec, value, &mut frame, settings.limit_bytes())?;
    let raw_len = frame.len() - envelope::LEN;
    let mut compression = NOT_COMPRESSED;
    if let Compression::Lz4 { from_bytes } = settings.compression
        && raw_len >= from_bytes
        && let Some(smaller) = compress::shrink(&frame)
    {
        (frame, compression) = (smaller, LZ4);
    }
    let header = Header {
        codec: settings.codec.id(),
        compression,
        schema: settings.schema,
        shape: settings.shape.fingerprint(),
        key,
        raw_len: raw_len as u32,
    };
    let payload_len = (frame.len() - envelope::LEN) as u32;
    header.write(&mut frame, payload_len);
    Ok(Bytes::from(frame.into_boxed_slice()))
}

/// Decodes the value in an envelope, if the envelope is intact, belongs to the key whose digest is
/// `key`, and has the schema number and shape of `settings`. Of several envelopes, the one with this
/// schema number and shape is read.
///
/// # Errors
/// The error is the reason as a [`DecodeError`], which converts to an [`Error`] of
/// [`ErrorKind::Undecodable`].
///
/// # Cost
/// Decoding makes one pass for the checksum and one for the value, and uses one buffer if the value is
/// compressed.
pub fn open<V: DeserializeOwned>(
    bytes: &[u8],
    settings: &Settings,
    key: KeyDigest,
) -> Result<V, DecodeError> {
    let (header, payload) = Header::read(together::select(bytes, settings.kind()))?;
    let codec = Codec::from_id(header.codec).ok_or(DecodeError::Codec { found: header.codec })?;
    if header.key != key {
        return Err(DecodeError::WrongKey);
    }
    if header.schema != settings.schema {
        return Err(DecodeError::Schema { found: header.schema, known: settings.schema });
    }
    if header.shape != settings.shape.fingerprint() {
        return Err(DecodeError::Shape { found: header.shape });
    }
    let raw_len = header.raw_len as usize;
    if raw_len > settings.limit_bytes() {
        return Err(DecodeError::TooLarge);
    }
    match header.compression {
        NOT_COMPRESSED if raw_len != payload.len() => Err(DecodeError::Truncated),
        NOT_COMPRESSED => format::decode(codec, payload),
        LZ4 => format::decode(codec, &compress::grow(payload, raw_len)?),
        found => Err(DecodeError::Compression { found }),
    }
}

#[cfg(test)]
mod tests;
