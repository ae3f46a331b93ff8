//! The calls that a journal makes of the file system, as traits, so that tests can lose what was not synced.

use std::{fmt::Debug, io};

/// The directory of one journal. Names have no separators. All calls block.
///
/// The journal relies on what POSIX says and on no more: bytes are durable once [`File::sync_data`] has
/// returned, and a name is durable, or durably gone, once [`sync`](Self::sync) has returned. The order in
/// which other changes become durable is not known.
pub trait Directory: Debug + Send + Sync {
    /// Takes the directory's lock, until the result is dropped or the process ends.
    ///
    /// # Errors
    /// [`io::ErrorKind::WouldBlock`] while another opener has it.
    fn lock(&self) -> io::Result<Box<dyn Lock>>;

    /// The names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;

    /// The bytes of a file.
    fn read(&self, name: &str) -> io::Result<Vec<u8>>;

    /// Creates an empty file, or empties the file that has the name.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Gives a file another name. A file that had it is replaced in the same step.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes the names durable: `fsync` of the directory.
    fn sync(&self) -> io::Result<()>;
}

/// An open file of a [`Directory`], which is written at its end only.
pub trait File: Debug + Send {
    /// Writes all bytes at the end. After an error some of them may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Cuts the file to `len` bytes.
    fn truncate(&mut self, len: u64) -> io::Result<()>;

    /// Makes the bytes and the length durable: `fdatasync`.
    fn sync_data(&mut self) -> io::Result<()>;
}

/// The lock of a [`Directory`], held until it is dropped.
pub trait Lock: Debug + Send {}
