//! The shape of a type, as a number that changes when the type does.
//!
//! postcard and bincode write no names: after two fields of one type change places, old bytes decode
//! to a wrong value without an error; and JSON reads a renamed `Option` field as `None`. So the
//! envelope carries a fingerprint of what serde asks for when it deserialises the type.

mod dummy;
mod probe;
mod stop;

use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use probe::Found;

/// How many parts of a type are looked at.
const MAX_PARTS: usize = 4096;
/// How deep it is looked at.
const MAX_DEPTH: usize = 64;
/// How many elements of a tuple or an array are looked at.
const MAX_ELEMENTS: usize = 32;

/// What serde sees of a type when it deserialises it, as a fingerprint.
///
/// It changes when, anywhere in the type, a field or variant is added, removed, renamed or moved, or
/// when a part becomes another kind of value: another width of integer, optional or not, a sequence,
/// a map, a tuple of another length. Through `Option`, sequences, maps, tuples, newtypes, `Box`, the
/// contents of variants, and in types that hold themselves.
///
/// Names are those that serde reads, after `rename`; an `alias` is one more name.
///
/// It does not change with the names of types, or between types that serde reads alike (`Vec` and
/// `HashSet`, `String` and `Box<str>`, `Uuid` and a byte string). A meaning that changes without its
/// type (metres to feet), a range check, a default value: that is what the schema number is for.
///
/// It cannot see into what serde itself sees only in a value (`flatten`, `untagged`, internally
/// tagged enums, `serde_json::Value`), past the 32nd element of a tuple, 64 levels or 4096 parts,
/// nor behind a hand-written `Deserialize` that refuses every sample put before it.
/// [`is_whole`](Shape::is_whole) tells whether any of that was met; the schema number must then
/// change with the type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    fingerprint: u64,
    whole: bool,
    any: bool,
}

impl Shape {
    /// The shape of `V`.
    ///
    /// # Cost
    /// One short deserialisation for each part of the type, of samples (zeros, empty texts) that are
    /// thrown away: microseconds for a record of some fields. Compute it once. A hand-written
    /// `Deserialize` is called with them; what it panics on, panics here.
    ///
    /// ```
    /// use terrace_core::codec::Shape;
    ///
    /// assert_ne!(Shape::of::<(u32, String)>(), Shape::of::<(String, u32)>());
    /// assert_ne!(Shape::of::<Vec<u32>>(), Shape::of::<Vec<u64>>());
    /// ```
    pub fn of<V: DeserializeOwned>() -> Self {
        let mut hasher = Sha256::new();
        let mut shape = Self { fingerprint: 0, whole: true, any: false };
        let mut paths = vec![Vec::new()];
        let mut parts = 0;
        // Depth first, children in order: the same type gives the same sequence of parts.
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

    /// The number that envelopes carry.
    pub const fn fingerprint(self) -> u64 {
        self.fingerprint
    }

    /// Whether every part of the type was seen.
    pub const fn is_whole(self) -> bool {
        self.whole
    }

    /// Whether serde must see a value to know what it is, so that only a self-describing codec can
    /// carry the type.
    pub const fn needs_self_describing(self) -> bool {
        self.any
    }

    fn note(&mut self, found: &Found) {
        self.any |= found.is_any;
        self.whole &= !found.is_any && !found.is_cut;
    }
}

#[cfg(test)]
mod tests;
