//! The keys and values of the measurements.

use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};

/// How many keys a row reads.
pub const KEYS: usize = 10_000;

/// How many keys one batch has.
pub const BATCH: usize = 100;

/// The time to live of all copies, in seconds.
pub const TTL_SECS: u64 = 3600;

/// A value of 200 bytes, for caches in the process alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The number of the page.
    pub number: u64,
    /// The content.
    pub body: [[u8; 32]; 6],
}

/// A record that encodes to about 160 bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    /// The number of the user.
    pub id: u64,
    name: String,
    email: String,
    about: String,
    roles: Vec<String>,
    score: f64,
    active: bool,
}

impl Page {
    /// The page of this number.
    #[must_use]
    pub fn new(number: usize) -> Self {
        Self { number: number as u64, body: [[number as u8; 32]; 6] }
    }
}

impl User {
    /// The user of this number.
    #[must_use]
    pub fn new(id: usize) -> Self {
        Self {
            id: id as u64,
            name: format!("Ada Lovelace the {id}th"),
            email: format!("ada.lovelace.{id}@example.org"),
            about: "Wrote the first program, for a machine that was never to be built.".to_owned(),
            roles: vec!["author".to_owned(), "reviewer".to_owned(), "translator".to_owned()],
            score: id as f64 / 7.0,
            active: true,
        }
    }

    /// The user in postcard's encoding, which the sides with a choice of codec use.
    ///
    /// # Errors
    /// The error of postcard.
    pub fn encode(&self) -> crate::Result<Vec<u8>> {
        Ok(postcard::to_stdvec(self)?)
    }

    /// The user of [`encode`](Self::encode).
    ///
    /// # Errors
    /// The bytes are no user.
    pub fn decode(bytes: &[u8]) -> crate::Result<Self> {
        Ok(postcard::from_bytes(bytes)?)
    }
}

/// A key of 16 bytes.
#[must_use]
pub fn key(number: usize) -> String {
    format!("user:{number:011}")
}

/// The number of the `n`th key to read. Successive `n` visit all keys in an order without a pattern.
#[must_use]
pub fn scattered(n: usize) -> usize {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % KEYS
}

/// The number of the next key that no side has read or written.
#[must_use]
pub fn new_key() -> usize {
    static NEW_KEYS: AtomicUsize = AtomicUsize::new(1_000_000);
    NEW_KEYS.fetch_add(1, Ordering::Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_have_the_sizes_that_the_rows_state() {
        assert_eq!(key(7).len(), 16);
        assert_eq!(size_of::<Page>(), 200);
        let encoded = User::new(5_000).encode().unwrap().len();
        assert!((150..170).contains(&encoded), "{encoded}");
    }
}
