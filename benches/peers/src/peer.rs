//! What is said of a peer beside each of its figures.

/// A cache or client that is measured.
#[derive(Debug, PartialEq, Eq)]
pub struct Peer {
    /// The name in the tables.
    pub name: &'static str,
    /// The package whose version counts.
    pub package: &'static str,
    /// What terrace does in the same row and the peer does not.
    pub leaves_out: &'static str,
}
