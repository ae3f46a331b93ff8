//! Traces of one number or one text a line, and the ARC traces.

use super::TraceReader;
use crate::{
    failure::Result,
    workload::{
        Request, TraceSource,
        request::{key_of, number},
    },
};

/// Lines `first_block blocks 0 request`; each line stands for reads of `blocks` keys in a row.
pub(super) struct Arc {
    source: TraceSource,
    line: Vec<u8>,
    next: u64,
    left: u64,
}

impl Arc {
    pub(super) fn new(source: TraceSource) -> Self {
        Self { source, line: Vec::new(), next: 0, left: 0 }
    }
}

impl TraceReader for Arc {
    fn next(&mut self) -> Result<Option<Request>> {
        while self.left == 0 {
            if !self.source.next_line(&mut self.line)? {
                return Ok(None);
            }
            let numbers: Vec<Option<u64>> = words(&self.line).map(number).collect();
            match numbers[..] {
                [Some(first), Some(blocks), Some(_), Some(_)] => (self.next, self.left) = (first, blocks),
                [] => {}
                _ => return Err(self.source.fault("no line `first_block blocks 0 request` of four numbers")),
            }
        }
        let request = Request::read(self.next);
        self.next = self.next.wrapping_add(1);
        self.left -= 1;
        Ok(Some(request))
    }
}

/// One number a line.
pub(super) struct Lirs {
    source: TraceSource,
    line: Vec<u8>,
}

impl Lirs {
    pub(super) fn new(source: TraceSource) -> Self {
        Self { source, line: Vec::new() }
    }
}

impl TraceReader for Lirs {
    fn next(&mut self) -> Result<Option<Request>> {
        while self.source.next_line(&mut self.line)? {
            let text = self.line.trim_ascii();
            if !text.is_empty() && text != b"*" {
                let key = number(text).ok_or_else(|| self.source.fault("no number and no `*`"))?;
                return Ok(Some(Request::read(key)));
            }
        }
        Ok(None)
    }
}

/// One key a line, any text.
pub(super) struct Plain {
    source: TraceSource,
    line: Vec<u8>,
}

impl Plain {
    pub(super) fn new(source: TraceSource) -> Self {
        Self { source, line: Vec::new() }
    }
}

impl TraceReader for Plain {
    fn next(&mut self) -> Result<Option<Request>> {
        while self.source.next_line(&mut self.line)? {
            if self.line.contains(&0) {
                return Err(self.source.fault("a zero byte: this is no file of one key a line"));
            }
            let text = self.line.trim_ascii();
            if !text.is_empty() {
                return Ok(Some(Request::read(key_of(text))));
            }
        }
        Ok(None)
    }
}

fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty())
}
