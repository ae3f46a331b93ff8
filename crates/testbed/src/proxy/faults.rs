//! The faults of a proxy, and what its thread reports.

use std::time::Duration;

/// Which bytes a [`Proxy`](crate::Proxy) holds back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stall {
    /// No bytes.
    #[default]
    Nothing,
    /// The replies of the server: requests arrive and take effect.
    Replies,
    /// The bytes of both directions.
    Both,
}

impl Stall {
    /// Whether bytes of this direction are held back.
    pub(super) fn holds(self, direction: Direction) -> bool {
        match self {
            Stall::Nothing => false,
            Stall::Replies => direction == Direction::Reply,
            Stall::Both => true,
        }
    }
}

/// The faults that the proxy makes now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    /// The loopback port to which new connections lead.
    pub(super) target: u16,
    pub(super) stall: Stall,
    pub(super) refuse: bool,
    pub(super) segment_bytes: Option<usize>,
    pub(super) delay: Duration,
    /// Connections that were opened in a lower generation end.
    pub(super) generation: u64,
}

/// What the thread reports.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Status {
    pub(super) listening: bool,
    pub(super) accepted: u64,
    pub(super) open: u64,
    /// All connections of lower generations have ended.
    pub(super) generation: u64,
}

/// Which way bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    Request,
    Reply,
}
