//! The policy suite: small named cases for the policies of an application's own.
//!
//! [`policy_suite!`](crate::policy_suite) makes a test of each case of a kind; [`check`] runs them
//! all as a plain function. A panic of the policy is a finding like any other.

mod admission;
mod case;
mod expiry;
mod freshness;
mod list;
#[cfg(test)]
mod mutants;
mod stampede;
mod write;

pub use case::{Broken, Case, check, check_one};
pub use list::{ADMISSION, EXPIRY, FRESHNESS, STAMPEDE, WRITE};
