//! Every failure of the tool is one line that says what to do.

use std::fmt::{self, Display};

/// The result of whatever the tool does.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// What went wrong, in one line for the user.
#[derive(Debug)]
pub(crate) struct Failure(String);

impl Failure {
    /// A failure with this line. Line ends within the text become spaces.
    pub(crate) fn new(line: impl Display) -> Self {
        let text = line.to_string();
        Self(text.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// The same failure, found while the tool did something: `context: failure`.
    pub(crate) fn during(self, context: impl Display) -> Self {
        Self::new(format_args!("{context}: {}", self.0))
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<terrace::Error> for Failure {
    fn from(error: terrace::Error) -> Self {
        Self::new(error)
    }
}

impl From<terrace_testbed::Error> for Failure {
    fn from(error: terrace_testbed::Error) -> Self {
        Self::new(error)
    }
}

/// Refuses with a line: `refuse!("{} is empty", path)`.
macro_rules! refuse {
    ($($text:tt)*) => { return Err($crate::failure::Failure::new(format_args!($($text)*))) };
}
pub(crate) use refuse;
