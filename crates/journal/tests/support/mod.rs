//! What the tests of the journal share.
#![allow(dead_code, reason = "each test uses some of it")]

use bytes::Bytes;
use terrace_journal::{Address, JournalOptions, Recovered, Write};
use terrace_tier::{Deadlines, Timestamp, Version};

pub(crate) const SEGMENT: u64 = 4_096;

pub(crate) fn options() -> JournalOptions {
    JournalOptions::new("users").segment_bytes(SEGMENT)
}

pub(crate) fn address(key: &str) -> Address {
    Address { tenant: None, key: Bytes::copy_from_slice(key.as_bytes()) }
}

pub(crate) fn version(number: u64) -> Version {
    Version::from_u64(number)
}

pub(crate) fn put(key: &str, number: u64, value: &[u8]) -> Write {
    Write {
        address: address(key),
        version: version(number),
        deadlines: Deadlines::forever(Timestamp::from_millis(number)),
        envelope: Some(Bytes::copy_from_slice(value)),
    }
}

pub(crate) fn removal(key: &str, number: u64) -> Write {
    Write { envelope: None, ..put(key, number, b"") }
}

/// The recovered writes in the order of their keys.
pub(crate) fn writes(recovered: &Recovered) -> Vec<Write> {
    let mut writes: Vec<Write> = recovered.writes.iter().map(|found| found.write.clone()).collect();
    writes.sort_by(|one, other| one.address.cmp(&other.address));
    writes
}
