//! Each codec encodes values into bytes here, and decodes them.

use std::io;

use serde::{Serialize, de::DeserializeOwned};

use super::limited::{Guard, Guarded, Limited, max_elements};
use super::{Codec, DecodeError};
use crate::{Error, ErrorKind, Result};

/// Appends the encoded `value` to `out`, with at most `max_bytes` bytes.
pub(super) fn encode<V: Serialize + ?Sized>(
    codec: Codec,
    value: &V,
    out: &mut Vec<u8>,
    max_bytes: usize,
) -> Result<()> {
    let start = out.len();
    let guard = Guard::new(usize::MAX, codec.is_self_describing());
    let mut sink = Sink { out, limit: start.saturating_add(max_bytes), full: false };
    let written = write(codec, &Guarded::new(value, &guard), &mut sink);
    if sink.full {
        return Err(Error::new(
            ErrorKind::TooLarge,
            format!("the value is larger than {max_bytes} encoded bytes"),
        ));
    }
    if let Some(breach) = guard.breach() {
        return Err(unencodable(breach.as_str()));
    }
    written.map_err(|cause| unencodable(&cause))?;
    if guard.elements() > max_elements(out.len() - start) {
        return Err(unencodable(super::limited::Breach::Elements.as_str()));
    }
    Ok(())
}

fn unencodable(why: &str) -> Error {
    Error::new(ErrorKind::Unencodable, format!("the value cannot be encoded: {why}"))
}

fn write<V: Serialize>(codec: Codec, value: &V, sink: &mut Sink<'_>) -> Result<(), String> {
    match codec {
        Codec::Postcard => postcard::serialize_with_flavor(value, sink).map_err(|error| error.to_string()),
        Codec::Json => serde_json::to_writer(sink, value).map_err(|error| error.to_string()),
        #[cfg(feature = "bincode")]
        Codec::Bincode => bincode::serde::encode_into_writer(value, sink, bincode::config::standard())
            .map_err(|error| error.to_string()),
    }
}

/// Decodes the value whose encoded form is `bytes`, to the last byte.
pub(super) fn decode<V: DeserializeOwned>(codec: Codec, bytes: &[u8]) -> Result<V, DecodeError> {
    let guard = Guard::new(max_elements(bytes.len()), codec.is_self_describing());
    read(codec, bytes, &guard).ok_or(if guard.breach().is_some() {
        DecodeError::Limit
    } else {
        DecodeError::Payload
    })
}

fn read<V: DeserializeOwned>(codec: Codec, bytes: &[u8], guard: &Guard) -> Option<V> {
    match codec {
        Codec::Postcard => {
            let mut decoder = postcard::Deserializer::from_bytes(bytes);
            let value = V::deserialize(Limited::new(&mut decoder, guard)).ok()?;
            decoder.finalize().is_ok_and(<[u8]>::is_empty).then_some(value)
        }
        // serde_json has the same limit on depth, and each element of a JSON value has at least one
        // byte.
        Codec::Json => serde_json::from_slice(bytes).ok(),
        #[cfg(feature = "bincode")]
        Codec::Bincode => {
            let seed = Limited::new(std::marker::PhantomData::<V>, guard);
            let config = bincode::config::standard();
            let (value, read) = bincode::serde::seed_decode_from_slice(seed, bytes, config).ok()?;
            (read == bytes.len()).then_some(value)
        }
    }
}

/// A buffer with a size limit, into which every codec can write.
struct Sink<'a> {
    out: &'a mut Vec<u8>,
    limit: usize,
    full: bool,
}

impl Sink<'_> {
    #[inline]
    fn put(&mut self, bytes: &[u8]) -> bool {
        if bytes.len() > self.limit - self.out.len() {
            self.full = true;
            return false;
        }
        self.out.extend_from_slice(bytes);
        true
    }
}

impl postcard::ser_flavors::Flavor for &mut Sink<'_> {
    type Output = ();

    #[inline]
    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        // postcard writes many values byte by byte, and a push takes a third of the time of an extend.
        if self.out.len() >= self.limit {
            self.full = true;
            return Err(postcard::Error::SerializeBufferFull);
        }
        self.out.push(byte);
        Ok(())
    }

    #[inline]
    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        if self.put(bytes) { Ok(()) } else { Err(postcard::Error::SerializeBufferFull) }
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

impl io::Write for &mut Sink<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.put(bytes) { Ok(bytes.len()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "bincode")]
impl bincode::enc::write::Writer for Sink<'_> {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
        if self.put(bytes) { Ok(()) } else { Err(bincode::error::EncodeError::UnexpectedEnd) }
    }
}
