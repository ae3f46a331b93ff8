//! What the keys of a workload say without any cache: hit ratios of LRU over capacities, exactly or from a
//! sample, and the best hit ratio that any cache can have.

mod command;
mod curve;
mod knee;
mod lru;
mod optimum;
mod shards;
mod stack_distance;

pub(crate) use command::{Analysis, AnalysisOptions, CurveCommand};
pub(crate) use curve::{Curve, CurvePoint};
pub(crate) use knee::knee;
pub(crate) use optimum::Optimum;
pub(crate) use shards::Shards;
pub(crate) use stack_distance::StackDistances;
