//! The options and the statistics of a journal.

/// What a journal is opened with.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    pub(crate) namespace: String,
    pub(crate) segment_bytes: u64,
    pub(crate) queue_bytes: u64,
}

impl JournalOptions {
    /// The journal of `namespace`, with segments of 16 MiB and a queue of 64 MiB.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), segment_bytes: 16 << 20, queue_bytes: 64 << 20 }
    }

    /// The size at which a segment is full, from 4 KiB to 1 GiB. A frame may have half of it.
    #[must_use]
    pub fn segment_bytes(self, bytes: u64) -> Self {
        Self { segment_bytes: bytes.clamp(4 << 10, 1 << 30), ..self }
    }

    /// How many bytes of frames may wait for the disk. Beyond that an append is [`JournalError::QueueFull`](crate::JournalError::QueueFull).
    #[must_use]
    pub fn queue_bytes(self, bytes: u64) -> Self {
        Self { queue_bytes: bytes, ..self }
    }

    /// The largest frame, and the largest group of frames that shares a sync.
    pub(crate) fn group_bytes(&self) -> u64 {
        self.segment_bytes / 2
    }
}

/// How large a journal is, and what it has done since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct JournalStats {
    /// The segments on the disk.
    pub segments: usize,
    /// The bytes of all segments.
    pub disk_bytes: u64,
    /// The bytes of the frames that are needed.
    pub live_bytes: u64,
    /// The keys with a write that is not settled.
    pub live_keys: usize,
    /// The groups of frames that were synced.
    pub syncs: u64,
    /// The frames that were written, without copies.
    pub frames: u64,
    /// The bytes that were copied forward from old segments.
    pub copied_bytes: u64,
}
