//! The one error type of the project.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use crate::{Finding, runtime::clock_hint};

/// A boxed error of the caller's own, which loaders return.
pub type BoxError = Box<dyn StdError + Send + Sync + 'static>;

/// The result of every fallible call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, so that a program can act on it.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A setting, URL or combination of parts cannot work. It is found when it is given.
    Config,
    /// Another cache, of this backend or in another process, uses the namespace with other settings.
    NamespaceInUse,
    /// A key cannot be used: it is too long, does not decode to itself, or holds a type without a fixed
    /// byte form.
    Key,
    /// A value is larger than a tier takes.
    TooLarge,
    /// Stored bytes cannot be read as a value of this cache.
    Undecodable,
    /// A value cannot be encoded.
    Unencodable,
    /// No answer came within the time budget.
    Timeout,
    /// The server cannot be reached, or the connection broke before anything was sent.
    Unavailable,
    /// The server refused the credentials or the permission.
    Denied,
    /// The server takes no writes (a replica, a read-only transaction, a full disk).
    ReadOnly,
    /// The connection broke after a write was sent: it may or may not have happened.
    Unknown,
    /// A bounded queue was full, or other writers of the key were faster too often. Nothing was done.
    Busy,
    /// The caller's loader failed. Its error is the source.
    Load,
    /// The caller's loader, codec or policy panicked.
    Panicked,
    /// A loader asked for the same key that it is loading.
    Reentrant,
    /// Every tier was tried and not all of them confirmed. The text names the tiers that did not.
    Partial,
    /// The operation is not possible on this cache or tier.
    Unsupported,
    /// The cache was closed.
    Closed,
    /// A backend reported something else.
    Backend,
}

/// What failed, where and why: a kind, the tier and the operation if there was one, a hint that says what
/// to do, and a source.
///
/// It is cheap to clone (one reference count), since every caller that shares a load gets the same error.
/// Its text never contains a connection string or a key.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    tier: Option<String>,
    operation: Option<&'static str>,
    finding: Option<Finding>,
    source: Option<BoxError>,
}

impl Error {
    /// An error of `kind`. The `message` says what happened and what to do about it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            tier: None,
            operation: None,
            finding: None,
            source: None,
        }))
    }

    /// The error for settings that cannot work. The `message` says what to set instead.
    pub fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }

    /// The error that callers get when the loader fails with `source`.
    pub fn load(source: impl Into<BoxError>) -> Self {
        Self::new(ErrorKind::Load, "the loader failed").with_source(source)
    }

    /// The error for a call that had no answer within `budget`.
    pub fn timeout(budget: Duration) -> Self {
        Self::new(ErrorKind::Timeout, format!("no answer within {budget:?}{}", clock_hint()))
    }

    /// Adds the tier that was called.
    #[must_use]
    pub fn at_tier(self, tier: impl Into<String>) -> Self {
        self.edit(|inner| inner.tier = Some(tier.into()))
    }

    /// Adds the operation that was tried.
    #[must_use]
    pub fn during(self, operation: &'static str) -> Self {
        self.edit(|inner| inner.operation = Some(operation))
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(self, source: impl Into<BoxError>) -> Self {
        self.edit(|inner| inner.source = Some(source.into()))
    }

    /// Adds what is wrong with the server.
    #[must_use]
    pub fn with_finding(self, finding: Finding) -> Self {
        self.edit(|inner| inner.finding = Some(finding))
    }

    /// What went wrong, so that a program can act on it.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The tier that was called, if the error came from a call of a tier.
    pub fn tier(&self) -> Option<&str> {
        self.0.tier.as_deref()
    }

    /// The operation that was tried, if there was one.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// What is wrong with the server, if the tier knows it.
    pub fn finding(&self) -> Option<&Finding> {
        self.0.finding.as_ref()
    }

    /// Whether the same call may succeed later, without a change by the caller.
    pub fn is_transient(&self) -> bool {
        use ErrorKind::{Busy, Timeout, Unavailable, Unknown};
        matches!(self.0.kind, Timeout | Unavailable | Busy | Unknown)
    }

    /// Edits the error in place if no clone shares it; else edits a copy whose source is the original.
    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        if Arc::get_mut(&mut self.0).is_none() {
            let copy = Inner {
                kind: self.0.kind,
                message: self.0.message.clone(),
                tier: self.0.tier.clone(),
                operation: self.0.operation,
                finding: self.0.finding.clone(),
                source: Some(Box::new(Shared(self.clone()))),
            };
            self = Self(Arc::new(copy));
        }
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            change(inner);
        }
        self
    }
}

/// A shared error, which is the source of its edited copy.
#[derive(Debug)]
struct Shared(Error);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Shared {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        StdError::source(&self.0)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tier) = &self.0.tier {
            write!(f, "{tier}: ")?;
        }
        if let Some(operation) = self.0.operation {
            write!(f, "{operation}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(source) = &self.0.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self})", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_names_tier_operation_and_cause() {
        let error = Error::new(ErrorKind::Unavailable, "cannot connect")
            .at_tier("redis")
            .during("get")
            .with_source(std::io::Error::other("refused"));
        assert_eq!(error.to_string(), "redis: get: cannot connect: refused");
        assert!(error.is_transient());
    }

    #[test]
    fn editing_a_shared_error_leaves_the_other_holders_alone() {
        let first = Error::new(ErrorKind::Timeout, "late");
        let second = first.clone().at_tier("redis");
        assert_eq!(first.tier(), None);
        assert_eq!(second.tier(), Some("redis"));
    }
}
