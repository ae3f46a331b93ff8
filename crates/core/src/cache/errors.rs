//! Errors that several routes give.

use crate::{Error, ErrorKind};

pub(super) fn reentrant_error() -> Error {
    Error::new(
        ErrorKind::Reentrant,
        "a loader asked for the key that it is loading; it would wait for itself",
    )
}

pub(super) fn panicked_error() -> Error {
    Error::new(ErrorKind::Panicked, "the loader panicked, and so did the one that took over, if any")
}

pub(super) fn shut_down_error() -> Error {
    Error::new(ErrorKind::Closed, "the runtime of the cache has shut down")
}
