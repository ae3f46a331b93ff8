//! A connection that stands, as its users hold it.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use tokio::sync::Notify;

/// A handle of a connection that stands.
#[derive(Clone)]
pub(crate) struct Live {
    /// Tells connections apart; never zero.
    pub(crate) number: u64,
    pub(crate) connection: MultiplexedConnection,
    pub(crate) run_id: Option<Arc<str>>,
    pub(crate) signals: Arc<Signals>,
}

/// What the supervisor hears about a connection.
#[derive(Default)]
pub(crate) struct Signals {
    pub(crate) gone: Notify,
    pub(crate) suspect: Notify,
}
