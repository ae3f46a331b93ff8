//! Two reports, or two builds of this program: is the second one slower?

mod command;
mod rank;
mod turns;
mod verdict;

pub(crate) use command::CompareCommand;
pub(crate) use turns::TurnsCommand;
