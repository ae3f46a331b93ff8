//! Counters that all processes of an application share.

use async_trait::async_trait;

use crate::Result;

/// The most counters of one group. Beyond it a new name is counted as [`OTHER_COUNTER`].
pub const MAX_COUNTERS: usize = 4096;

/// The counter that stands for all names beyond [`MAX_COUNTERS`].
pub const OTHER_COUNTER: &str = "other";

/// One group of named counters on a server, which all processes share: see
/// [`Backend::counters`](crate::Backend::counters).
///
/// A caller adds up in its own memory and sends the sums once in a while, so that an event costs no trip.
/// A group has at most [`MAX_COUNTERS`] names.
#[async_trait]
pub trait Counters: Send + Sync + 'static {
    /// Adds to counters, all in one step. A counter that does not exist begins at zero. The names of a call are
    /// distinct.
    ///
    /// # Errors
    /// After [`ErrorKind::Unknown`](crate::ErrorKind::Unknown) the step may have happened; after any other error
    /// it has not. The call is not retried.
    ///
    /// # Cost
    /// One request, whatever the number of counters.
    async fn add(&self, deltas: &[(String, i64)]) -> Result<()>;

    /// All counters of the group, in any order.
    ///
    /// # Errors
    /// The errors of the server.
    ///
    /// # Cost
    /// One request, which answers at most [`MAX_COUNTERS`] + 1 pairs.
    async fn read(&self) -> Result<Vec<(String, i64)>>;
}
