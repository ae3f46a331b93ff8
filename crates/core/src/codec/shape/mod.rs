//! The shape of a type is a number that changes when the type changes.
//!
//! postcard and bincode write no names. After two fields of the same type have changed places, old bytes
//! would decode to a wrong value without an error. JSON reads a renamed `Option` field as `None`. The
//! envelope therefore carries a fingerprint of what serde asks for when it deserialises the type.

mod dummy;
mod probe;
mod stop;

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

pub(super) use dummy::{BYTES, NUMBERS, SAMPLES, TEXTS};
use probe::Found;
pub(super) use stop::Stop;

/// The most parts of a type that are probed.
const MAX_PARTS: usize = 4096;
/// How deep a type is probed.
const MAX_DEPTH: usize = 64;
/// The most elements of a tuple or an array that are probed.
const MAX_ELEMENTS: usize = 32;

/// A fingerprint of what serde sees of a type when it deserialises the type.
///
/// The fingerprint changes when a field or variant is added, removed, renamed or moved anywhere in the
/// type, or when a part becomes another kind of value: another width of integer, optional or not, a
/// sequence, a map, or a tuple of another length. The fingerprint covers the contents of `Option`,
/// sequences, maps, tuples, newtypes, `Box` and variants, and types that contain themselves.
///
/// The names of fields and variants are those that serde reads, after `rename`. An `alias` is one more
/// name.
///
/// The fingerprint does not change with the names of types, nor between types that serde reads alike
/// (`Vec` and `HashSet`, `String` and `Box<str>`, `Uuid` and a byte string). The schema number is for
/// changes that leave the type the same: another meaning (metres to feet), a range check, a default
/// value.
///
/// Some parts of a type are not covered:
///
/// - The fingerprint does not cover parts whose form serde knows only from a value (`flatten`,
///   `untagged`, internally tagged enums, `serde_json::Value`).
/// - The fingerprint does not cover parts beyond the 32nd element of a tuple, 64 levels or 4096 parts.
/// - The fingerprint does not cover parts behind a hand-written `Deserialize` that refuses every sample.
///
/// [`is_whole`](Shape::is_whole) says whether the fingerprint covers the whole type. If the fingerprint
/// does not cover the whole type, the schema number must change with the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    fingerprint: u64,
    whole: bool,
    any: bool,
    /// Whether a part is a float, which is no part of a key.
    float: bool,
    /// Whether a part is a map, which is no part of a key.
    map: bool,
}

impl Shape {
    /// The shape of `V`.
    ///
    /// # Cost
    /// The call makes one short deserialisation of samples (zeros, empty texts) for each part of the
    /// type, which takes microseconds for a record of some fields. A program should compute a shape
    /// once. A hand-written `Deserialize` gets the samples too, and if it panics on a sample,
    /// `Shape::of` panics.
    ///
    /// ```
    /// use terrace_core::codec::Shape;
    ///
    /// assert_ne!(Shape::of::<(u32, String)>(), Shape::of::<(String, u32)>());
    /// assert_ne!(Shape::of::<Vec<u32>>(), Shape::of::<Vec<u64>>());
    /// ```
    pub fn of<V: DeserializeOwned>() -> Self {
        let mut hasher = Sha256::new();
        let mut shape = Self { fingerprint: 0, whole: true, any: false, float: false, map: false };
        let mut paths = vec![Vec::new()];
        let mut parts = 0;
        // The search goes depth first with the children in order, so that a type always gives the same
        // sequence of parts.
        while let Some(path) = paths.pop() {
            parts += 1;
            if parts > MAX_PARTS || path.len() > MAX_DEPTH {
                shape.whole = false;
                hasher.update(b"...");
                continue;
            }
            let found = probe::at::<V>(&path);
            shape.note(&found);
            hasher.update((path.len() as u64).to_be_bytes());
            hasher.update((found.description.len() as u64).to_be_bytes());
            hasher.update(&found.description);
            paths.extend((0..found.children).rev().map(|child| [path.as_slice(), &[child]].concat()));
        }
        let mut fingerprint = [0; 8];
        fingerprint.copy_from_slice(&hasher.finalize()[..8]);
        shape.fingerprint = u64::from_be_bytes(fingerprint);
        shape
    }

    /// The fingerprint, which envelopes carry.
    pub const fn fingerprint(self) -> u64 {
        self.fingerprint
    }

    /// Whether the fingerprint covers every part of the type.
    pub const fn is_whole(self) -> bool {
        self.whole
    }

    /// Whether the serde form of the type is known only from a value, so that only a self-describing codec
    /// can carry the type.
    pub const fn needs_self_describing(self) -> bool {
        self.any
    }

    /// Whether a value of the type may hold a float.
    pub(crate) const fn has_float(self) -> bool {
        self.float
    }

    /// Whether a value of the type may hold a map.
    pub(crate) const fn has_map(self) -> bool {
        self.map
    }

    fn note(&mut self, found: &Found) {
        self.float |= matches!(&found.description[..], b"f32" | b"f64");
        self.map |= found.description == b"map";
        self.any |= found.is_any;
        self.whole &= !found.is_any && !found.is_cut;
    }
}

#[cfg(test)]
mod tests;
