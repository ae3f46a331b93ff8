//! The folder of a server: where it is made, and files in it that hold secrets.

use std::{
    fs::OpenOptions,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{Error, Result};

/// Makes an empty folder for a server.
pub(super) fn create(on_disk: bool) -> Result<TempDir> {
    tempfile::Builder::new()
        .prefix("terrace-testbed-")
        .tempdir_in(parent(on_disk))
        .map_err(Error::io("making a folder for a server"))
}

/// A folder in memory if enough of it is free: a database is hundreds of small files, and a disk
/// that is busy with builds takes ten times as long to make them.
fn parent(on_disk: bool) -> PathBuf {
    const MEMORY: &str = "/dev/shm";
    const LEAST_FREE_BYTES: u64 = 4 << 30;
    let free_bytes = || rustix::fs::statvfs(MEMORY).map_or(0, |stat| stat.f_bavail * stat.f_frsize);
    if on_disk || std::env::var_os("TMPDIR").is_some() || free_bytes() < LEAST_FREE_BYTES {
        std::env::temp_dir()
    } else {
        PathBuf::from(MEMORY)
    }
}

/// Writes a new file that only its owner can read; `what` says in an error what was being done.
pub(crate) fn write_private(path: &Path, text: &str, what: &str) -> Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(Error::io(what))?;
    file.write_all(text.as_bytes()).map_err(Error::io(what))
}
