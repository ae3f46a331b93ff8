//! The keys and values of the measurements.

use serde::{Deserialize, Serialize};

/// How many keys a row reads.
pub const KEYS: usize = 10_000;

/// A value of 200 bytes, for near tiers, which encode nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// The number of the page.
    pub number: u64,
    /// The content.
    pub body: [u8; 192],
}

/// A record that encodes to about 160 bytes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct User {
    id: u64,
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
        Self { number: number as u64, body: [number as u8; 192] }
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
}

/// A key of 16 bytes.
#[must_use]
pub fn key(number: usize) -> String {
    format!("user:{number:011}")
}

/// The keys, in order.
#[must_use]
pub fn keys() -> Vec<String> {
    (0..KEYS).map(key).collect()
}

/// The number of the `n`th key to read. Successive `n` visit all keys in an order without a pattern.
#[must_use]
pub fn scattered(n: usize) -> usize {
    n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % KEYS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_have_the_sizes_that_the_rows_state() {
        assert_eq!(key(7).len(), 16);
        assert_eq!(size_of::<Page>(), 200);
        let encoded = postcard::to_stdvec(&User::new(5_000)).unwrap().len();
        assert!((150..170).contains(&encoded), "{encoded}");
    }
}
