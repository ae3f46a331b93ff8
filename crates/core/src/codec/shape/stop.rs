//! A probe or a trial of a type ends with the error `Stop`.

use std::fmt;

use serde::{de, ser};

/// The error with which a probe ends after it has seen its part, and with which a sample is refused.
#[derive(Debug, Default)]
pub(in crate::codec) struct Stop {
    /// Whether a struct refused a field that it had already read, under this name or an alias.
    pub(in crate::codec) is_duplicate: bool,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("enough was seen")
    }
}

impl std::error::Error for Stop {}

impl de::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::default()
    }

    fn duplicate_field(_: &'static str) -> Self {
        Self { is_duplicate: true }
    }
}

impl ser::Error for Stop {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self::default()
    }
}
