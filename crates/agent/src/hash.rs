//! Hashes of several parts.

/// Hashes parts so that no border between two of them can move.
pub(crate) struct PartHasher(blake3::Hasher);

impl PartHasher {
    /// `domain` keeps the hashes of different uses apart.
    pub(crate) fn new(domain: &str) -> Self {
        let mut hasher = Self(blake3::Hasher::new());
        hasher.part(domain.as_bytes());
        hasher
    }

    pub(crate) fn part(&mut self, bytes: &[u8]) {
        self.0.update(&(bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    pub(crate) fn digest(&self) -> terrace::Digest {
        terrace::Digest::from_bytes(*self.0.finalize().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_border_between_parts_cannot_move() {
        let digest = |parts: &[&str]| {
            let mut hasher = PartHasher::new("test");
            parts.iter().for_each(|part| hasher.part(part.as_bytes()));
            hasher.digest()
        };
        assert_ne!(digest(&["ab", "c"]), digest(&["a", "bc"]));
        assert_ne!(digest(&["abc"]), digest(&["abc", ""]));
        assert_eq!(digest(&["a", "b"]), digest(&["a", "b"]));
    }
}
