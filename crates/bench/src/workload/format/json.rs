//! JSON lines. A key that is a list, as `hash_ids` of LLM traces, stands for one request for each element.

use serde_json::Value;

use super::{Columns, TraceReader};
use crate::{
    failure::Result,
    workload::{
        Request, TraceSource,
        request::{Action, hash, key_of},
    },
};

/// A reader of such a file.
pub(super) struct JsonLines {
    source: TraceSource,
    columns: Columns,
    line: Vec<u8>,
    /// The requests of the last line, last first.
    waiting: Vec<Request>,
}

impl JsonLines {
    pub(super) fn new(source: TraceSource, columns: &Columns) -> Self {
        Self { source, columns: columns.clone(), line: Vec::new(), waiting: Vec::new() }
    }

    fn parse(&mut self) -> Result<()> {
        let invalid = |error| self.source.fault(format_args!("no JSON object ({error}): is the file cut?"));
        let object: serde_json::Map<String, Value> = serde_json::from_slice(&self.line).map_err(invalid)?;
        let field = |names: &[&str]| names.iter().find_map(|name| object.get(*name));
        let no_key = || self.source.fault("the object has no key; name its field with --key-column");
        let keys = field(&self.columns.keys()).ok_or_else(no_key)?;
        let bytes = field(&self.columns.sizes()).and_then(Value::as_u64).unwrap_or(0);
        let action = match field(&self.columns.actions()).and_then(Value::as_str) {
            Some(name) => {
                let unknown =
                    || self.source.fault(format_args!("unknown action `{name:.20}`: get, put, delete"));
                Action::parse(name).ok_or_else(unknown)?
            }
            None => Action::Read,
        };
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let keys = keys.as_array().map_or(std::slice::from_ref(keys), Vec::as_slice);
        self.waiting.extend(keys.iter().rev().map(|key| Request { key: key_of_value(key), bytes, action }));
        Ok(())
    }
}

fn key_of_value(value: &Value) -> u64 {
    match value {
        Value::String(text) => key_of(text.as_bytes()),
        Value::Number(number) => number.as_u64().unwrap_or_else(|| hash(number.to_string().as_bytes())),
        other => hash(other.to_string().as_bytes()),
    }
}

impl TraceReader for JsonLines {
    fn next(&mut self) -> Result<Option<Request>> {
        while self.waiting.is_empty() {
            if !self.source.next_line(&mut self.line)? {
                return Ok(None);
            }
            if !self.line.trim_ascii().is_empty() {
                self.parse()?;
            }
        }
        Ok(self.waiting.pop())
    }
}
