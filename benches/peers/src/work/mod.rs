//! One trait for each kind of work; a peer implements those that it can do.

pub mod batch;
pub mod crowd;
pub mod loaders;
pub mod near;
pub mod read_through;
pub mod remote;
pub mod stale;
