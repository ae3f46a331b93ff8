//! The tier suite: small named cases that say what the contract means.

mod batch;
mod bench;
mod clear;
mod copies;
mod evict;
mod histories;
mod leases;
mod life;
mod list;
mod log;
mod model;
mod oracle;
mod outcome;
mod processes;
mod publish;
mod races;
mod reads;
mod run;
mod shapes;
mod store;
mod subject;
mod waits;

pub(crate) use bench::Bench;
pub use list::{CACHE, EVICT, LOG, PROCESSES, PUBLISH, STORE, STORE_LOG, WAITS};
pub use oracle::{oracle, oracle_under_faults};
pub use outcome::{Failure, Outcome};
pub(crate) use outcome::{ensure, ensure_eq, shortened};
pub use run::{Broken, Case, run_all, run_case};
pub use subject::Subject;
