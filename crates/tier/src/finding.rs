//! What a tier finds wrong with its server.

use std::fmt;

use crate::{Error, ErrorKind};

/// What is wrong with a server, what that does to the cache, and what to do about it.
///
/// [`Tier::ready`](crate::Tier::ready) returns what only slows the cache, and fails with the first finding
/// that stops it ([`Error::finding`]). While a tier is in use, it tells its [`FindingWatcher`], or returns
/// an error that carries the finding; a cache logs each topic of a tier once a minute.
///
/// # Example
/// ```
/// use terrace_tier::{ErrorKind, Finding, FindingTopic};
///
/// let finding = Finding::stops(FindingTopic::Role, "the server is a replica", "connect to the primary");
/// let error = finding.into_error(ErrorKind::ReadOnly);
/// assert_eq!(error.to_string(), "the server is a replica; connect to the primary");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    tier: Option<String>,
    topic: FindingTopic,
    stops: bool,
    cause: String,
    cure: String,
}

/// What a [`Finding`] is about.
#[non_exhaustive]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FindingTopic {
    /// The server is a replica, in recovery, read-only or loading.
    Role,
    /// The version of the server is too old, or has a known fault.
    Version,
    /// The server speaks another protocol, or an older version of it.
    Protocol,
    /// The certificate of the server or of the client is refused.
    Certificate,
    /// The server is one of a cluster.
    ClusterMode,
    /// The server evicts keys that the cache needs, or refuses writes in place of evicting any.
    EvictionPolicy,
    /// The server has no memory or disk left.
    Memory,
    /// The user lacks a permission.
    Permission,
    /// A pooler between the cache and the server breaks a session's state.
    Pooler,
    /// The clocks of the server and of this process differ.
    Clock,
    /// Tables or functions of the tier are missing, or are of another version.
    Schema,
    /// The server loses confirmed writes when it crashes.
    Durability,
    /// The invalidation log cannot be read.
    Log,
    /// The ends of other processes' leases cannot be heard.
    Leases,
}

impl Finding {
    /// A finding that keeps the cache from working. The `cure` is an instruction without a final stop.
    pub fn stops(topic: FindingTopic, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { tier: None, topic, stops: true, cause: cause.into(), cure: cure.into() }
    }

    /// A finding with which the cache works, but slower or with less in it.
    pub fn slows(topic: FindingTopic, cause: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { tier: None, topic, stops: false, cause: cause.into(), cure: cure.into() }
    }

    /// Adds the tier whose server it is. A cache does so, under the name that it gives the tier.
    #[must_use]
    pub fn at_tier(mut self, tier: impl Into<String>) -> Self {
        self.tier = Some(tier.into());
        self
    }

    /// The tier whose server it is, if a cache returned the finding.
    pub fn tier(&self) -> Option<&str> {
        self.tier.as_deref()
    }

    /// What the finding is about.
    pub fn topic(&self) -> FindingTopic {
        self.topic
    }

    /// Whether the cache cannot work with it.
    pub fn is_stopping(&self) -> bool {
        self.stops
    }

    /// What is wrong.
    pub fn cause(&self) -> &str {
        &self.cause
    }

    /// What to do about it.
    pub fn cure(&self) -> &str {
        &self.cure
    }

    /// An error of `kind` whose text is the finding's, and which carries it ([`Error::finding`]).
    pub fn into_error(self, kind: ErrorKind) -> Error {
        Error::new(kind, self.to_string()).with_finding(self)
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.cause, self.cure)
    }
}

/// Is told what a tier finds wrong with its server while the tier is in use.
///
/// A tier may tell the same finding as often as it meets it: the watcher decides what is logged.
pub trait FindingWatcher: Send + Sync + 'static {
    /// The tier has met this.
    ///
    /// # Cost
    /// It neither blocks nor makes a trip, so a tier may call it anywhere.
    fn found(&self, finding: &Finding);
}
