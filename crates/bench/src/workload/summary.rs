//! What a workload is made of: its requests, keys and bytes.

use std::collections::HashSet;

use foldhash::fast::FixedState;
use serde::{Deserialize, Serialize};

use super::{Action, Requests};
use crate::failure::Result;

/// The counts of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Summary {
    /// The number of requests.
    pub(crate) requests: u64,
    /// The number of distinct keys.
    pub(crate) keys: u64,
    /// The number of requests that read.
    pub(crate) reads: u64,
    /// The number of requests that put.
    pub(crate) writes: u64,
    /// The number of requests that remove or invalidate.
    pub(crate) drops: u64,
    /// The sum of the sizes of all distinct keys' values, in bytes.
    pub(crate) bytes: u64,
}

impl Summary {
    /// Reads all requests. The memory in use grows with the number of keys alone.
    pub(crate) fn of(mut requests: Requests) -> Result<Self> {
        let mut summary = Self::default();
        let mut keys: HashSet<u64, FixedState> = HashSet::with_hasher(FixedState::default());
        while let Some(request) = requests.next()? {
            summary.requests += 1;
            match request.action {
                Action::Read => summary.reads += 1,
                Action::Write => summary.writes += 1,
                Action::Remove | Action::Invalidate => summary.drops += 1,
            }
            if keys.insert(request.key) {
                summary.bytes += u64::from(request.bytes);
            }
        }
        summary.keys = keys.len() as u64;
        Ok(summary)
    }
}
