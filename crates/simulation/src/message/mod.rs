//! What processes and servers send each other.

pub(crate) mod log;

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use terrace_conformance::parts::Address;
use terrace_tier::{
    Error, ErrorKind, Namespace, Notice, Op, Publication, Reply, Result, Role, Tier, TierKey, Token,
    lease::{LeaseEnd, LeaseRef, LeaseStatus},
};

use self::log::{Cursor, Round};
use crate::{encoding, history::Process};

/// The connection of one process to one server, and the server's role in the process's chain.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// The slot of the process, which stays the same when the process is started again.
    pub(crate) slot: usize,
    pub(crate) process: Process,
    pub(crate) server: usize,
    pub(crate) role: Role,
    /// The server issues the versions of a cache without a store.
    pub(crate) authority: bool,
    /// The process's chain has a store.
    pub(crate) stored: bool,
    /// The server takes no value that is a multiple of 3.
    pub(crate) fussy: bool,
}

/// The tier that a request is for.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) tier: Arc<dyn Tier>,
    pub(crate) namespace: Arc<Namespace>,
    /// The follower that knows of its own changes; zero for none.
    pub(crate) origin: Process,
}

/// A lease at a server.
pub(crate) type Lease = LeaseRef<Address>;

/// A process that waits for leases at a server.
#[derive(Clone)]
pub(crate) struct Listener {
    pub(crate) link: Link,
    pub(crate) notify: Arc<dyn Fn(Token, LeaseEnd) + Send + Sync>,
}

/// What a server sends unasked: a lease has ended.
#[derive(Clone)]
pub(crate) struct Push {
    pub(crate) listener: Listener,
    pub(crate) token: Token,
    pub(crate) end: LeaseEnd,
}

/// What a process asks a server for.
pub(crate) enum Request {
    One(Target, TierKey, Op),
    Many(Target, Vec<(TierKey, Op)>),
    Clear(Target),
    Ping(Target),
    /// A relay's step.
    Publish(Target, Publication),
    /// A relay asks for the end of the log.
    End,
    /// A relay asks what has happened in a namespace behind a place in the log.
    Since(String, Bytes),
    /// A process looks at leases of others, and waits for their end.
    Look(Vec<Lease>, Listener),
    /// A holder shows a sign of life that counts for this long.
    Sign(Vec<Lease>, Duration),
    /// A holder gives its lease back.
    GiveBack(Lease),
    /// A follower asks where to begin, or whether it may continue at this cursor.
    Join(Option<Cursor>),
    /// A follower asks what was appended; the server holds the response back for a while.
    Follow(Cursor),
}

/// What a server responds with, by the kind of request.
pub(crate) enum Response {
    One(Result<Reply>),
    Many(Vec<Result<Reply>>),
    Done(Result<()>),
    Place(Result<Bytes>),
    News(Result<Option<(Vec<Notice>, Bytes)>>),
    Joined(Result<Cursor>),
    Read(Result<Round>),
    Statuses(Result<Vec<LeaseStatus>>),
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Listener").field("link", &self.link).finish_non_exhaustive()
    }
}

impl Request {
    /// A number for the request's kind and first key: the network's random delays depend on it.
    pub(crate) fn number(&self) -> u64 {
        let of = |key: &TierKey, op: &Op| {
            encoding::key_of(key).wrapping_mul(16).wrapping_add(terrace_conformance::Call::of(op) as u64)
        };
        match self {
            Self::One(_, key, op) => of(key, op),
            Self::Many(_, batch) => batch.first().map_or(0, |(key, op)| of(key, op)),
            Self::Clear(_) => u64::MAX,
            Self::Ping(_) => u64::MAX - 1,
            Self::Join(..) => u64::MAX - 2,
            Self::Follow(..) => u64::MAX - 3,
            Self::Publish(..) => u64::MAX - 4,
            Self::End => u64::MAX - 5,
            Self::Since(..) => u64::MAX - 6,
            Self::Look(..) => u64::MAX - 7,
            Self::Sign(..) => u64::MAX - 8,
            Self::GiveBack(..) => u64::MAX - 9,
        }
    }

    /// Whether it is sent over the connection of a follower.
    pub(crate) fn is_of_log(&self) -> bool {
        matches!(self, Self::Join(..) | Self::Follow(..))
    }

    /// The response of a server that is down.
    pub(crate) fn refused(&self) -> Response {
        let error = || Error::new(ErrorKind::Unavailable, "the server is down");
        match self {
            Self::One(..) | Self::Publish(..) => Response::One(Err(error())),
            Self::End => Response::Place(Err(error())),
            Self::Since(..) => Response::News(Err(error())),
            Self::Many(_, batch) => Response::Many(batch.iter().map(|_| Err(error())).collect()),
            Self::Clear(_) | Self::Ping(_) | Self::Sign(..) | Self::GiveBack(..) => {
                Response::Done(Err(error()))
            }
            Self::Look(..) => Response::Statuses(Err(error())),
            Self::Join(..) => Response::Joined(Err(error())),
            Self::Follow(..) => Response::Read(Err(error())),
        }
    }
}

impl Response {
    /// The result of a request that returns nothing.
    pub(crate) fn done(self) -> Result<()> {
        match self {
            Self::Done(done) => done,
            _ => Err(mismatch()),
        }
    }
}

/// The error of a response that is of another kind than its request.
pub(crate) fn mismatch() -> Error {
    Error::new(ErrorKind::Backend, "a response to another request")
}
