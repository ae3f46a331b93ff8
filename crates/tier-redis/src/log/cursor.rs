//! How far a follower has read, and whether what comes next continues it.

use bytes::Bytes;

/// Entries asked for at once.
pub(super) const ROUND: usize = 512;

/// The last entry that a follower has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cursor {
    /// Tells logs apart: a log that was lost comes back under another id.
    pub(super) id: Bytes,
    pub(super) sequence: u64,
    /// The entry itself, empty at the beginning of a log: one that is different now shows a server
    /// that went back in time and has come as far again.
    pub(super) last: Bytes,
}

/// One answer of the server: the head as it was, then what was appended behind the cursor.
#[derive(Debug)]
pub(super) struct Round {
    /// Id and last number; `None` where there is no log.
    pub(super) head: Option<(Bytes, u64)>,
    pub(super) entries: Vec<(u64, Bytes)>,
}

/// The log has a hole, ended, or is another one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Gap;

impl Cursor {
    /// Goes on to the last entry of `round`. Whether all was read that its head counts.
    ///
    /// The head is read before the entries: what it counts and they lack was trimmed or lost.
    pub(super) fn advance(&mut self, round: &Round) -> Result<bool, Gap> {
        let (id, newest) = round.head.as_ref().ok_or(Gap)?;
        if *id != self.id || *newest < self.sequence {
            return Err(Gap);
        }
        for (sequence, entry) in &round.entries {
            if *sequence != self.sequence + 1 {
                return Err(Gap);
            }
            self.sequence = *sequence;
            self.last = entry.clone();
        }
        match self.sequence >= *newest {
            true => Ok(true),
            false if round.entries.len() == ROUND => Ok(false),
            false => Err(Gap),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cursor(sequence: u64) -> Cursor {
        Cursor { id: Bytes::from_static(b"log"), sequence, last: Bytes::new() }
    }

    fn round(newest: u64, entries: impl IntoIterator<Item = u64>) -> Round {
        let entries = entries.into_iter().map(|sequence| (sequence, Bytes::from(sequence.to_string())));
        Round { head: Some((Bytes::from_static(b"log"), newest)), entries: entries.collect() }
    }

    #[test]
    fn entries_without_a_gap_are_read_on() {
        let mut cursor = cursor(5);
        assert_eq!(cursor.advance(&round(5, [])), Ok(true));
        assert_eq!(cursor.advance(&round(6, [6, 7])), Ok(true), "7 came after the head was read");
        assert_eq!((cursor.sequence, &cursor.last[..]), (7, &b"7"[..]));
    }

    #[test]
    fn a_full_round_is_no_proof_of_the_present() {
        let mut cursor = cursor(0);
        assert_eq!(cursor.advance(&round(1_000, 1..=ROUND as u64)), Ok(false));
        assert_eq!(cursor.advance(&round(1_000, 513..=1_000)), Ok(true));
    }

    #[test]
    fn what_is_missing_is_a_gap() {
        for (round, what) in [
            (round(8, [7, 8]), "trimmed at the front"),
            (round(8, [6, 8]), "a hole"),
            (round(8, [6]), "lost at the end"),
            (round(4, []), "gone back"),
            (Round { head: None, entries: Vec::new() }, "no log"),
            (Round { head: Some((Bytes::from_static(b"new"), 9)), entries: Vec::new() }, "another log"),
        ] {
            assert_eq!(cursor(5).advance(&round), Err(Gap), "{what}");
        }
    }
}
