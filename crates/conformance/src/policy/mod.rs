//! The policy suite: small named cases for an application's own policies.
//!
//! [`policy_suite!`](crate::policy_suite) makes one test for each case of a kind of policy; [`check`]
//! runs them all as a plain function. A case also fails if the policy panics.

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
