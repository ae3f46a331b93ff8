//! What can go wrong in a journal.

use std::{io, sync::Arc};

use terrace_tier::ErrorKind;

/// The result of a journal's fallible calls.
pub type Result<T, E = JournalError> = std::result::Result<T, E>;

/// Why a journal was not opened, or a frame not acknowledged.
///
/// It is cheap to clone: all callers that share a sync get the same error. The text names no key and no value.
/// The caller adds the names of the cache and the directory.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// Another opener, in this process or another one, has the directory.
    #[error("the journal's directory is open already; close the cache that has it")]
    InUse,
    /// The directory has the journal of another namespace.
    #[error(
        "the directory has the journal of the namespace `{namespace}`; give each cache its own directory"
    )]
    OtherNamespace {
        /// The namespace whose journal it is.
        namespace: String,
    },
    /// A later release wrote the segment.
    #[error(
        "segment {segment} has format {format}, which this release does not read; use the release that wrote it"
    )]
    Format {
        /// The segment's number.
        segment: u64,
        /// The format that its head names.
        format: u32,
    },
    /// Bytes that were synced have changed, or a segment is missing. What was acknowledged may be lost, so
    /// that the journal does not open.
    #[error(
        "segment {segment} of the journal is damaged at byte {offset}: {what}; \
         restore the directory, or move it away and accept the loss of what it holds"
    )]
    Corrupt {
        /// The segment's number.
        segment: u64,
        /// Where in the segment the damage begins.
        offset: u64,
        /// What was found.
        what: &'static str,
    },
    /// The frame is larger than half a segment. Nothing was done.
    #[error("a frame of {bytes} bytes is larger than the {limit} that a journal takes; use larger segments")]
    TooLarge {
        /// The size of the encoded frame.
        bytes: u64,
        /// The largest size that this journal takes.
        limit: u64,
    },
    /// The frames that wait for the disk take all the memory that they may. Nothing was done.
    #[error("{bytes} bytes wait for the disk already; try again")]
    QueueFull {
        /// The size of the waiting frames.
        bytes: u64,
    },
    /// The disk, or a quota, is full. The frame is certainly not in the journal.
    #[error("the journal's disk is full; give it space")]
    DiskFull(#[source] Arc<io::Error>),
    /// The frame may or may not be in the journal. Opening the journal again shows which.
    #[error("a sync or write failed, so that the write may or may not be kept; open the journal again")]
    Unknown(#[source] Arc<io::Error>),
    /// An earlier error ended the journal. The frame is certainly not in it.
    #[error("an earlier error ended the journal; open it again")]
    Ended(#[source] Arc<io::Error>),
    /// The journal was closed. The frame is certainly not in it.
    #[error("the journal was closed")]
    Closed,
    /// The file system failed while the journal was opened.
    #[error("the journal's directory cannot be used")]
    Io(#[source] Arc<io::Error>),
}

impl JournalError {
    /// The kind under which a cache reports the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::InUse | Self::OtherNamespace { .. } => ErrorKind::NamespaceInUse,
            Self::Format { .. } => ErrorKind::Unsupported,
            Self::Corrupt { .. } => ErrorKind::Undecodable,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::QueueFull { .. } => ErrorKind::Busy,
            Self::DiskFull(_) => ErrorKind::ReadOnly,
            Self::Unknown(_) => ErrorKind::Unknown,
            Self::Ended(_) | Self::Io(_) => ErrorKind::Unavailable,
            Self::Closed => ErrorKind::Closed,
        }
    }

    pub(crate) fn io(error: io::Error) -> Self {
        if is_full(&error) { Self::DiskFull(Arc::new(error)) } else { Self::Io(Arc::new(error)) }
    }
}

/// Whether the file system has no space for the write.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
