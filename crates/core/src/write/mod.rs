//! A write changes the authority first, then the copies from far to near, and the near tier last.

mod expire;
mod guard;
mod put;
mod remove;
mod to_end;
mod touch;
mod unfenced;

pub(crate) use remove::unconfirmed_error;
pub(crate) use touch::Renewals;
pub(crate) use unfenced::{UnfencedFill, UnfencedFills};

use terrace_tier::Version;

use crate::{Error, ErrorKind, Result, recorder::RecordedOp};

/// How a put ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutOutcome {
    /// The authority took the put, and gave it this version.
    Kept(Version),
    /// The put's condition did not hold.
    Refused,
}

impl PutOutcome {
    /// The version of a put without a condition.
    pub(crate) fn version(self) -> Result<Version> {
        match self {
            Self::Kept(version) => Ok(version),
            Self::Refused => Err(Error::new(ErrorKind::Backend, "an unconditional put was refused")),
        }
    }
}

/// Which entries a removal drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// The copies in the cache tiers.
    Copies,
    /// The copies in the cache tiers and the record in the store.
    Everywhere,
}

impl Removal {
    /// The name of the removal in a recording.
    fn recorded(self) -> RecordedOp {
        match self {
            Self::Copies => RecordedOp::Invalidate,
            Self::Everywhere => RecordedOp::Remove,
        }
    }
}
