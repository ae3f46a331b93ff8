//! One line of a table: a peer and how it is used.

use crate::{Result, peer::Peer};

/// A peer, the calls that are measured, and what takes the turns (`T`).
pub struct Side<T: ?Sized> {
    /// The peer.
    pub peer: &'static Peer,
    /// How the peer is used.
    pub usage: String,
    /// The index of the side whose figures the ratios are to.
    pub raw: usize,
    /// What takes the turns, or why the side is not measured.
    pub state: Result<Box<T>, String>,
}

impl<T: ?Sized> Side<T> {
    /// A side whose ratios are to the first side. A peer that could not be set up is a side that says so.
    pub fn new(peer: &'static Peer, usage: impl Into<String>, turns: Result<Box<T>>) -> Self {
        Self { peer, usage: usage.into(), raw: 0, state: turns.map_err(|error| error.to_string()) }
    }

    /// The ratios are to the side at this index.
    #[must_use]
    pub fn beside(mut self, raw: usize) -> Self {
        self.raw = raw;
        self
    }
}
