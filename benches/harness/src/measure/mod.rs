//! How rows are measured and printed: turns of callers or threads, the figures, the table.

pub mod callers;
pub mod latency;
pub mod report;
pub mod row;
pub mod threads;
