//! How callers share the load of a key when many of them miss it at once.

use terrace_core::policy::{Coalesce, Stampede};

/// One load for each key in this process: the first caller loads for all. This is the default.
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

/// One load for each key among all processes that share a Redis or Postgres tier. The other processes
/// wait for its value, and one of them takes over if the loading process dies or its load fails.
///
/// A process waits with one task for each key, for at most the deadline of the load. If the tier is
/// lost, the process loads for itself. Without such a tier this policy is [`SingleFlight`].
///
/// # Cost
/// While other processes load, all waiting tasks of a process share one trip every 10 to 150 ms. At
/// level `Ttl` a miss costs one more trip to Redis.
///
/// Source: Nishtala et al., Scaling Memcache at Facebook, NSDI 2013, section 3.2.1 (thundering herds).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lease;

impl Stampede for Lease {
    fn coalesce(&self) -> Coalesce {
        Coalesce::Lease
    }
}

/// [`Lease`], but a caller that would wait gets the stale value at once, if one is known and within its
/// stale time. The freshness policy is not asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseOrStale;

impl Stampede for LeaseOrStale {
    fn coalesce(&self) -> Coalesce {
        Coalesce::LeaseOrStale
    }
}
