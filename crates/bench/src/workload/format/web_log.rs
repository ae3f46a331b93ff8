//! Web logs in common and combined format: `host - user [time] "GET /path HTTP/1.1" 200 512 ..`.

use super::TraceReader;
use crate::{
    failure::Result,
    workload::{
        Request, TraceSource,
        request::{Action, hash, number},
    },
};

/// The key is the path with its query, as the line has it.
pub(super) struct WebLog {
    source: TraceSource,
    line: Vec<u8>,
}

impl WebLog {
    pub(super) fn new(source: TraceSource) -> Self {
        Self { source, line: Vec::new() }
    }
}

impl TraceReader for WebLog {
    fn next(&mut self) -> Result<Option<Request>> {
        while self.source.next_line(&mut self.line)? {
            if !self.line.is_empty() {
                let no_log = || self.source.fault("no line of a web log in common or combined format");
                return request(&self.line).ok_or_else(no_log).map(Some);
            }
        }
        Ok(None)
    }
}

fn request(line: &[u8]) -> Option<Request> {
    let after_time = &line[line.iter().position(|byte| *byte == b']')? + 1..];
    let begin = after_time.iter().position(|byte| *byte == b'"')? + 1;
    // The request may itself contain escaped quotes; a status, or a dash, follows its end.
    let length = (begin..after_time.len()).find(|&at| {
        let is_end = after_time[at] == b'"' && after_time[at - 1] != b'\\';
        is_end && after_time.get(at + 1) == Some(&b' ')
    })? - begin;
    let quoted = &after_time[begin..begin + length];
    let mut words = quoted.split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let (method, path) = match (words.next(), words.next()) {
        (Some(method), Some(path)) => (method, path),
        (Some(path), None) => (&b"GET"[..], path),
        _ => (&b"GET"[..], &b"-"[..]),
    };
    let mut rest =
        after_time[begin + length + 1..].split(|byte| *byte == b' ').filter(|word| !word.is_empty());
    let status = rest.next()?;
    (status == b"-" || number(status).is_some()).then_some(())?;
    let bytes = rest.next().and_then(number).unwrap_or(0);
    let action = std::str::from_utf8(method).ok().and_then(Action::parse).unwrap_or_default();
    Some(Request { key: hash(path), bytes: u32::try_from(bytes).unwrap_or(u32::MAX), action })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_and_combined_lines_give_path_size_and_action() {
        let common = br#"1.2.3.4 - ann [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.0" 200 2326"#;
        let combined = br#"::1 - - [x] "DELETE /\"q\" HTTP/1.1" 404 - "http://a/" "agent ] \" x""#;
        let read = Request { key: hash(b"/a?b=c"), bytes: 2326, action: Action::Read };
        assert_eq!(request(common), Some(read));
        assert_eq!(
            request(combined),
            Some(Request { key: hash(br#"/\"q\""#), bytes: 0, action: Action::Remove })
        );
        assert_eq!(request(b"one two three"), None);
        assert_eq!(request(br#"a [b] "GET /x"#), None);
    }
}
