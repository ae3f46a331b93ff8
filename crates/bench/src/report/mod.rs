//! What was found, as data and for people.

mod csv;
mod data;
mod files;
mod html;
mod rerender;
pub(crate) mod table;
mod verdict;

pub(crate) use data::{Arrival, Machine, Report, Round, Row, TierRow};
pub(crate) use files::{Files, read};
pub(crate) use rerender::ReportCommand;
pub(crate) use verdict::Verdict;
