//! What differs between the kinds of servers.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use super::ServerOptions;
use crate::Result;

/// One kind of server, such as Redis.
pub trait ServerKind: Sized + Send + Sync + 'static {
    /// The name of the server program, for errors.
    const PROGRAM: &'static str;

    /// The name, without `SIG`, of the signal that ends the server at once and lets it release what
    /// it keeps outside its folder.
    const END_SIGNAL: &'static str;

    /// The path of the server program.
    ///
    /// # Errors
    /// [`Error::MissingProgram`](crate::Error::MissingProgram).
    fn program() -> Result<PathBuf>;

    /// Writes into `folder` the files that the server reads at its start. Returns the program, with
    /// its name, that must run once before the first start, if there is one.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io), [`Error::MissingProgram`](crate::Error::MissingProgram).
    fn set_up(folder: &Path, options: &ServerOptions<Self>) -> Result<Option<(&'static str, Command)>>;

    /// The command that runs `program` in the foreground.
    fn command(program: &Path, folder: &Path, port: u16, options: &ServerOptions<Self>) -> Command;

    /// Whether the server on this port is ready for clients.
    ///
    /// # Errors
    /// The socket's.
    fn is_ready(port: u16) -> io::Result<bool>;

    /// The URL for clients.
    fn url(port: u16, password: Option<&str>) -> String;
}
