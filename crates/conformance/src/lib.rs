//! The suites that every tier and every policy of terrace passes; faulty and recording tiers.
//!
//! - [`tier_suite!`] makes a test of each case of the tier contract; [`suite::run_all`] runs them
//!   as a plain function.
//! - [`Fake`] is a tier in memory, for the tests of tiers, caches and applications.

mod calls;
mod fake;
#[cfg(test)]
mod mutants;
pub mod suite;

pub use calls::{Call, Calls};
pub use fake::Fake;
