//! How the loads of one key are shared when many callers miss it at once.

use terrace_core::policy::{Coalesce, Stampede};

/// One load a key in this process: the first caller's, for all. What a cache does unless told
/// otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SingleFlight;

impl Stampede for SingleFlight {
    fn coalesce(&self) -> Coalesce {
        Coalesce::Local
    }
}

/// Each caller loads for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoCoalescing;

impl Stampede for NoCoalescing {
    fn coalesce(&self) -> Coalesce {
        Coalesce::Nobody
    }
}

/// One load a key among all processes that share a Redis or Postgres tier: the others wait for its
/// value, and one takes over if the loader's process dies or its load fails.
///
/// A process waits with one task a key, for at most the load's deadline; where the tier is lost it
/// loads for itself. Without such a tier it is [`SingleFlight`].
///
/// # Cost
/// While others load, all waits of a process share a trip every 10 to 150 ms. At level `Ttl`
/// a miss costs Redis one trip more.
///
/// Source: Nishtala et al., Scaling Memcache at Facebook, NSDI 2013, section 3.2.1 (thundering herds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease;

impl Stampede for Lease {
    fn coalesce(&self) -> Coalesce {
        Coalesce::Lease
    }
}

/// [`Lease`], and who would wait gets the stale value instead, where one is known that is within
/// its stale time, whatever the freshness policy says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseOrStale;

impl Stampede for LeaseOrStale {
    fn coalesce(&self) -> Coalesce {
        Coalesce::LeaseOrStale
    }
}
