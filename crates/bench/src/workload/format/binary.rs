//! Traces of records of a fixed size.

use super::TraceReader;
use crate::{
    failure::Result,
    workload::{Request, TraceSource},
};

/// Big-endian numbers of `N` bytes, at most 8.
pub(super) struct Numbers<const N: usize>(TraceSource);

impl<const N: usize> Numbers<N> {
    pub(super) fn new(source: TraceSource) -> Self {
        Self(source)
    }
}

impl<const N: usize> TraceReader for Numbers<N> {
    fn next(&mut self) -> Result<Option<Request>> {
        let mut record = [0; N];
        let more = self.0.next_record(&mut record)?;
        let key = record.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        Ok(more.then(|| Request::read(key)))
    }
}

/// libCacheSim oracleGeneral, little-endian: time `u32`, key `u64`, bytes `u32`, next access `i64`.
pub(super) struct OracleGeneral {
    source: TraceSource,
    /// The number of records read so far, which the next access of a key lies behind.
    records: i64,
}

impl OracleGeneral {
    pub(super) fn new(source: TraceSource) -> Self {
        Self { source, records: 0 }
    }
}

impl TraceReader for OracleGeneral {
    fn next(&mut self) -> Result<Option<Request>> {
        let mut record = [0; 24];
        if !self.source.next_record(&mut record)? {
            return Ok(None);
        }
        let number = |from: usize, to: usize| {
            record[from..to].iter().rev().fold(0_u64, |number, byte| number << 8 | u64::from(*byte))
        };
        let (key, bytes, next) = (number(4, 12), number(12, 16) as u32, number(16, 24) as i64);
        // A key that is not accessed again has -1 or the largest number here.
        if next < -1 || (next != -1 && next <= self.records) {
            return Err(self.source.fault("a next access in the past: this is no oracleGeneral trace"));
        }
        self.records += 1;
        Ok(Some(Request { key, bytes, ..Request::default() }))
    }
}
