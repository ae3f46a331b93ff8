//! Only this file decides what a lookup's outcome means for the caller of an ordinary read.
//!
//! This file also decides which stale entry a caller may get where no tier has a fresh one.

use std::{hash::Hash, sync::Arc};

use terrace_tier::{
    Deadlines,
    defence::{Defence, enabled},
};

use super::{Answer, CacheTicket, LookupOutcome, Miss, NearMiss, StaleCopy};
use crate::{
    Cache, Cached, Error, Event, Key, OnStale, Source, Value,
    cache::NEAR,
    flight::{Intent, JoinMode},
    freshness::{ReadBound, ReadMode, STORE_ONLY},
    near::{Entry, Near},
};

/// A caller for whom a lookup's outcome is judged.
pub(super) struct Caller<'a, K: Key, V> {
    /// The caller's ticket for the flight, or `None` for a plain read with a lookup of its own, outside
    /// any flight.
    pub(super) ticket: Option<&'a CacheTicket<K, V>>,
    pub(super) intent: Intent,
    /// How the caller joined the flight.
    pub(super) mode: JoinMode,
    pub(super) bound: ReadBound,
}

impl<K: Key, V> Caller<'_, K, V> {
    /// Whether another caller began the flight.
    fn joined(&self) -> bool {
        self.ticket.is_some_and(CacheTicket::joined)
    }
}

/// What a lookup's outcome means for one caller.
pub(super) enum Verdict<V> {
    /// The caller gets this answer. `refresh` says that the answer is stale and is to be refreshed.
    Answer { answer: Answer<V>, refresh: bool },
    /// The flight is too old for the call, and the caller looks up the key again.
    Again,
    /// The lookup was made for a plain read and found no record, which this caller's loader may create.
    /// The caller looks up the key again, in a flight that is made for a load.
    AgainForLoad,
    /// No tier has a fresh entry, so the caller goes on to the load stage.
    Load(Miss<V>),
}

/// What to do with an entry of the near tier that is not fresh.
pub(super) enum StaleEntry<V> {
    Serve(Cached<V>),
    ServeAndRefresh(Cached<V>),
    /// The read goes on, and may serve the entry if the load fails.
    Keep(Option<StaleCopy<V>>),
}

impl<K: Key, V: Value, N: Near<K, V>> Cache<K, V, N> {
    /// Judges a lookup's outcome for one caller. `stale` is the stale entry of the near tier, if there
    /// is one.
    pub(super) fn judge(
        &self,
        caller: &Caller<'_, K, V>,
        outcome: LookupOutcome<V>,
        stale: Option<StaleCopy<V>>,
    ) -> Verdict<V> {
        if self.is_too_old(caller, &outcome) {
            return Verdict::Again;
        }
        let (loads, joined) = (caller.intent.loads(), caller.joined());
        let answer = match outcome {
            LookupOutcome::Found(entry, _)
                if loads && caller.mode == JoinMode::Join && self.is_no_record(&entry) =>
            {
                return Verdict::AgainForLoad;
            }
            LookupOutcome::Found(entry, source) => {
                let refresh = self.is_to_be_refreshed(&entry);
                if joined {
                    self.inner.tell(&Event::Coalesced);
                }
                self.tell_stale(&entry, source);
                return Verdict::Answer { answer: Ok(self.handle(entry, source, joined)), refresh };
            }
            LookupOutcome::Failed(error, met) => {
                let answer = self.stale_or(met.or(stale), error);
                if let (Some(ticket), Ok(_)) = (caller.ticket, &answer) {
                    self.inner.back_off.failed(&**ticket.key());
                }
                answer
            }
            LookupOutcome::Missed(miss) => match self.loaded_meanwhile(caller, &miss) {
                None if loads => {
                    let stale = miss.stale.clone().or(stale);
                    if miss.is_pausing
                        && let Some(hit) = self.stale_in_backoff(stale.as_ref())
                    {
                        return Verdict::Answer { answer: Ok(Some(hit)), refresh: false };
                    }
                    // The lookup may have been made for a caller that accepts older proofs.
                    let oldest_proof = caller.bound.oldest_proof;
                    return Verdict::Load(Miss { stale, oldest_proof, ..miss });
                }
                hit => Ok(hit),
            },
        };
        Verdict::Answer { answer, refresh: false }
    }

