//! Cuts a stream of server-sent events into its events.

use bytes::{Bytes, BytesMut};
use serde_json::Value;

/// Collects bytes until an event is whole: it ends with an empty line. No byte is changed or lost.
#[derive(Default)]
pub(crate) struct EventSplitter {
    buffer: BytesMut,
    /// How much of the buffer was searched already.
    searched: usize,
}

impl EventSplitter {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The bytes that wait for the end of their event.
    pub(crate) fn waiting(&self) -> usize {
        self.buffer.len()
    }

    /// The next whole event, with its empty line.
    pub(crate) fn next_event(&mut self) -> Option<Bytes> {
        match end_of_event(&self.buffer, self.searched) {
            Some(end) => {
                self.searched = 0;
                Some(self.buffer.split_to(end).freeze())
            }
            None => {
                // The last three bytes may begin an empty line.
                self.searched = self.buffer.len().saturating_sub(3);
                None
            }
        }
    }

    /// What is left at the end of the stream: an event without its empty line.
    pub(crate) fn rest(self) -> Option<Bytes> {
        (!self.buffer.is_empty()).then(|| self.buffer.freeze())
    }
}

/// The end of the first empty line; a line ends with `\n`, `\r\n` or `\r`.
fn end_of_event(bytes: &[u8], from: usize) -> Option<usize> {
    let mut at = from;
    while at < bytes.len() {
        match &bytes[at..] {
            [b'\r', b'\n', b'\r', b'\n', ..] => return Some(at + 4),
            [b'\n', b'\n', ..] | [b'\r', b'\r', ..] => return Some(at + 2),
            [b'\n', b'\r', b'\n', ..] => return Some(at + 3),
            _ => at += 1,
        }
    }
    None
}

/// The data of an event: its `data:` lines joined.
pub(crate) fn data_of(event: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(event).ok()?;
    let lines = text.split(['\n', '\r']).filter_map(|line| line.strip_prefix("data:"));
    let data: Vec<&str> = lines.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    (!data.is_empty()).then(|| data.join("\n"))
}

/// The data of an event as JSON; `None` where there is none, as in a comment or the mark `[DONE]`.
pub(crate) fn json_of(event: &[u8]) -> Option<Value> {
    serde_json::from_str(&data_of(event)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(pieces: &[&[u8]]) -> (Vec<Bytes>, Option<Bytes>) {
        let mut splitter = EventSplitter::default();
        let mut events = Vec::new();
        for piece in pieces {
            splitter.push(piece);
            events.extend(std::iter::from_fn(|| splitter.next_event()));
        }
        (events, splitter.rest())
    }

    #[test]
    fn events_are_the_same_wherever_the_network_cuts() {
        let text = b"event: a\ndata: 1\n\ndata: 2\r\n\r\n: comment\n\ndata: [DONE]\n\nrest";
        let (events, rest) = split(&[text]);
        assert_eq!(events.len(), 4);
        assert_eq!(rest.as_deref(), Some(&b"rest"[..]));
        for at in 0..text.len() {
            for second in at..text.len() {
                let (first, last) = (&text[..at], &text[second..]);
                assert_eq!(split(&[first, &text[at..second], last]), (events.clone(), rest.clone()), "{at}");
            }
        }
    }

    #[test]
    fn no_byte_is_lost() {
        let text = b"data: a\n\n\n\ndata: b\r\rdata";
        let (events, rest) = split(&[text]);
        let whole: Vec<u8> = events.iter().chain(&rest).flatten().copied().collect();
        assert_eq!(whole, text);
    }

    #[test]
    fn data_lines_are_joined() {
        assert_eq!(data_of(b"event: x\ndata: a\ndata:b\n\n").as_deref(), Some("a\nb"));
        assert_eq!(data_of(b": ping\n\n"), None);
    }
}
