//! Defences: the rules that keep a cache's promises. A simulation can leave out each of them.
//!
//! A checker is only believed if it fails when one rule is left out. That is possible only in builds with
//! `--cfg terrace_simulation`. In every other build [`enabled`] is the constant `true`, and the compiler
//! removes the code that exists only to be wrong. No defence lies on the path of a near hit.

/// A rule of the cache, relay or lease tracker that no wrapper around a tier can take away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Defence {
    /// A write detaches the flight of its key, so that no later caller joins it.
    Detach,
    /// Near keeps the result of a flight only if no write of the key came between.
    Generation,
    /// If two writes of a key overlap, near keeps neither value.
    WriteOrder,
    /// Writes and removals change the farthest tier first and the nearest one last.
    FarToNear,
    /// If a tier does not confirm an invalidation, it is pending in all nearer tiers as well.
    NearerOwed,
    /// If a tier refuses a put as too large, the cache drops the older copy that the tier may hold.
    Oversize,
    /// If a follower has a copy of a higher version than a cache tier issued to a put or a load, the cache drops that
    /// copy.
    LowerVersion,
    /// A load whose record lost to another creator returns and keeps the winner's record.
    Winner,
    /// A load whose record lost to a removal is kept nowhere.
    Uncached,
    /// A store's answer that there is no row never answers a caller with a loader.
    NoRow,
    /// Near keeps a loaded value only once the authority has accepted its fill.
    Accepted,
    /// If no tier can confirm a fill, the loaded value counts as proven only when the load began.
    Unconfirmed,
    /// If a tier refuses a fill, an older copy in it is replaced all the same.
    Outdate,
    /// If a value is not kept in the authority, the authority is asked whether it has changed meanwhile.
    Confirm,
    /// If a new copy is not kept in a tier, the older copy there is dropped.
    DropReplaced,
    /// Near copies are trusted for at most a second after the last heartbeat of the log.
    Distrust,
    /// A copy that was kept while the log was silent lives for a second after it was read.
    OwnEnd,
    /// A copy that was read before a gap in the log is not covered by the log.
    BeforeGap,
    /// A gap in the log drops all near copies that the log covered.
    Gap,
    /// A heartbeat of the log counts from when its request was sent.
    Dating,
    /// Near drops the key that a notice of the log names.
    Notice,
    /// A notice of the log detaches the flight of its key.
    NoticeDetaches,
    /// A write under way learns of a newer version that the log reports.
    Notified,
    /// At level `Bounded` the copy of a tier answers only if it is proven.
    Proof,
    /// A caller that joins a flight takes its result only if that is proven recent enough for its own call.
    InTime,
    /// A caller that joins a flight does not take a result whose life had ended before its call.
    OverWhenAsked,
    /// A near copy over a shared tier is as recent as the relay's watermark proves, not as recent as the last
    /// heartbeat of that tier's log.
    Watermarks,
    /// A watermark proves the time of the advance before it, not the time of its own.
    LastButOne,
    /// A watermark that is reported again does not advance.
    Again,
    /// A copy that only its age proves lives from the start of its load.
    FromQuestion,
    /// At level `Strong` a caller that shared a load reads the store again.
    ReadAgain,
    /// The holder of a lease sends keep-alives.
    KeepAlives,
    /// A holder that is silent for too long counts as gone.
    Silence,
    /// A load without a result releases its lease.
    Release,
    /// A caller that has waited for several holders in vain waits no longer.
    Turns,
    /// A wait ends with the deadline of the load.
    WaitEnds,
    /// A call of the lease backend that takes too long is given up.
    CallTimeout,
    /// An awaited lease is polled again and again.
    Polls,
    /// No caller waits for the lease of a plain read.
    OfLoader,
    /// The load of a flight that a refresh began waits for no other process, whichever caller leads it.
    RefreshLoads,
    /// A relay that finds no watermark drops all copies.
    Begin,
    /// A relay whose position the source's log no longer knows drops all copies.
    Missed,
    /// A relay with more changes than one step takes drops all copies.
    TooMany,
    /// A write behind replaces only an older record.
    Behind,
    /// A write behind is settled only at the version that was flushed.
    SettleVersion,
    /// A write behind that finds a newer record gives way, and its copies are dropped.
    GiveWay,
    /// The versions of a front grow for the whole namespace, not only for a key.
    High,
    /// An opening raises the front's versions above all that the store has.
    OpenHigh,
    /// A write behind carries its term, and the store refuses another one.
    Terms,
    /// The answer to a write behind of an earlier term settles nothing.
    AnswerTerm,
    /// A write behind that is too old for the tombstones is refused where there is no record.
    TooOld,
    /// `flush` fails where the front's term has changed meanwhile.
    FlushTerm,
    /// A store refuses direct writes while a front holds the namespace.
    DirectWrites,
    /// Reads look at the dirty writes first.
    DirtyFirst,
    /// A write behind stays dirty until the store and each tier confirmed it or owe it.
    LeavesLast,
    /// A memory front acknowledges nothing after its hold, which counts from when its request was sent.
    HoldEnds,
    /// A barrier waits for the oldest write of a key that is not flushed.
    OldestWrite,
}

/// Whether the rule holds. It always does in this build.
#[cfg(not(terrace_simulation))]
#[inline(always)]
pub const fn enabled(_defence: Defence) -> bool {
    true
}

#[cfg(terrace_simulation)]
pub use switch::{enabled, without};

/// The switch is local to a thread, since a simulation runs all its processes on one thread.
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

    /// Calls `run` while this thread leaves out `defence`.
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
