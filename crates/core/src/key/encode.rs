//! The encoder writes keys in the format of [`key`](super).

use serde::{Serialize, ser::Impossible};

use super::{
    KeyError, MAX_DEPTH, MAX_LONG_KEY_BYTES,
    serializer::{Kind, Parts, Serializer, Sink},
};

type Result<T = (), E = KeyError> = std::result::Result<T, E>;

/// Appends the bytes of `key`.
pub(super) fn write<K: Serialize + ?Sized>(key: &K, out: &mut Vec<u8>) -> Result {
    key.serialize(Serializer(Encoder { out, framing: Framing::None, depth: 0 }))
}

/// How a value is framed: whether the length of the value precedes the value.
#[derive(Clone, Copy, PartialEq)]
enum Framing {
    /// No length precedes the value, which has all the bytes that remain.
    None,
    /// A length precedes the value.
    Length,
    /// The value may belong to a run of bytes: a `u8` is one byte, and a length precedes any other
    /// value.
    Run,
}

/// Writes one value.
struct Encoder<'a> {
    out: &'a mut Vec<u8>,
    framing: Framing,
    depth: u8,
}

impl<'a> Encoder<'a> {
    /// Writes a value whose bytes are known.
    fn put(self, bytes: &[u8]) -> Result {
        if self.framing != Framing::None {
            // A key has at most `MAX_LONG_KEY_BYTES` bytes, so a longer length, which the cast to `u32`
            // could truncate, is never kept.
            push(self.out, &(bytes.len() as u32).to_be_bytes())?;
        }
        push(self.out, bytes)
    }

    /// Begins a value whose length is known only at the end of the value.
    fn begin(self) -> Result<Open<'a>> {
        if self.depth >= MAX_DEPTH {
            return Err(KeyError::TooDeep);
        }
        let prefixed = self.framing != Framing::None;
        if prefixed {
            push(self.out, &[0; 4])?;
        }
        let start = self.out.len();
        Ok(Open { out: self.out, start, prefixed, depth: self.depth + 1, run: None })
    }

    /// Begins the content of an enum's variant.
    fn begin_variant(self, name: &'static str) -> Result<Open<'a>> {
        let open = self.begin()?;
        push(open.out, &(name.len() as u32).to_be_bytes())?;
        push(open.out, name.as_bytes())?;
        Ok(open)
    }
}

impl<'a> Sink for Encoder<'a> {
    type Error = KeyError;
    type Parts = Open<'a>;
    type Entries = Impossible<(), KeyError>;

    fn u8(self, value: u8) -> Result {
        match self.framing {
            Framing::Run => push(self.out, &[value]),
            Framing::None | Framing::Length => self.u64(value.into()),
        }
    }

    fn i64(self, value: i64) -> Result {
        self.put(&value.to_be_bytes())
    }

    fn u64(self, value: u64) -> Result {
        self.put(&value.to_be_bytes())
    }

    fn i128(self, value: i128) -> Result {
        self.put(&value.to_be_bytes())
    }

    fn u128(self, value: u128) -> Result {
        self.put(&value.to_be_bytes())
    }

    fn f32(self, _: f32) -> Result {
        Err(KeyError::Float)
    }

    fn f64(self, _: f64) -> Result {
        Err(KeyError::Float)
    }

    fn bool(self, value: bool) -> Result {
        self.put(&[u8::from(value)])
    }

    fn char(self, value: char) -> Result {
        self.put(value.encode_utf8(&mut [0; 4]).as_bytes())
    }

    fn text(self, value: &str) -> Result {
        self.put(value.as_bytes())
    }

    fn bytes(self, value: &[u8]) -> Result {
        self.put(value)
    }

    fn unit(self) -> Result {
        self.put(&[])
    }

    fn none(self) -> Result {
        self.put(&[0])
    }

    fn some<T: Serialize + ?Sized>(self, value: &T) -> Result {
        let mut open = self.begin()?;
        push(open.out, &[1])?;
        open.write(value, Framing::None)?;
        open.close()
    }

    fn newtype<T: Serialize + ?Sized>(self, value: &T) -> Result {
        if self.depth >= MAX_DEPTH {
            return Err(KeyError::TooDeep);
        }
        value.serialize(Serializer(Self { depth: self.depth + 1, ..self }))
    }

    fn unit_variant(self, variant: &'static str) -> Result {
        self.begin_variant(variant)?.close()
    }

    fn newtype_variant<T: Serialize + ?Sized>(self, variant: &'static str, value: &T) -> Result {
        let mut open = self.begin_variant(variant)?;
        open.write(value, Framing::None)?;
        open.close()
    }

    fn open(self, kind: Kind, variant: Option<&'static str>) -> Result<Open<'a>> {
        match variant {
            Some(name) => self.begin_variant(name),
            None => Ok(Open { run: (kind == Kind::Tuple).then_some(0), ..self.begin()? }),
        }
    }

    fn open_map(self) -> Result<Self::Entries> {
        Err(KeyError::Map)
    }
}

/// A value whose parts are being written.
struct Open<'a> {
    out: &'a mut Vec<u8>,
    start: usize,
    prefixed: bool,
    depth: u8,
    /// The number of elements of a tuple whose elements so far were all `u8`, and `None` for any other
    /// value.
    run: Option<usize>,
}

impl Open<'_> {
    fn write<T: Serialize + ?Sized>(&mut self, value: &T, framing: Framing) -> Result {
        value.serialize(Serializer(Encoder { out: self.out, framing, depth: self.depth }))
    }
}

impl Parts for Open<'_> {
    type Error = KeyError;

    fn element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        self.write(value, Framing::Run)
    }

    /// Writes a `u8` of a tuple as one byte while all elements before it were `u8` too.
    fn tuple_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result {
        let Some(count) = self.run else { return self.write(value, Framing::Length) };
        let before = self.out.len();
        self.write(value, Framing::Run)?;
        if self.out.len() == before + 1 {
            self.run = Some(count + 1);
            return Ok(());
        }
        // The tuple is not a run of bytes, so the bytes so far become integers.
        self.run = None;
        let integers: Vec<u8> = self.out[self.start..before]
            .iter()
            .flat_map(|byte| [8_u32.to_be_bytes().as_slice(), &u64::from(*byte).to_be_bytes()].concat())
            .collect();
        if self.out.len() - count + integers.len() > MAX_LONG_KEY_BYTES {
            return Err(KeyError::TooLong { most: MAX_LONG_KEY_BYTES });
        }
        self.out.splice(self.start..before, integers);
        Ok(())
    }

    fn field<T: Serialize + ?Sized>(&mut self, _: Option<&'static str>, value: &T) -> Result {
        self.write(value, Framing::Length)
    }

    fn close(self) -> Result {
        if self.prefixed {
            let length = (self.out.len() - self.start) as u32;
            self.out[self.start - 4..self.start].copy_from_slice(&length.to_be_bytes());
        }
        Ok(())
    }
}

fn push(out: &mut Vec<u8>, bytes: &[u8]) -> Result {
    if out.len() + bytes.len() > MAX_LONG_KEY_BYTES {
        return Err(KeyError::TooLong { most: MAX_LONG_KEY_BYTES });
    }
    out.extend_from_slice(bytes);
    Ok(())
}
