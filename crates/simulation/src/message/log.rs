//! Entries of a server's invalidation log, and how far a follower has read them.

use terrace_tier::Notice;

use crate::history::{At, Key, Process};

/// Entries in one response.
pub(crate) const ROUND: usize = 64;

/// One change.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Tells the entry from another one with the same sequence number.
    pub(crate) stamp: u64,
    pub(crate) origin: Process,
    pub(crate) namespace: String,
    pub(crate) notice: Notice,
    /// The key, and the time up to which a follower of this entry knows the key's changes.
    pub(crate) covers: Option<(Option<Key>, At)>,
}

/// How far a follower has read.
#[derive(Clone, Debug)]
pub(crate) struct Cursor {
    pub(crate) log: u64,
    pub(crate) sequence: u64,
    /// The stamp of the entry with this sequence number.
    pub(crate) last: Option<u64>,
}

/// The id of a log and its last sequence number; `None` where there is no log.
pub(crate) type Head = Option<(u64, u64)>;

/// One response: the head as it was when the request came, then the entries behind the cursor.
pub(crate) struct Round {
    pub(crate) head: Head,
    pub(crate) entries: Vec<(u64, Entry)>,
}

/// The log has a hole, has ended, or is another log.
pub(crate) struct Gap;

impl Cursor {
    pub(crate) fn is_in_log_of(&self, other: &Self) -> bool {
        self.log == other.log
    }

    /// Moves to the last entry of a round. Returns whether every entry that the head counts was read.
    pub(crate) fn advance(&mut self, round: &Round) -> Result<bool, Gap> {
        let (log, newest) = round.head.ok_or(Gap)?;
        if log != self.log || newest < self.sequence {
            return Err(Gap);
        }
        for (sequence, entry) in &round.entries {
            if *sequence != self.sequence + 1 {
                return Err(Gap);
            }
            (self.sequence, self.last) = (*sequence, Some(entry.stamp));
        }
        match self.sequence >= newest {
            true => Ok(true),
            false if round.entries.len() == ROUND => Ok(false),
            false => Err(Gap),
        }
    }
}

impl Round {
    pub(crate) fn into_entries(self) -> impl Iterator<Item = Entry> {
        self.entries.into_iter().map(|(_, entry)| entry)
    }
}
