//! Write-behind: a front acknowledges writes, and the store follows it.
//!
//! A store keeps one [`FrontRow`] for each namespace that has ever had a front. Its *term* grows with each
//! opening. A write behind carries the term of its front, and the store refuses a write of any other term.

use std::{fmt, time::Duration};

use async_trait::async_trait;

use crate::{Error, ErrorKind, Result, Timestamp, Version};

/// The number of a front's opening. Each opening of a namespace's front gets a higher one. Zero is no opening.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(u64);

impl Term {
    /// The term of a namespace whose front was never opened.
    pub const NONE: Self = Self(0);

    /// The term of this number.
    pub const fn from_u64(number: u64) -> Self {
        Self(number)
    }

    /// The term's number.
    pub const fn as_u64(self) -> u64 {
        self.0
    }

    /// The term of the next opening.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a front tells the store when it opens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontClaim {
    /// The front: a random number that a process draws, or that a journal keeps.
    pub id: u64,
    /// A random number of this opening.
    pub nonce: u64,
    /// The nonces of earlier openings of this front that may have been the last ones.
    pub known: Vec<u64>,
    /// Whether an earlier opening succeeded. If it did, and the last opening of the namespace is none of the
    /// known ones, another front has been here since: this one is a copy or was replaced.
    pub is_resumed: bool,
    /// How long the front holds the namespace, unless it prolongs the hold. `None` holds it until its release.
    pub hold: Option<Duration>,
    /// Opens the front, even where another front holds the namespace.
    pub takes_over: bool,
}

/// What the store answers to a front that it has opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontTerm {
    /// The term, which each write behind must carry.
    pub term: Term,
    /// The highest version that any record of the namespace has or had.
    pub high: Version,
}

/// What a store keeps of a namespace's front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrontRow {
    /// The front that was opened last. Zero after its release.
    pub id: u64,
    /// The nonce of its opening.
    pub nonce: u64,
    /// The term of its opening.
    pub term: Term,
    /// When the hold ends, on the store's clock.
    pub until: Timestamp,
}

impl FrontRow {
    /// The row after `claim` has opened the front at `now`.
    ///
    /// # Errors
    /// [`ErrorKind::FrontLost`] for a front that was opened before, where another front was opened since.
    /// [`ErrorKind::NamespaceInUse`] while another front holds the namespace.
    pub fn opened(row: Option<&Self>, claim: &FrontClaim, now: Timestamp) -> Result<Self> {
        let is_own = |row: &&Self| {
            row.id == claim.id && (row.nonce == claim.nonce || claim.known.contains(&row.nonce))
        };
        if !claim.takes_over && row.filter(is_own).is_none() {
            if claim.is_resumed {
                return Err(replaced_front());
            }
            if row.is_some_and(|row| row.is_held(now)) {
                return Err(held_by_another());
            }
        }
        let until = claim.hold.map_or(Timestamp::NEVER, |hold| now.after(hold));
        let term = row.map_or(Term::NONE, |row| row.term).next();
        Ok(Self { id: claim.id, nonce: claim.nonce, term, until })
    }

    /// The row after the front's release. The first direct write after the end of a hold releases the front, too:
    /// what the front has not written must not replace it.
    #[must_use]
    pub fn released(self) -> Self {
        Self { id: 0, nonce: 0, term: self.term.next(), until: Timestamp::from_millis(0) }
    }

    /// Whether a front holds the namespace at `now`.
    pub fn is_held(&self, now: Timestamp) -> bool {
        now < self.until
    }

    /// Checks the term of a write behind, or of a front that prolongs or releases its hold.
    ///
    /// # Errors
    /// [`ErrorKind::FrontLost`] where `term` is not that of the last opening.
    pub fn check(row: Option<&Self>, term: Term) -> Result<()> {
        match row {
            Some(row) if row.term == term => Ok(()),
            _ => Err(front_lost()),
        }
    }
}

/// The store's part of write-behind, for the namespace of a [`Tier`](crate::Tier) in the role of a store. The
/// writes themselves are puts with [`Order::Behind`](crate::Order::Behind).
///
/// While a front holds the namespace, the store refuses every other write of a record (a put, fill, removal or
/// new life) with [`ErrorKind::NamespaceInUse`], and so does a write that began before the front was opened.
#[async_trait]
pub trait FrontStore: Send + Sync {
    /// Opens the front: changes the row as [`FrontRow::opened`] says, in one atomic step, after every direct
    /// write that is under way. The answer's `high` is at least every version of the namespace's records.
    ///
    /// # Errors
    /// As [`FrontRow::opened`], and those of [`Tier::apply`](crate::Tier::apply).
    ///
    /// # Cost
    /// One round trip. The server reads the versions of all records of the namespace.
    async fn open_front(&self, claim: &FrontClaim) -> Result<FrontTerm>;

