//! `terrace-bench run`: stacks side by side on one workload.
//!
//! [`command`] reads the options and makes the report. [`plan`] says which rows are measured, in which order.
//! [`row`] measures one of them: requests come from [`feed`], [`closed`] or [`open`] sends them, [`meter`] counts
//! the answers, [`watch`] looks on from a thread of its own and makes the faults of [`fault`].

mod closed;
mod command;
mod control;
mod cost;
mod counted;
mod fault;
mod feed;
mod latency;
mod meter;
mod open;
mod payload;
mod plan;
mod row;
mod serve;
pub(crate) mod stack;
mod watch;

pub(crate) use closed::{Closed, drive as drive_closed};
pub(crate) use command::RunCommand;
pub(crate) use control::Control;
pub(crate) use cost::Cost;
pub(crate) use fault::Fault;
pub(crate) use feed::Feed;
pub(crate) use latency::Percentiles;
pub(crate) use payload::Payload;
pub(crate) use serve::Origin;
pub(crate) use watch::Slice;
