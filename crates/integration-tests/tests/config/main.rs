//! Stacks from TOML and the environment, passwords in files, and the compose file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on has failed")]

#[path = "../support/mod.rs"]
mod support;

#[cfg(unix)]
mod compose;
#[cfg(unix)]
mod password_file;
mod stacks;
