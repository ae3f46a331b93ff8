//! Time limits for connecting and for the library's own lookups.

use std::time::Duration;

use terrace_tier::{Error, Result};

/// The most time for a new connection, TLS and password included.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The most time for a lookup that several callers wait for. A server that does not answer must not
/// hold up the callers that come later.
pub(crate) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs `work`, or gives a typed error after `time`.
pub(crate) async fn within<T>(time: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::time::timeout(time, work).await.unwrap_or_else(|_| Err(Error::timeout(time)))
}
