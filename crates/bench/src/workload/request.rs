//! One request of a workload.

use foldhash::quality::FixedState;
use std::hash::BuildHasher;

/// What a request does with its key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Action {
    /// Reads the key, and loads its value on a miss.
    #[default]
    Read,
    /// Puts a new value.
    Write,
    /// Removes the key from all tiers and from the store.
    Remove,
    /// Drops the copies of the key.
    Invalidate,
}

impl Action {
    /// The action of a name in a file: `get`, `put`, `delete` and their usual synonyms.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        Some(match name.to_ascii_lowercase().as_str() {
            "read" | "get" | "gets" | "head" | "r" => Self::Read,
            "write" | "put" | "set" | "add" | "replace" | "cas" | "post" | "patch" | "w" => Self::Write,
            "remove" | "delete" | "del" | "d" => Self::Remove,
            "invalidate" | "i" => Self::Invalidate,
            _ => return None,
        })
    }
}

/// One request: a key, what to do with it, and the size of its value if the workload says so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Request {
    /// The key. A key that is text in a file is its hash.
    pub(crate) key: u64,
    /// The size of the value in bytes; 0 if the workload does not say.
    pub(crate) bytes: u32,
    /// What the request does.
    pub(crate) action: Action,
}

impl Request {
    /// A read of this key.
    pub(crate) fn read(key: u64) -> Self {
        Self { key, ..Self::default() }
    }
}

/// The key of a text: the number that it shows, or else a hash of its bytes.
pub(crate) fn key_of(text: &[u8]) -> u64 {
    number(text).unwrap_or_else(|| hash(text))
}

/// The hash of a key that is text. Among ten million keys, two share a hash once in 370,000 traces.
pub(crate) fn hash(text: &[u8]) -> u64 {
    FixedState::with_seed(0x7e22_ace0).hash_one(text)
}

/// The decimal number that the text is, without a sign.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 19 || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(text.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')))
}