    /// Prolongs the hold: it then ends `hold` from now.
    ///
    /// # Errors
    /// [`ErrorKind::FrontLost`] where the term is not the last one.
    async fn hold_front(&self, term: Term, hold: Duration) -> Result<()>;

    /// Ends the hold and the term, so that direct writes and other fronts may follow.
    ///
    /// # Errors
    /// As [`hold_front`](Self::hold_front).
    async fn release_front(&self, term: Term) -> Result<()>;
}

/// The error of a write of an earlier term.
pub fn front_lost() -> Error {
    Error::new(ErrorKind::FrontLost, "another front of the namespace was opened since")
        .with_cure("use one write-behind front a namespace; `dead_letters` lists what it had not written")
}

/// The error of a front that was opened before and is no longer the last one.
pub fn replaced_front() -> Error {
    let message = "the store does not know the last opening of this front: it is a copy, or was replaced";
    Error::new(ErrorKind::FrontLost, message)
        .with_cure("remove the copy, or call `take_over` if no other process uses the front")
}

/// The error of a front that finds another one in its namespace.
pub fn held_by_another() -> Error {
    let message = "another write-behind front holds the namespace";
    Error::new(ErrorKind::NamespaceInUse, message)
        .with_cure("close the cache that has the front, or call `take_over` if its process is gone for good")
}

/// The error of a write that goes past the front which holds the namespace.
pub fn direct_write_refused() -> Error {
    let message = "a write-behind front holds the namespace, and only it writes the records";
    Error::new(ErrorKind::NamespaceInUse, message)
        .with_cure("write through the cache that has the front, or close that cache first")
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_000_000);
    const HOLD: Duration = Duration::from_secs(10);

    fn claim(id: u64, nonce: u64) -> FrontClaim {
        let (known, is_resumed, hold) = (Vec::new(), false, Some(HOLD));
        FrontClaim { id, nonce, known, is_resumed, hold, takes_over: false }
    }

    fn kind(row: Result<FrontRow>) -> ErrorKind {
        row.expect_err("a refusal").kind()
    }

    #[test]
    fn a_held_namespace_is_refused_until_the_hold_ends_or_is_taken_over() {
        let first = FrontRow::opened(None, &claim(1, 1), NOW).unwrap();
        assert_eq!(first.term, Term::from_u64(1));
        assert_eq!(kind(FrontRow::opened(Some(&first), &claim(2, 2), NOW)), ErrorKind::NamespaceInUse);
        let later = FrontRow::opened(Some(&first), &claim(2, 2), NOW.after(HOLD)).unwrap();
        assert_eq!((later.id, later.term), (2, Term::from_u64(2)));
        let by_force = FrontClaim { takes_over: true, ..claim(2, 2) };
        assert_eq!(FrontRow::opened(Some(&first), &by_force, NOW).unwrap().term, Term::from_u64(2));
        assert_eq!(FrontRow::check(Some(&later), first.term).expect_err("lost").kind(), ErrorKind::FrontLost);
        FrontRow::check(Some(&later), later.term).unwrap();
    }

    #[test]
    fn a_front_opens_again_after_an_opening_that_it_knows_and_a_clone_of_it_does_not() {
        let file = |nonce, known: &[u64]| FrontClaim {
            known: known.to_vec(),
            is_resumed: !known.is_empty(),
            hold: None,
            ..claim(1, nonce)
        };
        let first = FrontRow::opened(None, &file(1, &[]), NOW).unwrap();
        assert_eq!(first.until, Timestamp::NEVER);
        let again = FrontRow::opened(Some(&first), &file(2, &[1]), NOW).unwrap();
        let clone = FrontRow::opened(Some(&again), &file(3, &[1]), NOW);
        assert_eq!(kind(clone), ErrorKind::FrontLost);
        assert_eq!(FrontRow::opened(Some(&again), &file(4, &[1, 2]), NOW).unwrap().term, Term::from_u64(3));
        // The answer to an opening was lost, and it is sent again.
        assert_eq!(FrontRow::opened(Some(&again), &file(2, &[1]), NOW).unwrap().term, Term::from_u64(3));
        assert_eq!(kind(FrontRow::opened(None, &file(2, &[1]), NOW)), ErrorKind::FrontLost);
    }
}
