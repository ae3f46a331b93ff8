//! The pool of a handle: one of its own, or the application's.

use std::sync::Arc;

use sqlx::{PgConnection, PgPool};
use terrace_tier::{Error, ErrorKind, Result, runtime::current_runtime};

use super::{
    dial::{Dialed, Dialer},
    own_pool::{OwnConnection, OwnPool},
    reuse::{ApplicationConnection, ApplicationPool},
};
use crate::error::{ConnectionState, Phase, typed};

/// A pool of connections.
#[derive(Clone)]
pub(crate) enum Pool {
    /// The handle has a pool of its own.
    Own(Arc<OwnPool>),
    /// The application made the pool and uses it too. The dialer is for connections outside of it.
    Application(ApplicationPool, Arc<Dialer>),
}

/// A connection in use. A connection of an own pool that is dropped in the middle of a statement goes
/// back when that statement has ended.
pub(crate) enum Session {
    Own(OwnConnection),
    Application { connection: ApplicationConnection, pool: ApplicationPool },
}

impl Pool {
    /// Uses a pool of the application.
    pub(crate) fn application(pool: PgPool, dialer: Dialer) -> Self {
        Self::Application(ApplicationPool::new(pool), Arc::new(dialer))
    }

    /// Makes a pool of at most `size` connections, which are opened on demand.
    pub(crate) fn own(dialer: Dialer, size: usize) -> Self {
        Self::Own(Arc::new(OwnPool::new(Arc::new(dialer), size)))
    }

    /// Takes a connection. Callers that wait for a free one are served in the order in which they came,
    /// and set their own time limit.
    pub(crate) async fn session(&self) -> Result<Session> {
        current_runtime()?;
        match self {
            Self::Own(pool) => match pool.take_trusted() {
                Some(connection) => Ok(Session::Own(connection)),
                // Boxed, so that the usual call does not carry this future's size.
                None => Box::pin(pool.acquire()).await.map(Session::Own),
            },
            Self::Application(pool, _) => match pool.acquire().await {
                Ok(connection) => Ok(Session::Application { connection, pool: pool.clone() }),
                Err(error) => self.typed(Err(error), Phase::Connect),
            },
        }
    }

    /// Opens a connection outside of the pool.
    pub(crate) async fn dial(&self) -> Result<Dialed> {
        self.dialer().connect().await
    }

    /// Turns the client's error into a typed one.
    pub(crate) fn typed<T>(&self, result: Result<T, sqlx::Error>, phase: Phase) -> Result<T> {
        result.map_err(|error| typed(error, phase, self.dialer().secrets()))
    }

    /// Ends the connections of an own pool before their next use: their server may not be the primary.
    pub(crate) fn renew(&self) {
        if let Self::Own(pool) = self {
            pool.renew();
        }
    }

    fn dialer(&self) -> &Dialer {
        match self {
            Self::Own(pool) => pool.dialer(),
            Self::Application(_, dialer) => dialer,
        }
    }

    /// Closes connections of an own pool that were idle for long.
    pub(crate) fn close_idle(&self) {
        if let Self::Own(pool) = self {
            pool.close_idle();
        }
    }
}

impl Session {
    /// The connection, for one statement.
    pub(crate) fn connection(&mut self) -> Result<&mut PgConnection> {
        match self {
            Self::Own(connection) => connection
                .start()
                .ok_or_else(|| Error::new(ErrorKind::Closed, "the connection was given back already")),
            Self::Application { connection, .. } => Ok(&mut connection.connection),
        }
    }

    /// Gives the connection back after a statement with `result`. A broken connection is closed, and so is
    /// one to a server that takes no writes.
    pub(crate) fn end<T>(self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        let state = ConnectionState::after(&result);
        match self {
            Self::Own(connection) => connection.end(state),
            Self::Application { connection, pool } if state == ConnectionState::Usable => {
                pool.hold(connection);
            }
            Self::Application { mut connection, .. } => connection.connection.close_on_drop(),
        }
        result
    }
}
