//! The outcome of a case.

use std::fmt;

use terrace_core::Error;

/// The outcome of a case: passed, or why not.
pub type Outcome = Result<(), Failure>;

/// Why a case did not pass.
pub enum Failure {
    /// The tier did not do what the contract says.
    Broken {
        /// The file and line of the suite that found it.
        at: String,
        /// What was expected, and what was found.
        what: String,
    },
    /// The tier reported an error where it should have worked.
    Tier(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Tier(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken { at, what } => write!(f, "{what}\n  at {at}"),
            Self::Tier(error) => write!(f, "the tier failed: {error:?}"),
        }
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Failure {}

/// Ends the case with this message unless the condition holds.
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err($crate::suite::Failure::Broken {
                at: concat!(file!(), ":", line!()).to_owned(),
                what: format!($($message)+),
            });
        }
    };
}

/// Ends the case unless both sides are equal. The message says what should hold.
macro_rules! ensure_eq {
    ($found:expr, $expected:expr, $($message:tt)+) => {{
        let (found, expected) = (&$found, &$expected);
        $crate::suite::ensure!(
            found == expected,
            "{}\n  expected {}\n  found    {}",
            format_args!($($message)+),
            $crate::suite::shortened(expected),
            $crate::suite::shortened(found)
        );
    }};
}

/// The debug form, cut off so that a large body does not fill the terminal.
pub(crate) fn shortened(value: &impl fmt::Debug) -> String {
    let mut text = format!("{value:?}");
    if text.len() > 1000 {
        let end = (0..=1000).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

pub(crate) use {ensure, ensure_eq};
