//! The tier suite: small named cases that say what the contract means.

mod bench;
mod cases;
mod list;
mod oracle;
mod outcome;
mod run;
mod subject;

pub(crate) use bench::Bench;
pub use list::{CACHE, EVICT, FRONT, LEASE_WAITER, LOG, PROCESSES, PUBLISH, STORE, STORE_LOG};
pub use oracle::{oracle, oracle_under_faults};
pub use outcome::{Failure, Outcome};
pub(crate) use outcome::{ensure, ensure_eq, shortened};
pub use run::{Broken, Case, run_all, run_case};
pub use subject::Subject;
