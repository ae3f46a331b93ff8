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
    /// The write-behind backlog is full or too old. The write was not taken.
    Backlog,
    /// The write-behind front is not the namespace's front any more, so what it had not written may be lost.
    FrontLost,
    /// The caller's loader failed. [`Error::load_error`] gives back its error.
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

/// What failed, where and why: a kind, the cache and the call that it was made for, the tier if one was
/// asked, a message, a cure, and a cause.
///
/// It is cheap to clone (one reference count), since every caller that shares a load gets the same error.
///
/// # What it prints
/// `Display` prints all of that with the text of the cause. [`source`](std::error::Error::source) goes on
/// with the causes of the cause, as that of [`std::io::Error`] does. So each cause is printed once, by
/// `Display` alone and by a program that prints an error with its sources. The text never contains a
/// connection string, a key or a value, unless the caller's own loader put one into its error. The alternate
/// form `{:#}` leaves the cure out.
///
/// ```
/// use terrace_tier::{Error, ErrorKind};
///
/// let refused = std::io::Error::other("connection refused");
/// let error = Error::new(ErrorKind::Unavailable, "the server cannot be reached").with_source(refused);
/// let error = error.in_cache("users").during("get_or_load").at_tier("redis");
/// let text = "cache users: get_or_load: redis: the server cannot be reached: connection refused";
/// assert_eq!(error.to_string(), text);
/// ```
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    cache: Option<String>,
    operation: Option<&'static str>,
    tier: Option<String>,
    cure: Option<&'static str>,
    finding: Option<Finding>,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error of `kind`. The `message` says what happened and what to do about it.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Arc::new(Inner {
            kind,
            message: message.into(),
            cache: None,
            operation: None,
            tier: None,
            cure: None,
            finding: None,
            cause: None,
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
        let error = Self::new(ErrorKind::Timeout, format!("no answer within {budget:?}{}", clock_hint()));
        error.with_cure("check the load of the server and the network to it, or set a larger budget")
    }

    /// Adds the name of the cache.
    #[must_use]
    pub fn in_cache(self, cache: impl Into<String>) -> Self {
        self.edit(|inner| inner.cache = Some(cache.into()))
    }

    /// Adds the tier that was called.
    #[must_use]
    pub fn at_tier(self, tier: impl Into<String>) -> Self {
        self.edit(|inner| inner.tier = Some(tier.into()))
    }

    /// Adds the operation that was tried: an operation of the tier, or in an error that a cache returns the
    /// method that its caller called.
    #[must_use]
    pub fn during(self, operation: &'static str) -> Self {
        self.edit(|inner| inner.operation = Some(operation))
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(self, source: impl Into<BoxError>) -> Self {
        self.edit(|inner| inner.cause = Some(Arc::from(source.into())))
    }

    /// Adds what to do about the error, where the message does not say so. It is an instruction without a
    /// final stop.
    #[must_use]
    pub fn with_cure(self, cure: &'static str) -> Self {
        self.edit(|inner| inner.cure = Some(cure))
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

    /// The name of the cache, if a cache returned the error.
    pub fn cache(&self) -> Option<&str> {
        self.0.cache.as_deref()
    }

    /// The tier that was called, if the error came from a call of a tier.
    pub fn tier(&self) -> Option<&str> {
        self.0.tier.as_deref()
    }

    /// The operation that was tried. In an error that a cache returns it is the method that its caller
    /// called, such as `get_or_load`; in an event it is the operation of the tier, such as `lease`.
    pub fn operation(&self) -> Option<&'static str> {
        self.0.operation
    }

    /// What to do about the error, where that is known apart from the message.
    pub fn cure(&self) -> Option<&str> {
        self.0.finding.as_ref().map(Finding::cure).or(self.0.cure)
    }

    /// What is wrong with the server, if the tier knows it.
    pub fn finding(&self) -> Option<&Finding> {
        self.0.finding.as_ref()
    }

    /// The error of type `E` that the caller's own loader returned, or that is among its sources. All
    /// callers that shared the load get the same one, so it is borrowed.
    ///
    /// ```
    /// use terrace_tier::Error;
    ///
    /// let error = Error::load(std::io::Error::from(std::io::ErrorKind::NotFound));
    /// let own: Option<&std::io::Error> = error.load_error();
    /// assert_eq!(own.map(std::io::Error::kind), Some(std::io::ErrorKind::NotFound));
    /// ```
    pub fn load_error<E: StdError + 'static>(&self) -> Option<&E> {
        let cause = self.0.cause.as_deref().filter(|_| self.0.kind == ErrorKind::Load)?;
        let mut cause: Option<&(dyn StdError + 'static)> = Some(cause);
        while let Some(error) = cause {
            if let Some(own) = error.downcast_ref() {
                return Some(own);
            }
            cause = error.source();
        }
        None
    }

    /// Whether the same call may succeed later, without a change by the caller.
    pub fn is_transient(&self) -> bool {
        use ErrorKind::{Backlog, Busy, Timeout, Unavailable, Unknown};
        matches!(self.0.kind, Timeout | Unavailable | Busy | Backlog | Unknown)
    }

    /// Edits the error in place if no clone shares it, else a copy.
    fn edit(mut self, change: impl FnOnce(&mut Inner)) -> Self {
        change(Arc::make_mut(&mut self.0));
        self
    }

    /// Writes the error as the cause of `outer`, whose text names what both have in common.
    fn write(&self, f: &mut fmt::Formatter<'_>, outer: Option<&Inner>) -> fmt::Result {
        let Inner { cache, operation, tier, .. } = &*self.0;
        let is_new_cache = outer.is_none_or(|outer| outer.cache != *cache);
        if let Some(cache) = cache.as_ref().filter(|_| is_new_cache) {
            write!(f, "cache {cache}: ")?;
        }
        if let Some(operation) = operation.filter(|_| is_new_cache || outer.is_none()) {
            write!(f, "{operation}: ")?;
        }
        if let Some(tier) = tier.as_ref().filter(|_| outer.is_none_or(|outer| outer.tier != *tier)) {
            write!(f, "{tier}: ")?;
        }
        f.write_str(&self.0.message)?;
        if let Some(cause) = self.0.cause.as_deref() {
            match (cause as &(dyn StdError + 'static)).downcast_ref::<Self>() {
                Some(nested) => {
                    f.write_str(": ")?;
                    nested.write(f, Some(&self.0))?;
                }
                None => write!(f, ": {cause}")?,
            }
        }
        match self.0.cure {
            Some(cure) if outer.is_none() && !f.alternate() => write!(f, "; {cure}"),
            _ => Ok(()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, None)
    }
}

/// Shows the kind, the text, and all further causes, since `unwrap` and `main` print no sources.
impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Error({:?}: {self}", self.0.kind)?;
        let mut cause = self.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        f.write_str(")")
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().and_then(StdError::source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error whose text does not repeat its source, as libraries write them.
    #[derive(Debug)]
    struct Query(std::io::Error);

    impl fmt::Display for Query {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the query failed")
        }
    }

    impl StdError for Query {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&self.0)
        }
    }

    /// What a program prints that prints an error with its sources.
    fn with_sources(error: &Error) -> String {
        let (mut text, mut cause) = (error.to_string(), error.source());
        while let Some(source) = cause {
            text += &format!(": {source}");
            cause = source.source();
        }
        text
    }

    #[test]
    fn an_error_names_cache_operation_tier_and_cause() {
        let error = Error::new(ErrorKind::Unavailable, "cannot connect")
            .at_tier("redis")
            .during("get")
            .with_source(std::io::Error::other("refused"))
            .in_cache("users")
            .with_cure("start the server");
        let text = "cache users: get: redis: cannot connect: refused; start the server";
        assert_eq!(error.to_string(), text);
        assert_eq!(format!("{error:#}; start the server"), text);
        assert!(error.is_transient());
    }

    #[test]
    fn each_cause_is_printed_once_alone_and_with_the_sources() {
        let load = Error::load(Query(std::io::Error::other("refused"))).in_cache("users").during("get");
        assert_eq!(load.to_string(), "cache users: get: the loader failed: the query failed");
        assert_eq!(with_sources(&load), "cache users: get: the loader failed: the query failed: refused");
        assert_eq!(format!("{load:?}"), format!("Error(Load: {})", with_sources(&load)));
        let lost = Error::new(ErrorKind::Unavailable, "cannot connect").at_tier("redis");
        let lost = lost.with_source(std::io::Error::other("refused"));
        let outer = Error::new(ErrorKind::Unavailable, "not connected").at_tier("redis").with_source(lost);
        assert_eq!(with_sources(&outer), "redis: not connected: cannot connect: refused");
    }

    #[test]
    fn a_cache_that_a_loader_asks_is_named_beside_its_own() {
        let inner = Error::new(ErrorKind::Timeout, "late").in_cache("orders").during("get").at_tier("redis");
        let outer = Error::load(inner).in_cache("users").during("get");
        let text = "cache users: get: the loader failed: cache orders: get: redis: late";
        assert_eq!(with_sources(&outer), text);
        assert_eq!(outer.load_error::<Error>().map(Error::kind), Some(ErrorKind::Timeout));
    }

    #[test]
    fn callers_that_share_a_load_get_the_loaders_own_error() {
        let error = Error::load(Query(std::io::Error::from(std::io::ErrorKind::NotFound)));
        let shared = error.clone().in_cache("users");
        let (one, other): (Option<&Query>, Option<&Query>) = (error.load_error(), shared.load_error());
        assert!(std::ptr::eq(one.expect("its own"), other.expect("its own")));
        let below: Option<&std::io::Error> = shared.load_error();
        assert_eq!(below.map(std::io::Error::kind), Some(std::io::ErrorKind::NotFound));
        let other = Error::new(ErrorKind::Backend, "no load").with_source(std::io::Error::other("refused"));
        assert!(other.load_error::<std::io::Error>().is_none(), "no loader returned it");
    }

    #[test]
    fn editing_a_shared_error_leaves_the_other_holders_alone() {
        let first = Error::new(ErrorKind::Timeout, "late");
        let second = first.clone().at_tier("redis");
        assert_eq!(first.tier(), None);
        assert_eq!(second.tier(), Some("redis"));
        assert_eq!(second.to_string(), "redis: late");
    }
}
