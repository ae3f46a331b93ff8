//! What may be served for want of a better answer, and is marked so.

use std::{hash::Hash, sync::Arc};

use super::{
    Cache,
    inner::NEAR,
    looked::{CacheTicket, Seen},
    proof::ReadBound,
    reading::ReadMode,
};
use crate::{Cached, Entry, Error, Event, Near, OnStale, Result, Source};

/// What to do with a stale near entry.
pub(super) enum NearStale<V> {
    Serve(Cached<V>),
    Refresh(Cached<V>),
    /// Go on; keep it in case the renewal fails.
    Keep(Option<Arc<Entry<V>>>),
}

impl<K, V, N> Cache<K, V, N>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
    N: Near<K, V>,
{
    pub(super) fn is_to_be_refreshed(&self, entry: &Entry<V>) -> bool {
        let stale = !entry.is_fresh(self.inner.clock.now());
        stale && self.inner.on_stale(&entry.deadlines(), true) == OnStale::ServeAndRefresh
    }

    /// What another caller has loaded since the lookup, or has stale while it loads. Its loader's error
    /// is not a plain reader's.
    pub(super) fn loaded_meanwhile(
        &self,
        ticket: &CacheTicket<K, V>,
        stale: Option<Arc<Entry<V>>>,
        asked: ReadBound,
    ) -> Option<Cached<V>> {
        match ticket.flight().load.result() {
            Some(Ok((entry, source))) if self.suffices(&entry, asked) => self.handle(entry, source, true),
            _ => self.stale_meanwhile(ticket, stale, asked),
        }
    }

    /// The stale entry, for a reader that came upon its renewal by another and may have it so.
    fn stale_meanwhile(
        &self,
        ticket: &CacheTicket<K, V>,
        stale: Option<Arc<Entry<V>>>,
        asked: ReadBound,
    ) -> Option<Cached<V>> {
        let entry = stale.filter(|entry| ticket.joined() && self.suffices(entry, asked))?;
        // A refresh passes over fresh copies too; whoever joined it may have them.
        if entry.is_fresh(self.inner.clock.now()) {
            return self.handle(entry, Source::Near, true);
        }
        if self.inner.on_stale(&entry.deadlines(), true) == OnStale::Miss {
            return None;
        }
        self.inner.tell(&Event::StaleServed);
        self.handle(entry, Source::Near, true)
    }

    /// The stale entry instead of an error, where the freshness policy allows it.
    pub(super) fn stale_or(&self, stale: Option<Arc<Entry<V>>>, error: Error) -> Result<Option<Cached<V>>> {
        match stale {
            Some(entry)
                if self.reading != ReadMode::Truth && self.inner.serves_on_error(&entry.deadlines()) =>
            {
                self.inner.tell(&Event::StaleServed);
                Ok(Cached::stale(entry, self.inner.clock.now(), false))
            }
            _ => Err(error),
        }
    }

    /// What to do with what the near tier has of a key, which is nothing fresh.
    pub(super) fn near_stale(&self, seen: Seen<V>, renewable: bool) -> NearStale<V> {
        let inner = &self.inner;
        let Some(entry) = seen else {
            if inner.near.is_enabled() {
                inner.tell_near(&Event::Miss { tier: NEAR });
            }
            return NearStale::Keep(None);
        };
        inner.tell_near(&Event::Miss { tier: NEAR });
        if entry.value().is_none() {
            return NearStale::Keep(None);
        }
        // Fresh, but not proven: it serves where what is further down fails, if at all.
        if entry.is_fresh(inner.clock.now()) {
            inner.tell_near(&Event::Unproven { tier: NEAR });
            return NearStale::Keep(Some(entry));
        }
        let verdict = inner.on_stale(&entry.deadlines(), renewable || inner.loader.is_some());
        if verdict == OnStale::Miss {
            return NearStale::Keep(Some(entry));
        }
        inner.tell(&Event::StaleServed);
        let Some(hit) = self.handle(entry, Source::Near, false) else { return NearStale::Keep(None) };
        match verdict {
            OnStale::ServeAndRefresh => NearStale::Refresh(hit),
            _ => NearStale::Serve(hit),
        }
    }
}
