//! The suites that every tier and every policy of terrace passes; faulty and recording tiers.
//!
//! - [`tier_suite!`] makes a test of each case of the tier contract; [`suite::run_all`] runs them
//!   as a plain function.
//! - [`suite::oracle`] compares a tier with the pure transition on random histories.
//! - [`machine!`] runs random programs over stacks that hold a tier, and compares them with a plain
//!   map; [`machine::Machine`] does it as a plain function, also over a near tier of your own.
//! - [`policy_suite!`] makes a test of each case for one kind of policy; [`policy::check`] runs them
//!   as a plain function.
//! - [`check_counters`] checks the counters of a backend.
//! - [`Fake`] is a tier in memory, for the tests of tiers, caches and applications.
//! - [`Faulty`] makes any backend fail, hang or lose answers on cue; [`Recording`] writes down what
//!   a cache asks of it.

#![cfg_attr(docsrs, feature(doc_cfg))]

mod calls;
mod counters;
mod fake;
mod faulty;
pub mod machine;
#[cfg(test)]
mod mutants;
mod plain_near;
pub mod policy;
mod recording;
pub mod suite;

pub use calls::{Call, Calls};
pub use counters::check_counters;
pub use fake::{Fake, FakeLog, Saved};
pub use faulty::{Fault, Faulty};
pub use plain_near::PlainNear;
pub use recording::{Answer, Record, Recording, Request};

/// Parts of [`Fake`] that the simulations of this workspace replace. They may change at any time.
#[doc(hidden)]
pub mod parts {
    pub use crate::fake::{Address, Data, Hooks};
}
