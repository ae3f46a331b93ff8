//! The position of a reader in the log, and the detection of gaps.

use bytes::Bytes;

/// The most entries that one request returns.
pub(super) const PAGE_ENTRIES: usize = 512;

/// The last entry that a reader has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Distinguishes logs: the log after a loss has another id.
    pub(super) id: Bytes,
    pub(super) sequence: u64,
    /// The entry itself; empty at the beginning of a log. If the server now has another entry under this
    /// number, it lost this one and has appended others since.
    pub(super) entry: Bytes,
}

/// One reply of the server: the head of the log, then the entries after the cursor.
#[derive(Debug)]
pub(super) struct LogPage {
    /// The id of the log and its last number; `None` where there is no log.
    pub(super) head: Option<(Bytes, u64)>,
    pub(super) entries: Vec<(u64, Bytes)>,
}

/// Entries after the cursor are missing, or the log is gone or another one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap;

impl Cursor {
    /// Moves to the last entry of `page`. Returns whether the cursor has reached the head's last number.
    ///
    /// The server reads the head before the entries. So an entry that the head counts and the page lacks
    /// was trimmed or lost, unless the page is full.
    pub(super) fn advance(&mut self, page: &LogPage) -> Result<bool, Gap> {
        let (id, newest) = page.head.as_ref().ok_or(Gap)?;
        if *id != self.id || *newest < self.sequence {
            return Err(Gap);
        }
        for (sequence, entry) in &page.entries {
            if *sequence != self.sequence + 1 {
                return Err(Gap);
            }
            self.sequence = *sequence;
            self.entry = entry.clone();
        }
        match self.sequence >= *newest {
            true => Ok(true),
            false if page.entries.len() == PAGE_ENTRIES => Ok(false),
            false => Err(Gap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(sequence: u64) -> Cursor {
        Cursor { id: Bytes::from_static(b"log"), sequence, entry: Bytes::new() }
    }

    fn page(newest: u64, entries: impl IntoIterator<Item = u64>) -> LogPage {
        let entries = entries.into_iter().map(|sequence| (sequence, Bytes::from(sequence.to_string())));
        LogPage { head: Some((Bytes::from_static(b"log"), newest)), entries: entries.collect() }
    }

    #[test]
    fn entries_without_a_gap_move_the_cursor() {
        let mut cursor = cursor(5);
        assert_eq!(cursor.advance(&page(5, [])), Ok(true));
        assert_eq!(cursor.advance(&page(6, [6, 7])), Ok(true), "7 was appended after the head was read");
        assert_eq!((cursor.sequence, &cursor.entry[..]), (7, &b"7"[..]));
    }

    #[test]
    fn a_full_page_does_not_prove_that_the_log_was_read_to_its_end() {
        let mut cursor = cursor(0);
        assert_eq!(cursor.advance(&page(1_000, 1..=PAGE_ENTRIES as u64)), Ok(false));
        assert_eq!(cursor.advance(&page(1_000, 513..=1_000)), Ok(true));
    }

    #[test]
    fn missing_entries_are_a_gap() {
        for (page, what) in [
            (page(8, [7, 8]), "trimmed at the front"),
            (page(8, [6, 8]), "missing in the middle"),
            (page(8, [6]), "missing at the end"),
            (page(4, []), "shorter than before"),
            (LogPage { head: None, entries: Vec::new() }, "no log"),
            (LogPage { head: Some((Bytes::from_static(b"new"), 9)), entries: Vec::new() }, "another log"),
        ] {
            assert_eq!(cursor(5).advance(&page), Err(Gap), "{what}");
        }
    }
}