    /// Whether the lookup that this caller joined is too old for its call. The lookup is too old in
    /// three cases:
    ///
    /// - The entry that the lookup found was not proven as late as the call requires.
    /// - In a plain read of a cache with a store, the lookup found no record, but before the oldest
    ///   proof that the call accepts.
    /// - In a plain read of a cache with a store, a load of this flight has since created the record,
    ///   and the value of that load is too old.
    ///
    /// A caller that goes on to a load learns from the load whether there is a record.
    fn is_too_old(&self, caller: &Caller<'_, K, V>, outcome: &LookupOutcome<V>) -> bool {
        let Caller { ticket: Some(ticket), intent, bound, .. } = *caller else { return false };
        if !ticket.joined() || !enabled(Defence::InTime) {
            return false;
        }
        match outcome {
            LookupOutcome::Found(entry, _) => !self.suffices(entry, bound),
            LookupOutcome::Missed(miss) if self.chain.store.is_some() && !intent.loads() => {
                let load = ticket.flight().load.result();
                let loaded_before = matches!(load, Some(Ok((entry, _))) if !self.suffices(&entry, bound));
                miss.began < bound.oldest_proof || loaded_before
            }
            LookupOutcome::Missed(_) | LookupOutcome::Failed(..) => false,
        }
    }

    /// Whether an entry that another caller's lookup or load produced may answer this call.
    pub(super) fn suffices(&self, entry: &Entry<V>, bound: ReadBound) -> bool {
        let is_served_stale = || {
            let permitted = || self.inner.on_stale(&entry.deadlines(), true) != OnStale::Miss;
            bound.oldest_proof != STORE_ONLY && entry.value().is_some() && permitted()
        };
        if was_over(&entry.deadlines(), bound) {
            return is_served_stale();
        }
        let is_stale = || !entry.is_fresh(self.inner.clock.now());
        entry.proven_at() >= bound.oldest_proof
            || !enabled(Defence::InTime)
            || (is_stale() && is_served_stale())
    }

    /// The value that another caller of the flight has loaded since the lookup, or a stale entry that
    /// this load is about to replace. The error of another caller's loader does not answer this caller.
    fn loaded_meanwhile(&self, caller: &Caller<'_, K, V>, miss: &Miss<V>) -> Option<Cached<V>> {
        // A refresh enters the load stage, which counts it as coalesced.
        let ticket = caller.ticket.filter(|_| caller.intent != Intent::Refresh)?;
        match ticket.flight().load.result() {
            Some(Ok((entry, source))) if self.suffices(&entry, caller.bound) => {
                self.inner.tell(&Event::Coalesced);
                self.handle(entry, source, true)
            }
            _ => self.stale_meanwhile(caller, miss.stale.clone()),
        }
    }

    /// The stale entry of a flight that another caller began in order to replace it.
    fn stale_meanwhile(&self, caller: &Caller<'_, K, V>, stale: Option<StaleCopy<V>>) -> Option<Cached<V>> {
        let suffices = |entry: &Entry<V>| caller.joined() && self.suffices(entry, caller.bound);
        let StaleCopy { entry, from } = stale.filter(|stale| suffices(&stale.entry))?;
        // A `refresh` passes over fresh copies, too. Fresh copies may answer the callers that joined the
        // flight of a refresh.
        if entry.is_fresh(self.inner.clock.now()) {
            return self.handle(entry, from, true);
        }
        if self.inner.on_stale(&entry.deadlines(), true) == OnStale::Miss {
            return None;
        }
        self.inner.tell(&Event::StaleServed);
        self.handle(entry, from, true)
    }

    /// The stale entry that answers instead of an error, where the freshness policy permits it.
    pub(super) fn stale_or(&self, stale: Option<StaleCopy<V>>, error: Error) -> Answer<V> {
        match stale.filter(|stale| self.serves_on_error(&stale.entry)) {
            Some(StaleCopy { entry, from }) => {
                self.inner.tell(&Event::StaleServed);
                Ok(Cached::stale(entry, self.inner.clock.now(), from))
            }
            None => Err(error),
        }
    }

    /// Whether an entry may answer where its renewal has failed.
    pub(super) fn serves_on_error(&self, entry: &Entry<V>) -> bool {
        self.mode != ReadMode::StoreOnly && self.inner.serves_on_error(&entry.deadlines())
    }

