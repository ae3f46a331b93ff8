//! The values of the caches under test: bytes of the size that the workload says.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{SeqAccess, Visitor},
};

/// A value. It is encoded as one run of bytes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Payload(Box<[u8]>);

impl Payload {
    /// The value of a key. Its bytes do not compress.
    pub(crate) fn of(key: u64, bytes: u32) -> Self {
        let mut content = vec![0; bytes as usize];
        fastrand::Rng::with_seed(key).fill(&mut content);
        Self(content.into())
    }
}

impl Serialize for Payload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Payload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Payload;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Payload, E> {
        Ok(Payload(bytes.into()))
    }

    fn visit_byte_buf<E>(self, bytes: Vec<u8>) -> Result<Payload, E> {
        Ok(Payload(bytes.into()))
    }

    // JSON has no bytes: it writes a list of numbers.
    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Payload, A::Error> {
        let mut bytes = Vec::with_capacity(elements.size_hint().unwrap_or(0).min(1 << 20));
        while let Some(byte) = elements.next_element()? {
            bytes.push(byte);
        }
        Ok(Payload(bytes.into()))
    }
}
