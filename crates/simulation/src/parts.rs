//! The parts of a run that a switch replaces by broken ones.

use terrace_conformance::parts::Hooks;

/// How the parts of a run work.
#[derive(Clone, Copy)]
pub(crate) struct Parts {
    /// The rules of the servers.
    pub(crate) rules: fn() -> Hooks,
    pub(crate) links: Links,
    pub(crate) returns: Returns,
    /// Whether a process forgets the epochs that it knows before its log reports a clear or a gap.
    pub(crate) forgets: bool,
}

/// What becomes of a process's request to a server.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Links {
    /// It is sent.
    True,
    /// Drops that failed are answered as if they had succeeded.
    Lying,
    /// A relay's step is made in two: first the drops, then the watermark.
    Torn,
}

/// What becomes of a server that goes back in time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Returns {
    /// All its data goes back, and the process that finds this out makes the copies dead.
    True,
    /// The relay's watermark stays as it is.
    WithoutWatermark,
    /// The process that finds this out reports it, and believes the copies.
    Believed,
}

impl Parts {
    /// All parts work as they should.
    pub(crate) const TRUE: Self =
        Self { rules: || Hooks::TRUE, links: Links::True, returns: Returns::True, forgets: true };
}
