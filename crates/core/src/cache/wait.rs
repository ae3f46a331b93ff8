//! Before a load: waiting for the one that another process runs.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};

use super::{
    held::Held,
    inner::Inner,
    load::LoadSeat,
    looked::{LookupOutcome, Missed},
    lookup::Seat,
    proof::{ANY, NONE},
};
use terrace_tier::lease::LeaseEnd;

use crate::{
    Coalesce, Entry, Event, Fence, LeaseWaiter, Near, Source, TierKey, Token,
    chain::Chain,
    defence::{Defence, enabled},
    flight::Intent,
};

/// Leases of others that a load meets one after another before it runs without one: where their
/// holders die, fail or give nothing to keep, the rest of the processes must not load in a row.
const TURNS: usize = 3;

/// What a key's load has waited for.
type Answer<V> = Option<(Arc<Entry<V>>, Source)>;

impl<K, V, N: Near<K, V>> Inner<K, V, N>
where
    K: Clone + Eq + std::hash::Hash + Send + Sync + 'static,
    V: Send + Sync + 'static,
{
    /// Waits where others load these keys. What is returned is to be loaded, under the leases that
    /// this process holds now; the callers of the rest were answered.
    ///
    /// The keys of a batch have one load: it waits only if others load all of them, so that no two
    /// batches wait for each other.
    pub(crate) async fn await_others(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        mut seats: Vec<LoadSeat<K, V>>,
        keys: &[TierKey],
    ) -> Vec<LoadSeat<K, V>> {
        if !seats.iter().any(|seat| self.leads(chain, seat)) {
            let waits = seats.iter_mut().zip(keys).map(|(seat, key)| self.await_other(chain, seat, key));
            let answers = futures_util::future::join_all(waits).await;
            if let Some(answers) = answers.into_iter().collect::<Option<Vec<_>>>() {
                for (seat, answer) in seats.into_iter().zip(answers) {
                    self.flights.land(seat.ticket.key(), seat.ticket.flight().id);
                    seat.lead.done(Ok(answer));
                }
                return Vec::new();
            }
        }
        for (seat, key) in seats.iter_mut().zip(keys) {
            seat.held = self.hold(chain, &seat.missed, key);
        }
        seats
    }

    /// Whether there is nobody to wait for. A flight that a refresh began replaces all copies: a copy
    /// that another process fills answers none of its callers, whichever of them leads the load.
    fn leads(&self, chain: &Chain, seat: &LoadSeat<K, V>) -> bool {
        let lease = lease_of(chain, &seat.missed);
        let replaces_all = match enabled(Defence::RefreshLoads) {
            true => seat.missed.anew,
            false => seat.ticket.errand() == Intent::Refresh,
        };
        replaces_all || lease.is_none_or(|lease| lease.is_of(&seat.missed))
    }

    fn hold(&self, chain: &Chain, missed: &Missed<V>, key: &TierKey) -> Option<Held> {
        let lease = lease_of(chain, missed).filter(|lease| lease.is_of(missed))?;
        Some(Held::new(lease.index, lease.waits.hold(key, lease.token)))
    }

    /// Waits for the key's holder, and for the one that takes its place. `None` says to load, by the
    /// fences that the seat has then.
    async fn await_other(
        self: &Arc<Self>,
        chain: &Arc<Chain>,
        seat: &mut LoadSeat<K, V>,
        key: &TierKey,
    ) -> Answer<V> {
        let until = Instant::now() + self.periods.load;
        let turns = if enabled(Defence::Turns) { TURNS } else { usize::MAX };
        for _ in 0..turns {
            let lease = lease_of(chain, &seat.missed).filter(|lease| !lease.is_of(&seat.missed))?;
            let (token, tier) = (lease.token, chain.tiers[lease.index].line.name);
            let ended = if token.is_of_loader() || !enabled(Defence::OfLoader) {
                if let Some(stale) = self.stale_instead(&seat.missed) {
                    return Some(stale);
                }
                let began = Instant::now();
                let until = if enabled(Defence::WaitEnds) { until } else { until + self.periods.load * 9 };
                let ended = timeout_at(until, lease.waits.wait(key, token)).await;
                self.tell(&Event::Waited { tier, elapsed: began.elapsed() });
                ended.ok()?.ok()?
            } else {
                // Whoever has it does not load.
                LeaseEnd::Free
            };
            let replaces = if ended == LeaseEnd::Free { token } else { Token::NONE };
            let id = seat.ticket.flight().id;
            let again = Seat { key: Arc::clone(seat.ticket.key()), id, replaces };
            let errand = seat.ticket.errand();
            let oldest = seat.missed.oldest;
            match Arc::clone(self).look_up(Arc::clone(chain), again, errand, oldest).await {
                LookupOutcome::Found(entry, source) if entry.value().is_some() || chain.store.is_none() => {
                    return Some((entry, source));
                }
                LookupOutcome::Missed(missed) => {
                    let stale = missed.stale.or(seat.missed.stale.take());
                    seat.missed = Missed { stale, ..missed };
                }
                // The load meets the same trouble, and tells it.
                _ => return None,
            }
        }
        None
    }

    /// The stale value for who would wait, where the policy gives it.
    fn stale_instead(&self, missed: &Missed<V>) -> Answer<V> {
        let stale = missed.stale.as_ref().filter(|_| self.policies.coalesce == Coalesce::LeaseOrStale)?;
        let now = self.clock.now();
        // A fresh one that is only not proven would not be told from an answer.
        let marked = match missed.oldest {
            ANY => true,
            NONE => false,
            _ => !stale.is_fresh(now),
        };
        let alive = stale.value().is_some() && marked && now < stale.deadlines().stale_until;
        alive.then(|| {
            self.tell(&Event::StaleServed);
            (Arc::clone(stale), Source::Near)
        })
    }
}

/// The lease by which processes wait for each other: that of the nearest tier that can.
struct Lease<'a> {
    index: usize,
    waits: &'a dyn LeaseWaiter,
    token: Token,
}

impl Lease<'_> {
    /// Whether it is this load's own, and others wait for it.
    fn is_of<V>(&self, missed: &Missed<V>) -> bool {
        self.token == missed.token && self.token.is_of_loader()
    }
}

fn lease_of<'a, V>(chain: &'a Chain, missed: &Missed<V>) -> Option<Lease<'a>> {
    chain.tiers.iter().enumerate().find_map(|(index, place)| {
        let Fence { token, .. } = missed.fences.get(index).filter(|fence| fence.token != Token::NONE)?;
        place.lease_waiter().map(|waits| Lease { index, waits, token })
    })
}
