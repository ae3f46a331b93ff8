//! The pool of a handle: one of its own, or the application's.

use std::sync::Arc;

use sqlx::{ConnectOptions, PgConnection, PgPool, postgres::PgConnectOptions};
use terrace_tier::Result;

use super::{
    own_pool::{OwnConnection, OwnPool},
    reuse::{ApplicationConnection, ApplicationPool},
};
use crate::error::{Phase, breaks_connection, typed};

/// A pool of connections.
#[derive(Clone)]
pub(crate) enum Pool {
    /// The handle has a pool of its own.
    Own(Arc<OwnPool>),
    /// The application made the pool and uses it too.
    Application(ApplicationPool),
}

/// A connection in use. A connection of an own pool that is dropped in the middle of a statement goes
/// back when that statement has ended.
pub(crate) enum Session {
    Own(OwnConnection),
    Application { connection: ApplicationConnection, pool: ApplicationPool },
}

impl Pool {
    /// Uses a pool of the application.
    pub(crate) fn application(pool: PgPool) -> Self {
        Self::Application(ApplicationPool::new(pool))
    }

    /// Makes a pool of at most `size` connections, which are opened on demand.
    pub(crate) fn own(options: PgConnectOptions, size: usize) -> Self {
        Self::Own(Arc::new(OwnPool::new(options, size)))
    }

    /// Takes a connection. Callers that wait for a free one are served in the order in which they came,
    /// and set their own time limit.
    pub(crate) async fn session(&self) -> Result<Session> {
        let session = match self {
            Self::Own(pool) => match pool.take_trusted() {
                Some(connection) => Ok(Session::Own(connection)),
                // Boxed, so that the usual call does not carry this future's size.
                None => Box::pin(pool.acquire()).await.map(Session::Own),
            },
            Self::Application(pool) => match pool.acquire().await {
                Ok(connection) => Ok(Session::Application { connection, pool: pool.clone() }),
                Err(error) => Err(error),
            },
        };
        session.map_err(|error| typed(error, Phase::Connect))
    }

    /// The options for a connection outside of the pool.
    pub(crate) fn options(&self) -> PgConnectOptions {
        match self {
            Self::Own(pool) => pool.options().clone(),
            Self::Application(pool) => {
                PgConnectOptions::clone(&pool.pool().connect_options()).disable_statement_logging()
            }
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
            Self::Own(connection) => {
                connection.start().ok_or_else(|| typed(sqlx::Error::PoolClosed, Phase::Connect))
            }
            Self::Application { connection, .. } => Ok(&mut connection.connection),
        }
    }

    /// Gives the connection back after a statement with `result`; a broken connection is closed.
    pub(crate) fn end<T>(self, result: Result<T, sqlx::Error>) -> Result<T, sqlx::Error> {
        let broken = result.as_ref().err().is_some_and(breaks_connection);
        match self {
            Self::Own(connection) => connection.end(broken),
            Self::Application { mut connection, .. } if broken => connection.connection.close_on_drop(),
            Self::Application { connection, pool } => pool.hold(connection),
        }
        result
    }
}
