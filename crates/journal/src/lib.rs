//! The journal of terrace's write-behind: a directory of segments that loses no acknowledged write.
//!
//! A write-behind front in a file acknowledges a put once it is here, and the store gets it later. At the next
//! start [`Journal::open`] gives back what the store does not have yet. The crate knows nothing of caches: it
//! keeps [`Write`]s, and is told which of them are settled.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use bytes::Bytes;
//! use terrace_journal::{Address, Journal, JournalOptions, Write};
//! use terrace_tier::{Deadlines, Timestamp, Version};
//!
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("users");
//! let address = Address { tenant: None, key: Bytes::from_static(b"7") };
//! let write = Write {
//!     address: address.clone(),
//!     version: Version::from_u64(1),
//!     deadlines: Deadlines::forever(Timestamp::from_millis(0)),
//!     envelope: Some(Bytes::from_static(b"Ada")),
//! };
//!
//! let (journal, recovered) = Journal::open(&path, JournalOptions::new("users")).await?;
//! assert!(recovered.writes.is_empty());
//! journal.write(write.clone())?.await?; // from here on the write survives kill -9 and power loss
//! journal.close().await;
//!
//! let (journal, recovered) = Journal::open(&path, JournalOptions::new("users")).await?;
//! assert_eq!(recovered.writes[0].write, write);
//! journal.settled(address, write.version)?; // the store has it
//! # journal.close().await;
//! # Ok::<(), terrace_journal::JournalError>(()) }).unwrap();
//! ```
//!
//! # What is lost when
//!
//! | event | lost |
//! |---|---|
//! | the process is killed, the system crashes, the power fails | no acknowledged write |
//! | a sync fails | no acknowledged write; the journal ends, and its open appends are `Unknown` |
//! | the disk is full | nothing; appends are refused, and space comes back as writes are settled |
//! | the last bytes of the last segment change on the disk after they were synced, before a later append | what they held: it looks like a torn write |
//! | any other synced byte changes, or a segment is removed | the journal refuses to open, with [`JournalError::Corrupt`] |
//! | the disk says that it synced, and did not | what it did not sync |
//!
//! # Format
//!
//! The directory has the file `lock` and segments `00000001.seg`, `00000002.seg` and so on, without a gap. Only
//! the last one is written. All numbers are little-endian, all checksums CRC-32C.
//!
//! | part | bytes |
//! |---|---|
//! | head | `"terrjrnl"`, format u32, length u32 and checksum u32 of what follows |
//! | | number u64, salt u64, highest version u64, length u32 and text of the namespace |
//! | | the front's id u64, term u64, and nonces u64 to the end of the head |
//! | frame | length u32 and checksum u32 of what follows, kind u8, version u64, synced to u64 |
//! | | length u32 and text of the tenant (`0xffffffff` if there is none), length u32 and bytes of the key |
//! | put (1), removal (2) | four deadlines u64, and the envelope to the end of the frame |
//! | settled (3), retried (5) | nothing more |
//! | dead (4) | the cause, text to the end of the frame |
//! | front (6) | the front's id u64, term u64, and nonces u64 to the end of the frame |
//!
//! The checksum of a frame also covers the segment's salt and the frame's offset: bytes of another place, or of
//! a value that looks like a frame, never pass for one. `synced to` is how far the segment was synced when the
//! frame was written. If a bad frame lies before that place in a later frame, it was acknowledged once, and the
//! journal refuses to open; otherwise a crash has torn the tail, and it is cut.
//!
//! A segment is made as `new.tmp`, synced, and renamed; then the directory is synced. An opening makes the last
//! segment anew in this way, for two reasons. Frames that a killed process left were perhaps never synced. And
//! after a failed sync the system may show bytes that are not on the disk.
//!
//! # Bounds
//!
//! Segments are removed in their order, the oldest first, when nothing in them is live: not settled, and not
//! replaced by a newer write that is synced. While the journal is larger than twice its live bytes and two
//! segments, each group of frames copies the live frames of the oldest segment to the end and removes it. A
//! group has at most half a segment, so that the journal never has more than 2.5 times the live bytes (the
//! most since the last full round) and 4 segments. The memory is about 150 bytes and the key for each live key, the
//! queue ([`JournalOptions::queue_bytes`]), and two segments while one is copied.
//!
//! # Cost
//!
//! An append at one caller is one write and one `fdatasync`. All that are appended meanwhile share the next.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod directory;
mod disk;
mod error;
mod frame;
mod journal;
mod live;
mod log;
#[cfg(any(test, feature = "testing"))]
mod lossy;
mod replay;
mod segment;
#[cfg(test)]
mod tests;

pub use directory::{Directory, File, Lock};
pub use disk::Disk;
pub use error::{JournalError, Result};
pub use frame::{Address, FrontIdentity, Write};
pub use journal::{Acknowledgement, Journal};
pub use log::{JournalOptions, JournalStats, Recovered, RecoveredWrite};
#[cfg(any(test, feature = "testing"))]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub use lossy::{Call, LossyDirectory};
