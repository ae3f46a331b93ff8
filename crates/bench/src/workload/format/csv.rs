//! Columns that commas or tabs separate: by name under a header, or in the order of libCacheSim.

use super::TraceReader;
use crate::{
    failure::Result,
    workload::{
        Request, TraceSource,
        request::{Action, key_of, number},
    },
};

/// The names of the columns of a CSV file, or of the fields of JSON lines.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Columns {
    /// The column or field with the key; without it, one of: key, url, path, id, obj_id, hash_ids
    #[arg(long, value_name = "NAME", help_heading = "Workload")]
    pub(crate) key_column: Option<String>,
    /// The column or field with the size of the value; without it, one of: bytes, size, obj_size
    #[arg(long, value_name = "NAME", help_heading = "Workload")]
    pub(crate) size_column: Option<String>,
    /// The column or field with the action; without it, one of: op, action, method
    #[arg(long, value_name = "NAME", help_heading = "Workload")]
    pub(crate) action_column: Option<String>,
}

impl Columns {
    pub(super) fn keys(&self) -> Vec<&str> {
        names(self.key_column.as_ref(), &["key", "url", "path", "id", "obj_id", "hash_ids"])
    }

    pub(super) fn sizes(&self) -> Vec<&str> {
        names(self.size_column.as_ref(), &["bytes", "size", "obj_size"])
    }

    pub(super) fn actions(&self) -> Vec<&str> {
        names(self.action_column.as_ref(), &["op", "action", "method"])
    }
}

fn names<'a>(given: Option<&'a String>, usual: &[&'static str]) -> Vec<&'a str> {
    given.map_or_else(|| usual.to_vec(), |name| vec![name.as_str()])
}

/// The places of the columns in a line.
struct Places {
    key: usize,
    bytes: Option<usize>,
    action: Option<usize>,
}

/// A reader of such a file.
pub(super) struct Csv {
    source: TraceSource,
    separator: u8,
    places: Places,
    /// A first line that was read while the reader looked for a header.
    first: Option<Vec<u8>>,
    line: Vec<u8>,
    fields: Vec<Vec<u8>>,
}

impl Csv {
    /// A file with a header. Lines before it that begin with `#` are passed over.
    pub(super) fn with_header(mut source: TraceSource, columns: &Columns) -> Result<Self> {
        let mut line = first_line(&mut source)?;
        let separator = if line.contains(&b'\t') { b'\t' } else { b',' };
        let mut header = Vec::new();
        split(&line, separator, &mut header);
        let header: Vec<String> =
            header.iter().map(|name| String::from_utf8_lossy(name.trim_ascii()).to_lowercase()).collect();
        let place = |names: Vec<&str>| {
            names.iter().find_map(|name| header.iter().position(|column| *column == name.to_lowercase()))
        };
        let missing = |option: &str| {
            let columns: String = header.join(", ").chars().take(200).collect();
            source.fault(format_args!("the header names no such column; give one with {option}: {columns}"))
        };
        let key = place(columns.keys()).ok_or_else(|| missing("--key-column"))?;
        let (bytes, action) = (place(columns.sizes()), place(columns.actions()));
        if bytes.is_none() && columns.size_column.is_some() {
            return Err(missing("--size-column"));
        }
        if action.is_none() && columns.action_column.is_some() {
            return Err(missing("--action-column"));
        }
        line.clear();
        let places = Places { key, bytes, action };
        Ok(Self { source, separator, places, first: None, line, fields: Vec::new() })
    }

    /// A file of libCacheSim: `time,key,bytes[,op]`. A first line whose time is no number is a header.
    pub(super) fn lib_cache_sim(mut source: TraceSource) -> Result<Self> {
        let line = first_line(&mut source)?;
        let mut fields = Vec::new();
        split(&line, b',', &mut fields);
        if fields.len() < 3 {
            return Err(source.fault("no line `time,key,bytes`"));
        }
        let places = Places { key: 1, bytes: Some(2), action: (fields.len() > 3).then_some(3) };
        let is_data = fields[0].trim_ascii().first().is_some_and(u8::is_ascii_digit);
        Ok(Self { source, separator: b',', places, first: is_data.then_some(line), line: Vec::new(), fields })
    }

    fn parse(&mut self) -> Result<Request> {
        split(&self.line, self.separator, &mut self.fields);
        let field = |place: usize, what: &str| {
            let missing = || self.source.fault(format_args!("the line has no {what}: is the file cut?"));
            self.fields.get(place).map(|field| field.trim_ascii()).ok_or_else(missing)
        };
        let key = field(self.places.key, "key")?;
        if key.is_empty() {
            return Err(self.source.fault("the key is empty"));
        }
        let bytes = match self.places.bytes {
            Some(place) => match field(place, "size")? {
                b"" | b"-" => 0,
                text => number(text).ok_or_else(|| self.source.fault("the size is no number"))?,
            },
            None => 0,
        };
        let action = match self.places.action {
            Some(place) => {
                let name = String::from_utf8_lossy(field(place, "action")?);
                let unknown =
                    || self.source.fault(format_args!("unknown action `{:.20}`: get, put, delete", name));
                Action::parse(&name).ok_or_else(unknown)?
            }
            None => Action::Read,
        };
        Ok(Request { key: key_of(key), bytes: u32::try_from(bytes).unwrap_or(u32::MAX), action })
    }
}

impl TraceReader for Csv {
    fn next(&mut self) -> Result<Option<Request>> {
        if let Some(first) = self.first.take() {
            self.line = first;
            return self.parse().map(Some);
        }
        while self.source.next_line(&mut self.line)? {
            if !self.line.is_empty() && !self.line.starts_with(b"#") {
                return self.parse().map(Some);
            }
        }
        Ok(None)
    }
}

/// The first line that is no comment.
fn first_line(source: &mut TraceSource) -> Result<Vec<u8>> {
    let mut line = Vec::new();
    while source.next_line(&mut line)? {
        if !line.is_empty() && !line.starts_with(b"#") {
            return Ok(line);
        }
    }
    Err(source.fault("the file is empty"))
}

/// Splits a line into fields, of which those in double quotes may hold separators.
fn split(line: &[u8], separator: u8, fields: &mut Vec<Vec<u8>>) {
    let mut count = 0;
    let mut at = 0;
    loop {
        if fields.len() == count {
            fields.push(Vec::new());
        }
        let field = &mut fields[count];
        field.clear();
        count += 1;
        let mut quoted = false;
        while let Some(&byte) = line.get(at) {
            at += 1;
            match byte {
                b'"' if quoted && line.get(at) == Some(&b'"') => {
                    field.push(byte);
                    at += 1;
                }
                b'"' if quoted || field.is_empty() => quoted = !quoted,
                _ if byte == separator && !quoted => {
                    at -= 1;
                    break;
                }
                _ => field.push(byte),
            }
        }
        if at >= line.len() {
            break;
        }
        at += 1;
    }
    fields.truncate(count);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_keep_separators_and_each_line_has_its_own_fields() {
        let mut fields = Vec::new();
        split(b"a,\"b,\"\"c\"\"\",,d", b',', &mut fields);
        assert_eq!(fields, [&b"a"[..], b"b,\"c\"", b"", b"d"]);
        split(b"x\t", b'\t', &mut fields);
        assert_eq!(fields, [&b"x"[..], b""]);
        split(b"\ty", b'\t', &mut fields);
        assert_eq!(fields, [&b""[..], b"y"]);
    }
}