    /// The stale value that answers at once, because the last try to renew it has failed and the next one
    /// is still to be waited for.
    fn stale_in_backoff(&self, stale: Option<&StaleCopy<V>>) -> Option<Cached<V>> {
        let stale = stale.filter(|stale| self.serves_on_error(&stale.entry))?;
        self.inner.tell(&Event::StaleServed);
        Cached::stale(Arc::clone(&stale.entry), self.inner.clock.now(), stale.from)
    }

    /// Reports an answer that is a stale copy. A value of the loader or a record of the store is new, even if
    /// the expiry policy gives it no life.
    pub(super) fn tell_stale(&self, entry: &Entry<V>, source: Source) {
        let is_copy = matches!(source, Source::Near | Source::Tier(_));
        if is_copy && entry.value().is_some() && !entry.is_fresh(self.inner.clock.now()) {
            self.inner.tell(&Event::StaleServed);
        }
    }

    /// Decides what to do with an entry of the near tier that is not a valid answer.
    pub(super) fn judge_near(&self, key: &impl Hash, near: NearMiss<V>, intent: Intent) -> StaleEntry<V> {
        let inner = &self.inner;
        if let Some(entry) = near.as_ref().filter(|entry| inner.is_renewing_hit(entry, self.proves(entry))) {
            inner.tell_near(&Event::Hit { tier: NEAR });
            if let Some(hit) = Cached::near(Arc::clone(entry), inner.clock.now()) {
                return StaleEntry::ServeAndRefresh(hit);
            }
        }
        if inner.near.is_enabled() {
            inner.tell_near(&Event::Miss { tier: NEAR });
        }
        let Some(entry) = near.filter(|entry| entry.value().is_some()) else { return StaleEntry::Keep(None) };
        let renewable = intent.loads() || self.chain.store.is_some() || inner.loader.is_some();
        let mut verdict = OnStale::Miss;
        // A fresh entry without a proof is served only where the farther tiers fail, if at all.
        if entry.is_fresh(inner.clock.now()) {
            inner.tell_near(&Event::Unproven { tier: NEAR });
        } else {
            verdict = inner.on_stale(&entry.deadlines(), renewable);
        }
        if verdict == OnStale::Miss {
            let stale = StaleCopy::of(entry, Source::Near);
            let is_pausing = renewable && inner.back_off.is_pausing(key);
            let hit = is_pausing.then(|| self.stale_in_backoff(stale.as_ref())).flatten();
            return hit.map_or(StaleEntry::Keep(stale), StaleEntry::Serve);
        }
        inner.tell(&Event::StaleServed);
        let Some(hit) = self.handle(entry, Source::Near, false) else { return StaleEntry::Keep(None) };
        match verdict {
            OnStale::ServeAndRefresh => StaleEntry::ServeAndRefresh(hit),
            _ => StaleEntry::Serve(hit),
        }
    }

    /// Whether a near entry is as new as this handle demands.
    fn proves(&self, entry: &Entry<V>) -> bool {
        let (now, coherence) = (self.inner.clock.now(), &self.inner.coherence);
        self.mode.accepts_near(entry, now, coherence) || coherence.proves(entry, now, self.max_staleness())
    }

    pub(super) fn is_to_be_refreshed(&self, entry: &Entry<V>) -> bool {
        let now = self.inner.clock.now();
        if entry.is_renewal_due(now) {
            return true;
        }
        let stale = !entry.is_fresh(now);
        stale && self.inner.on_stale(&entry.deadlines(), true) == OnStale::ServeAndRefresh
    }

    /// Whether an entry says that the store has no record. An entry for an absent record answers plain
    /// reads, but no caller with a loader.
    fn is_no_record(&self, entry: &Entry<V>) -> bool {
        entry.value().is_none() && self.chain.store.is_some() && enabled(Defence::NoRow)
    }

    /// The handle of an entry, or `None` for a negative entry.
    pub(super) fn handle(&self, entry: Arc<Entry<V>>, source: Source, coalesced: bool) -> Option<Cached<V>> {
        Cached::far(entry, self.inner.clock.now(), source, coalesced)
    }
}

/// Whether an entry's life had ended before the call. A flight stays in the table until its value is
/// kept, and the process may pause meanwhile. A value that was written after the call answers the call,
/// even if its life is short.
fn was_over(deadlines: &Deadlines, bound: ReadBound) -> bool {
    let ended = deadlines.fresh_until <= bound.called_at && deadlines.written < bound.called_at;
    ended && enabled(Defence::OverWhenAsked)
}
