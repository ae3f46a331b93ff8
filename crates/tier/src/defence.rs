//! Defences: the rules that keep a cache's promises, each of which a simulation can leave out.
//!
//! A checker is only believed if it fails where one rule is left out. That is possible in builds with
//! `--cfg terrace_simulation` alone; in every other build [`enabled`] is the constant `true`, and the
//! compiler removes the code that exists only to be wrong. No defence lies on the path of a near hit.

/// A rule of the chain or of the lease tracker that no wrapper around a tier can take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defence {
    /// A write detaches the flight of its key.
    Detach,
    /// Near keeps what a flight brought only if no write came between.
    Generation,
    /// Of two writes of a key at the same time, near keeps neither.
    WriteOrder,
    /// Writes and removals go from far to near.
    FarToNear,
    /// What a farther tier did not confirm, nearer ones are owed as well.
    NearerOwed,
    /// A tier that refused a put as too large is not believed to have nothing older.
    Oversize,
    /// A load that lost to another creator gives and keeps the winner.
    Winner,
    /// A load that lost to a removal is kept nowhere.
    Uncached,
    /// A store's 'no row' answers no caller with a loader.
    NoRow,
    /// Near keeps a load only once the authority has taken its fill.
    Accepted,
    /// A load whose fill nobody can confirm is as old as its question.
    Unconfirmed,
    /// A fill that is refused replaces what is older than it all the same.
    Outdate,
    /// The authority is asked about what it is not to keep.
    Confirm,
    /// The older entry of a copy that a tier is not to keep is dropped there.
    DropReplaced,
    /// Near copies are not believed for more than a second after the log was heard.
    Distrust,
    /// A copy that was kept while the log was not heard lives for a second after its reading.
    OwnEnd,
    /// What was read before a gap in the log does not rest on it.
    BeforeGap,
    /// A gap in the log drops what rested on it.
    Gap,
    /// The log is dated by when its question was sent.
    Dating,
    /// What the log tells of is dropped from near.
    Notice,
    /// What the log tells of detaches the flight of its key.
    NoticeDetaches,
    /// A write under way is told of a newer one by the log.
    Notified,
    /// At level `Bounded` a tier's copy answers only if it is proven.
    Proof,
    /// Who joins a flight takes its answer only if it is proven for the joiner's own call.
    InTime,
    /// Who joins a flight whose answer's life was over before the call does not take it.
    OverWhenAsked,
    /// Near over a shared tier is as new as the relay's marks say, not as the log that was heard.
    Watermarks,
    /// A mark proves the moment of the move before it, not its own.
    LastButOne,
    /// A mark that is told again moves nothing.
    Again,
    /// What its age alone proves lives from its question on.
    FromQuestion,
    /// At level `Strong` whoever shared a load reads what it made.
    ReadAgain,
    /// A holder of a lease shows signs of life.
    Signs,
    /// A holder that shows none for too long counts as gone.
    Silence,
    /// A load that brings nothing gives its lease back.
    GiveBack,
    /// Who has waited for several holders in vain waits no more.
    Turns,
    /// A wait ends with the load's deadline.
    WaitEnds,
    /// A server that does not answer is not waited at.
    TripTimeout,
    /// A lease that is awaited is looked at again and again.
    Looks,
    /// The lease of a plain read is waited for by nobody.
    OfLoader,
    /// The load of a flight that a refresh began waits for no other process, whichever caller leads it.
    RefreshLoads,
    /// A relay that finds no mark drops all copies.
    Begin,
    /// A relay whose place the truth's log does not know any more drops all copies.
    Missed,
    /// Of more changes than a relay's step takes, all copies go.
    TooMany,
}

/// Whether the rule holds: always.
#[cfg(not(terrace_simulation))]
#[inline(always)]
pub const fn enabled(_defence: Defence) -> bool {
    true
}

#[cfg(terrace_simulation)]
pub use switch::{enabled, without};

/// The switch is local to a thread: a simulation runs all its processes on one.
#[cfg(terrace_simulation)]
mod switch {
    use std::cell::Cell;

    use super::Defence;

    thread_local! {
        static LEFT_OUT: Cell<Option<Defence>> = const { Cell::new(None) };
    }

    /// Whether the rule holds on this thread.
    pub fn enabled(defence: Defence) -> bool {
        LEFT_OUT.get() != Some(defence)
    }

    /// Runs `run` without one defence of the caches and trackers on this thread.
    pub fn without<R>(defence: Defence, run: impl FnOnce() -> R) -> R {
        struct Restore;
        impl Drop for Restore {
            fn drop(&mut self) {
                LEFT_OUT.set(None);
            }
        }
        LEFT_OUT.set(Some(defence));
        let _restore = Restore;
        run()
    }
}
